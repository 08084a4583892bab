//! X.509 v1 certificates of clients, which webpki does not read. They have no extensions: no names beside the subject, no purposes, no
//! sign of being a CA's. Everything that such a certificate does say is checked (RFC 5280, section 6.1.3): by whom and with what key it
//! is signed, from when to when it is valid, whether it is revoked.

use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use webpki::RawPublicKeyEntity;

use super::Span;
use super::authority::Authorities;
use super::der::{INTEGER, Reader, SEQUENCE};
use super::revocation::Revocation;
use super::signature;

/// A v1 certificate, apart. Names and identifiers are without tag and length of their sequence, as webpki has them.
#[derive(Debug)]
pub(super) struct V1<'a> {
    /// What is signed.
    signed: &'a [u8],
    serial: &'a [u8],
    algorithm: &'a [u8],
    issuer: &'a [u8],
    span: Span,
    key: SubjectPublicKeyInfoDer<'a>,
    signature: &'a [u8],
}

/// Whether a certificate leaves out its version, as v1 does.
pub(super) fn is_v1(certificate: &[u8]) -> bool {
    let tag = || {
        let mut outer = Reader::new(certificate).sequence()?;
        outer.sequence()?.peek()
    };
    tag() == Some(INTEGER)
}

impl<'a> V1<'a> {
    /// # Errors
    /// It is malformed.
    pub(super) fn read(certificate: &'a [u8]) -> Result<Self, webpki::Error> {
        Self::parts(certificate).ok_or(webpki::Error::BadDer)
    }

    fn parts(certificate: &'a [u8]) -> Option<Self> {
        let mut all = Reader::new(certificate);
        let mut outer = all.sequence()?;
        all.end()?;
        let signed = outer.expect(SEQUENCE)?;
        let algorithm = outer.expect(SEQUENCE)?.contents;
        let signature = outer.bits()?;
        outer.end()?;

        let mut inner = Reader::new(signed.contents);
        let serial = inner.expect(INTEGER)?.contents;
        // Section 4.1.2.3: the same one again, under the signature.
        if inner.expect(SEQUENCE)?.contents != algorithm {
            return None;
        }
        let issuer = inner.expect(SEQUENCE)?.contents;
        let span = Span::read(&mut inner)?;
        let _subject = inner.expect(SEQUENCE)?;
        let key = inner.expect(SEQUENCE)?;
        // Not even the unique identifiers of v2.
        inner.end()?;
        (!serial.is_empty()).then_some(Self {
            signed: signed.whole,
            serial,
            algorithm,
            issuer,
            span,
            key: SubjectPublicKeyInfoDer::from(key.whole),
            signature,
        })
    }

    /// All checks but that of the handshake's signature. The issuer has to be one of the authorities itself, not an intermediate of
    /// theirs. Gives how long the answer holds.
    pub(super) fn verify(
        &self,
        authorities: &Authorities,
        revocation: &Revocation,
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Span, webpki::Error> {
        self.span.check(now)?;
        let mut outcome = webpki::Error::UnknownIssuer;
        for authority in authorities.named(self.issuer) {
            let key = authority.key();
            let checked = signature::verify(
                &key,
                self.algorithm,
                self.signed,
                self.signature,
                algorithms.all,
            )
            .and_then(|()| match authority.restricts_names() {
                // It may issue under certain names only, and v1 has no field for most of them.
                true => Err(webpki::Error::NameConstraintViolation),
                false => authority.span(now).check(now),
            })
            .and_then(|()| revocation.check(self.issuer, &key, self.serial, now, algorithms));
            match checked {
                Ok(known) => return Ok(self.span.and(authority.span(now)).and(known)),
                // Of the same name, but another one, which says nothing against the certificate.
                Err(webpki::Error::InvalidSignatureForPublicKey) => {}
                Err(error) => outcome = error,
            }
        }
        Err(outcome)
    }

    /// The signature of a TLS 1.3 handshake (RFC 8446, section 4.4.3).
    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        verify_tls13_signature_with_raw_key(message, &self.key, signed, algorithms).map(|_| ())
    }

    /// The signature of a TLS 1.2 handshake (RFC 5246, section 7.4.8). There a scheme does not name the curve: each that it may mean is
    /// tried, until one is the key's.
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let mut mapping = algorithms.mapping.iter();
        let (_, candidates) = mapping
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let key = RawPublicKeyEntity::try_from(&self.key)
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let signature = signed.signature();
        let mut results = candidates
            .iter()
            .map(|one| key.verify_signature(*one, message, signature));
        match results.find(fits_key) {
            Some(Ok(())) => Ok(()),
            _ => Err(CertificateError::BadSignature.into()),
        }
    }
}

/// Whether an algorithm was one for the key at all.
fn fits_key(result: &Result<(), webpki::Error>) -> bool {
    !matches!(
        result,
        Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_))
    )
}
