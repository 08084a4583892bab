//! Client certificates as OpenSSL judges them: issuer, signature, dates and revocation, X.509 v1 included. Written for the tests,
//! independent of what HNP does, and only for certificates that the authority itself signed.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::pki::Authority;

#[derive(Debug)]
pub(super) struct Verifier {
    authorities: Vec<CertificateDer<'static>>,
    hints: Vec<DistinguishedName>,
    revoked: Vec<Vec<u8>>,
    strict: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(authorities: &[&Authority], crl: Option<&str>, strict: bool) -> Verifier {
        let authorities: Vec<_> = authorities.iter().map(|it| it.der().clone()).collect();
        let hints = authorities
            .iter()
            .map(|der| {
                let subject = x509(der).unwrap().tbs_certificate.subject.as_raw().to_vec();
                DistinguishedName::from(subject)
            })
            .collect();
        Verifier {
            authorities,
            hints,
            revoked: crl.map(serials).unwrap_or_default(),
            strict,
            algorithms: default_provider().signature_verification_algorithms,
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = x509(certificate)?;
        let key = &certificate.public_key().subject_public_key.data;
        let (_, algorithms) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        algorithms
            .iter()
            .find_map(|it| it.verify_signature(key, message, signed.signature()).ok())
            .map(|()| HandshakeSignatureValid::assertion())
            .ok_or_else(|| CertificateError::BadSignature.into())
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.strict
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = x509(shown)?;
        let signed = self.authorities.iter().any(|authority| {
            let authority = x509(authority).unwrap();
            authority.subject().as_raw() == certificate.issuer().as_raw()
                && certificate
                    .verify_signature(Some(authority.public_key()))
                    .is_ok()
        });
        if !signed {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let now = i64::try_from(now.as_secs()).unwrap();
        let validity = certificate.validity();
        if now < validity.not_before.timestamp() || validity.not_after.timestamp() < now {
            return Err(CertificateError::Expired.into());
        }
        if self.revoked.iter().any(|it| it == certificate.raw_serial()) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn x509<'d>(der: &'d CertificateDer<'_>) -> Result<X509Certificate<'d>, Error> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| CertificateError::BadEncoding.into())
}

fn serials(crl: &str) -> Vec<Vec<u8>> {
    let der = CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    list.iter_revoked_certificates()
        .map(|it| it.raw_serial().to_vec())
        .collect()
}

/// One certificate, whatever name was asked for.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
