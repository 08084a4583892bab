//! TLS errors in words that say what to do.

use rustls::{AlertDescription, CertificateError, Error};

/// What a client did wrong in its handshake with HNP.
#[must_use]
pub fn client(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "the client showed no certificate, and client-auth is strict".into()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the client's certificate is by none of the authorities in client-ca".into()
        }
        Error::InvalidCertificate(error) => {
            format!(
                "the client's certificate does not do: {}",
                certificate(error)
            )
        }
        Error::AlertReceived(alert) => format!(
            "the client refused with the alert {}: it may not trust HNP's certificate, or not under this name",
            alert_name(*alert)
        ),
        other => other.to_string(),
    }
}

/// What an upstream, or a parent proxy, did wrong in its handshake with HNP.
#[must_use]
pub fn upstream(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is by no authority that HNP knows: name the right one with `ca`".into()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => {
            let names = match presented.as_slice() {
                [] => "no name at all".to_owned(),
                names => names.join(", "),
            };
            format!(
                "its certificate is not for {} but for {names}: correct the url, or set `server-name`",
                expected.to_str()
            )
        }
        Error::InvalidCertificate(error) => {
            format!("its certificate does not do: {}", certificate(error))
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a client certificate: set `certificate` and `key`".into()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => format!(
            "it refused HNP's client certificate with the alert {}",
            alert_name(*alert)
        ),
        Error::AlertReceived(alert) => format!("it refused with the alert {}", alert_name(*alert)),
        other => other.to_string(),
    }
}

/// What is wrong with a certificate.
pub(super) fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "it is malformed".into(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "it, or an authority above it, expired {} ago",
            Elapsed(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "it, or an authority above it, becomes valid only in {}",
            Elapsed(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::Revoked => "it is revoked".into(),
        CertificateError::UnknownRevocationStatus => {
            "the revocation list of its authority is by a key that may not sign one".into()
        }
        CertificateError::ExpiredRevocationListContext { time, next_update } => format!(
            "the revocation list of its authority should have been replaced {} ago: put a new one in its place",
            Elapsed(time.as_secs().saturating_sub(next_update.as_secs()))
        ),
        CertificateError::UnhandledCriticalExtension => {
            "it has an extension that is critical and not supported".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "it is signed in a way that is not supported, like SHA-1".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage does not allow it".into()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => "it is an authority's own".into(),
            Some(webpki::Error::EndEntityUsedAsCa) => {
                "it is signed with a certificate that is no authority's".into()
            }
            Some(webpki::Error::NameConstraintViolation) => {
                "its authority may not issue certificates for its name".into()
            }
            _ => other.to_string(),
        },
        other => other.to_string(),
    }
}

fn alert_name(alert: AlertDescription) -> String {
    format!("{alert:?}")
}

/// Seconds as the largest unit that is there once.
struct Elapsed(u64);

impl std::fmt::Display for Elapsed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [
            (86_400, "day"),
            (3600, "hour"),
            (60, "minute"),
            (1, "second"),
        ];
        let (unit, name) = units
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit)
            .unwrap_or((1, "second"));
        let count = self.0 / unit;
        write!(out, "{count} {name}{}", if count == 1 { "" } else { "s" })
    }
}
