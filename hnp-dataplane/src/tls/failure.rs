//! Handshakes in a word, for logs and metrics: few words, the same for clients and for upstreams.

use rustls::{AlertDescription, CertificateError, Error, ProtocolVersion};

use super::{HandshakeError, Session};

impl HandshakeError {
    /// Metric label: snake case, few. `docs/observability.md` explains them.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            HandshakeError::Tls(error) => of_tls(error),
            HandshakeError::UnknownName(_) => "unknown_name",
            HandshakeError::Io(_) | HandshakeError::Closed => "closed",
        }
    }
}

impl Session {
    /// Metric label: `1.2` or `1.3`.
    #[must_use]
    pub fn version_name(&self) -> &'static str {
        match self.version {
            ProtocolVersion::TLSv1_3 => "1.3",
            _ => "1.2",
        }
    }
}

/// What tells a client that its certificate does not do: the alert that a handshake would have ended with.
#[must_use]
pub fn alert(error: &Error) -> AlertDescription {
    match error {
        Error::InvalidCertificate(error) => error.clone().into(),
        _ => AlertDescription::HandshakeFailure,
    }
}

fn of_tls(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(error) => of_certificate(error),
        // TLS 1.3 has an alert of its own for a client without a certificate (RFC 8446, section 6.2).
        Error::AlertReceived(AlertDescription::CertificateRequired) => "no_certificate",
        Error::AlertReceived(_) => "refused",
        _ => "protocol",
    }
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not_yet_valid"
        }
        CertificateError::Revoked
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "revoked",
        CertificateError::UnknownIssuer => "unknown_ca",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "wrong_name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "wrong_purpose"
        }
        _ => "bad_certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_word() {
        let certificate = |error| HandshakeError::Tls(Error::InvalidCertificate(error));
        for (error, code) in [
            (
                HandshakeError::Tls(Error::NoCertificatesPresented),
                "no_certificate",
            ),
            (certificate(CertificateError::Expired), "expired"),
            (certificate(CertificateError::NotValidYet), "not_yet_valid"),
            (certificate(CertificateError::Revoked), "revoked"),
            (certificate(CertificateError::UnknownIssuer), "unknown_ca"),
            (
                certificate(CertificateError::BadEncoding),
                "bad_certificate",
            ),
            (certificate(CertificateError::NotValidForName), "wrong_name"),
            (
                HandshakeError::Tls(Error::AlertReceived(AlertDescription::BadCertificate)),
                "refused",
            ),
            (HandshakeError::Tls(Error::DecryptError), "protocol"),
            (HandshakeError::UnknownName(None), "unknown_name"),
            (HandshakeError::Closed, "closed"),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
