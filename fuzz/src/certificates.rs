//! What must hold of certificates, revocation lists and PEM texts, whatever bytes come. Each function panics where it does not.

use std::sync::LazyLock;
use std::time::Duration;

use hnp_dataplane::tls::material::{client_verifier, pair};
use hnp_dataplane::tls::verify::ClientVerifier;
use hnp_dataplane::tls::{Identity, verify::explain};
use pem::Pem;
use rustls::pki_types::{CertificateDer, UnixTime};

/// Made with OpenSSL: an authority, what it issued as X.509 v1 and v3, another v1 certificate that it revoked, and its list, as v1 and v2.
const AUTHORITY: &[u8] = include_bytes!("../fixtures/ca.der");
const V1: &[u8] = include_bytes!("../fixtures/v1.der");
const V3: &[u8] = include_bytes!("../fixtures/v3.der");
const REVOKED: &[u8] = include_bytes!("../fixtures/gone.der");
const V1_LIST: &[u8] = include_bytes!("../fixtures/v1.crl.der");
const V2_LIST: &[u8] = include_bytes!("../fixtures/v2.crl.der");

/// 2026-11-24, when all of them were valid.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_795_521_600))
}

fn verifier(list: &[u8]) -> Option<ClientVerifier> {
    let list = pem::encode(&Pem::new("X509 CRL", list));
    let authority = pem::encode(&Pem::new("CERTIFICATE", AUTHORITY));
    client_verifier(authority.as_bytes(), list.as_bytes(), true).ok()
}

fn verifies(verifier: &ClientVerifier, certificate: &[u8]) -> bool {
    let certificate = CertificateDer::from(certificate);
    let result = verifier.verify(&certificate, &[], now());
    if let Err(error) = &result {
        assert!(!explain::client(error).is_empty());
    }
    result.is_ok()
}

/// The first byte says what the others are.
pub fn any(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 6 {
        0 => text(rest),
        1 => leaf(rest),
        2 => edited_leaf(V1, rest),
        3 => edited_leaf(V3, rest),
        4 => edited_list(V1_LIST, rest),
        _ => edited_list(V2_LIST, rest),
    }
}

/// A text as every file that the configuration can name.
fn text(text: &[u8]) {
    if let Ok(pair) = pair(text) {
        assert!(!pair.cert.is_empty());
    }
    let _ = client_verifier(text, &[], true);
    let authority = pem::encode(&Pem::new("CERTIFICATE", AUTHORITY));
    let _ = client_verifier(authority.as_bytes(), text, false);
}

/// Bytes as the certificate that a client shows. Nobody but the authority can make one that verifies.
fn leaf(bytes: &[u8]) {
    static VERIFIER: LazyLock<ClientVerifier> =
        LazyLock::new(|| verifier(V1_LIST).expect("the fixtures load"));
    identity(bytes);
    let ours = bytes == V1 || bytes == V3;
    assert_eq!(verifies(&VERIFIER, bytes), ours);
    assert!(!verifies(&VERIFIER, REVOKED));
}

fn edited_leaf(original: &[u8], edits: &[u8]) {
    leaf(&edited(original, edits));
}

/// A list that is not the authority's own never counts as such; one that counts revokes.
fn edited_list(original: &[u8], edits: &[u8]) {
    let list = edited(original, edits);
    let Some(verifier) = verifier(&list) else {
        assert!(list != original);
        return;
    };
    assert!(verifies(&verifier, V1) && verifies(&verifier, V3));
    assert_eq!(verifies(&verifier, REVOKED), list != original);
}

/// Three bytes an edit: two for the place, one that is xor-ed into the byte there.
fn edited(original: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[place] ^= edit[2];
    }
    bytes
}

/// Names go to log lines and headers.
fn identity(bytes: &[u8]) {
    let Some(identity) = Identity::of(bytes) else {
        return;
    };
    let name = identity.name();
    assert!(!name.is_empty() && !name.contains(char::is_control));
    let header = identity.xfcc();
    assert!(
        header.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{header}"
    );
    assert!(!header.contains("\\\""), "{header}");
    assert_eq!(header.matches('"').count() % 2, 0, "{header}");
    // Outside of quotes there is what this code put there.
    let keys = header
        .split('"')
        .step_by(2)
        .flat_map(|part| part.split(';'));
    for key in keys.filter(|key| !key.is_empty()) {
        let known = ["Hash=", "Subject=", "URI=", "DNS="];
        assert!(known.iter().any(|one| key.starts_with(one)), "{header}");
    }
}
