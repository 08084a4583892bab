//! Verification of the certificates that clients show.

pub(crate) mod authority;
mod der;
pub mod explain;
pub(crate) mod revocation;
mod signature;
pub(crate) mod span;
mod v1;
pub(crate) mod verdict;
mod verified;

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::authority::Authorities;
use self::revocation::Revocation;
use self::span::Span;
use self::v1::{V1, is_v1};
use self::verified::{Memory, Verified};
use super::identity::Identity;
use super::provider;

/// Verifies clients' certificates against one endpoint's authorities and revocation lists: X.509 v3 by webpki, X.509 v1 by `v1`. A
/// certificate that is shown has to verify, whether or not one has to be shown.
#[derive(Debug)]
pub struct ClientVerifier {
    authorities: Authorities,
    revocation: Revocation,
    hints: Vec<DistinguishedName>,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
    memory: Memory,
}

impl ClientVerifier {
    pub(crate) fn new(authorities: Authorities, revocation: Revocation, mandatory: bool) -> Self {
        Self {
            hints: authorities.hints(),
            authorities,
            revocation,
            mandatory,
            algorithms: provider().signature_verification_algorithms,
            memory: Memory::default(),
        }
    }

    /// Verifies a chain, the client's own certificate first, as of `now`, and says whose it is. Not checked here is whether the client
    /// has the key: that shows in the handshake.
    ///
    /// # Errors
    /// What the certificate lacks, with the alert that goes with it.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Identity>, Error> {
        let digest = Memory::digest(leaf, intermediates);
        if let Some(verified) = self.memory.find(&digest)
            && verified.span.check(now).is_ok()
        {
            return Ok(Arc::clone(&verified.identity));
        }
        let span = self
            .span(leaf, intermediates, now)
            .map_err(|error| Error::InvalidCertificate(certificate_error(error)))?;
        let identity = Identity::of(leaf).ok_or(CertificateError::BadEncoding)?;
        let identity = Arc::new(identity);
        self.memory.insert(
            digest,
            Verified {
                span,
                identity: Arc::clone(&identity),
            },
        );
        Ok(identity)
    }

    /// For how long a chain is good.
    fn span(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Span, webpki::Error> {
        if is_v1(leaf) {
            return V1::read(leaf)?.verify(
                &self.authorities,
                &self.revocation,
                now,
                &self.algorithms,
            );
        }
        let certificate = EndEntityCert::try_from(leaf)?;
        let path = certificate
            .verify_for_usage(
                self.algorithms.all,
                self.authorities.anchors(),
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                Some(&|path: &VerifiedPath<'_>| self.check_path(path, now).map(|_| ())),
            )
            .map_err(|error| match error {
                // Of what was shown above the certificate: a v1 certificate is never an authority's.
                webpki::Error::UnsupportedCertVersion => webpki::Error::UnknownIssuer,
                other => other,
            })?;
        self.check_path(&path, now)
    }

    /// What webpki leaves to others: the authority's own dates, and revocation.
    fn check_path(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<Span, webpki::Error> {
        let authority = self
            .authorities
            .of(path.anchor())
            .ok_or(webpki::Error::UnknownIssuer)?;
        let mut span = authority.span(now);
        span.check(now)?;
        let mut issuer = authority.key();
        let mut signs_lists = true;
        // From the authority down.
        let intermediates = path.intermediate_certificates().rev();
        let leaf: &webpki::Cert<'_> = path.end_entity();
        for certificate in intermediates.chain(std::iter::once(leaf)) {
            let own = Span::of(&certificate.der()).ok_or(webpki::Error::BadDer)?;
            span = span.and(own);
            if self.revocation.concerns(certificate.issuer()) {
                if !signs_lists {
                    return Err(webpki::Error::IssuerNotCrlSigner);
                }
                let known = self.revocation.check(
                    certificate.issuer(),
                    &issuer,
                    certificate.serial(),
                    now,
                    &self.algorithms,
                )?;
                span = span.and(known);
            }
            issuer = certificate.subject_public_key_info();
            signs_lists = may_sign_lists(&certificate.der());
        }
        Ok(span)
    }
}

fn may_sign_lists(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let usage = certificate.key_usage();
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_v1(certificate) {
            V1::read(certificate)
                .map_err(certificate_error)?
                .verify_tls12(message, signed, &self.algorithms)?;
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_v1(certificate) {
            V1::read(certificate)
                .map_err(certificate_error)?
                .verify_tls13(message, signed, &self.algorithms)?;
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// In the words of rustls, which sends the alert that goes with them (RFC 8446, section 6.2).
fn certificate_error(error: webpki::Error) -> CertificateError {
    use webpki::Error as Webpki;
    match error {
        Webpki::BadDer
        | Webpki::BadDerTime
        | Webpki::TrailingData(_)
        | Webpki::MalformedExtensions
        | Webpki::ExtensionValueInvalid
        | Webpki::InvalidCertValidity
        | Webpki::InvalidSerialNumber
        | Webpki::SignatureAlgorithmMismatch
        | Webpki::UnsupportedCertVersion => CertificateError::BadEncoding,
        Webpki::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        Webpki::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Webpki::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        // A signature by another key than that of the authority's name is the work of another authority with the same name, as all have
        // that were made with the same commands.
        Webpki::UnknownIssuer
        | Webpki::InvalidSignatureForPublicKey
        | Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateError::UnknownIssuer
        }
        Webpki::CertRevoked => CertificateError::Revoked,
        Webpki::UnknownRevocationStatus | Webpki::IssuerNotCrlSigner => {
            CertificateError::UnknownRevocationStatus
        }
        Webpki::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        Webpki::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        Webpki::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}
