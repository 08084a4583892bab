//! `hnp certs inspect` says of certificates what becomes of them in handshakes.

use std::sync::Arc;

use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, IsCa};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::clients::{config, listener};
use super::handshake::{TLS12, TLS13, client, run, with};
use super::pki::{Authority, Leaf, Pki, Shown};
use crate::certs::facts::Facts;
use crate::config::model::ClientAuth;
use crate::tls::{Server, provider};

fn facts(shown: &Shown) -> Facts {
    let der = shown.ders().remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    Facts::of(&certificate, OffsetDateTime::now_utc())
}

/// Leaves with something about them, all by one authority.
fn leaves(authority: &Authority) -> Vec<(&'static str, Shown)> {
    let purposes = |purposes: &[ExtendedKeyUsagePurpose]| {
        let purposes = purposes.to_vec();
        let leaf = Leaf::server("hnp.test");
        authority.issue(&leaf.change(|params| params.extended_key_usages = purposes))
    };
    let critical = |oid: &[u64]| {
        let mut extension = CustomExtension::from_oid_content(oid, vec![5, 0]);
        extension.set_criticality(true);
        let leaf = Leaf::server("hnp.test");
        authority.issue(&leaf.change(|params| {
            params.extended_key_usages = Vec::new();
            params.custom_extensions = vec![extension];
        }))
    };
    let with = |change: fn(&mut rcgen::CertificateParams)| {
        let leaf = Leaf::server("hnp.test").change(|params| params.extended_key_usages.clear());
        authority.issue(&leaf.change(change))
    };
    use ExtendedKeyUsagePurpose as Purpose;
    let key = |algorithm| {
        let leaf = Leaf::server("hnp.test").change(|params| params.extended_key_usages.clear());
        authority.issue(&leaf.key(algorithm))
    };
    let dated = |from, until| {
        let leaf = Leaf::server("hnp.test").change(|params| params.extended_key_usages.clear());
        authority.issue(&leaf.days(from, until))
    };
    vec![
        ("any purpose", purposes(&[])),
        ("for clients", purposes(&[Purpose::ClientAuth])),
        ("for servers", purposes(&[Purpose::ServerAuth])),
        (
            "for both",
            purposes(&[Purpose::ServerAuth, Purpose::ClientAuth]),
        ),
        ("for code", purposes(&[Purpose::CodeSigning])),
        ("any, written down", purposes(&[Purpose::Any])),
        ("critical and unknown", critical(&[1, 2, 3, 4])),
        ("not a CA", with(|params| params.is_ca = IsCa::ExplicitNoCa)),
        (
            "a CA",
            with(|params| {
                params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }),
        ),
        ("no names", with(|params| params.subject_alt_names.clear())),
        ("expired", dated(-10, -1)),
        ("not yet valid", dated(1, 10)),
        ("P-384", key(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("P-521", key(&rcgen::PKCS_ECDSA_P521_SHA512)),
        ("Ed25519", key(&rcgen::PKCS_ED25519)),
    ]
}

#[test]
fn of_clients() {
    let pki = Pki::new();
    let authority = Authority::new();
    authority.server("hnp.test").write(&pki, "server.pem");
    let mut all = leaves(&authority);
    all.push(("v1", pki.guide("guide")));
    all.push(("v1 expired", pki.v1("guide", "old", "rsa:2048", "-days -1")));
    all.push((
        "v1 with SHA-1",
        pki.v1("guide", "weak", "rsa:2048", "-sha1"),
    ));
    all.push(("v1 with MD5", pki.v1("guide", "weaker", "rsa:2048", "-md5")));
    all.push(("the guide's CA", pki.shown("guide", "ca")));
    pki.write(
        "clients.crt",
        &format!("{}{}", authority.pem, pki.read("guide/ca.crt")),
    );
    let mut tls = listener(&pki, ClientAuth::Strict);
    tls.crl.clear();
    let server = Server::compile(&config(tls), None).unwrap().unwrap();
    let mut verdicts = [0, 0];
    for (what, shown) in &all {
        let role = facts(shown).roles.client_certificate;
        for version in [TLS12, TLS13] {
            let client = client(&authority.pem, Some(shown), version);
            let outcome = with(&client, "hnp.test", &server);
            assert_eq!(
                outcome.server.is_ok(),
                role.accepted,
                "{what}: {}, but {outcome:?}",
                role.reason
            );
        }
        verdicts[usize::from(role.accepted)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count >= 5), "{verdicts:?}");
}

#[test]
fn of_servers() {
    let authority = Authority::new();
    let client = client(&authority.pem, None, TLS13);
    for (what, shown) in &leaves(&authority) {
        let role = facts(shown).roles.server_certificate;
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let pair = CertifiedKey::new(shown.ders(), key);
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        let outcome = run(&client, "hnp.test", &Arc::new(server));
        assert_eq!(
            outcome.client.is_ok(),
            role.accepted,
            "{what}: {}, but {outcome:?}",
            role.reason
        );
    }
}

#[test]
fn of_authorities() {
    let pki = Pki::new();
    pki.guide("guide");
    let expired = Authority::with("Expired", |params| {
        params.not_after = OffsetDateTime::now_utc() - time::Duration::days(1);
    });
    let no_issuer = Authority::with("No issuer", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    });
    let leaf = Authority::with("Leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
    let good = Authority::new();
    for (what, authority) in [
        ("good", &good),
        ("expired", &expired),
        ("may not issue", &no_issuer),
        ("no CA", &leaf),
        ("v1", &Authority::of(&pki.shown("guide", "client"))),
    ] {
        let shown = Shown {
            chain: authority.pem.clone(),
            key: String::new(),
        };
        let role = facts(&shown).roles.ca;
        good.server("hnp.test").write(&pki, "server.pem");
        pki.write("clients.crt", &authority.pem);
        let mut tls = listener(&pki, ClientAuth::Strict);
        tls.crl.clear();
        let accepted = Server::compile(&config(tls), None).is_ok_and(|server| {
            let server = server.unwrap();
            let client = client(&good.pem, Some(&authority.client("pod")), TLS13);
            with(&client, "hnp.test", &server).server.is_ok()
        });
        assert_eq!(accepted, role.accepted, "{what}: {}", role.reason);
    }
}
