//! What becomes of a certificate, as far as it does not hang on who issued it: for `hnp certs`, by the code that judges connections.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::authority::Authorities;
use super::der::{Reader, SEQUENCE};
use super::revocation::Revocation;
use super::v1::is_v1;
use super::{ClientVerifier, certificate_error, explain, span};
use crate::tls::provider;

/// As a client's certificate.
///
/// # Errors
/// Why it is refused, whoever issued it.
pub(crate) fn client(certificate: &[u8], now: i64) -> Result<(), String> {
    signature(certificate)?;
    let none = ClientVerifier::new(Authorities::default(), Revocation::default(), true);
    let certificate = CertificateDer::from(certificate);
    let result = none.span(&certificate, &[], span::unix(now));
    but_for_its_issuer(result.map(|_| ()))
}

/// As a server's certificate.
///
/// # Errors
/// Why clients refuse it, whoever issued it and whatever name they ask for.
pub(crate) fn server(certificate: &[u8], now: i64) -> Result<(), String> {
    if is_v1(certificate) {
        return Err("X.509 v1 has no subject alternative name, so clients refuse it".into());
    }
    signature(certificate)?;
    but_for_its_issuer(verify_server(certificate, span::unix(now)))
}

fn verify_server(certificate: &[u8], now: UnixTime) -> Result<(), webpki::Error> {
    let algorithms = provider().signature_verification_algorithms.all;
    let certificate = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&certificate)?;
    let usage = KeyUsage::server_auth();
    certificate
        .verify_for_usage(algorithms, &[], &[], now, usage, None, None)
        .map(|_| ())
}

/// The issuer is looked for last: not to have found it, among none, means that nothing else was wrong.
fn but_for_its_issuer(result: Result<(), webpki::Error>) -> Result<(), String> {
    match result {
        Ok(()) | Err(webpki::Error::UnknownIssuer) => Ok(()),
        Err(error) => Err(explain::certificate(&certificate_error(error))),
    }
}

/// The signature itself can be checked only with the issuer's key, its kind without.
fn signature(certificate: &[u8]) -> Result<(), String> {
    let algorithm = || {
        let mut outer = Reader::new(certificate).sequence()?;
        outer.expect(SEQUENCE)?;
        Some(outer.expect(SEQUENCE)?.contents)
    };
    let algorithm = algorithm().ok_or("it is malformed")?;
    let supported = provider().signature_verification_algorithms.all;
    let known = supported
        .iter()
        .any(|one| one.signature_alg_id().as_ref() == algorithm);
    match known {
        true => Ok(()),
        false => Err("it is signed in a way that is not supported, like SHA-1".into()),
    }
}
