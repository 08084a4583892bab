//! The parts of the configuration that are about TLS, and about what is served over it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS on the listener. Absent: plaintext only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenerTls {
    /// PEM file with the certificate and its intermediates, or a directory that holds `tls.crt` and `tls.key` (and `ca.crt`),
    /// or `client.crt` and `client.key`.
    pub certificate: PathBuf,
    /// PEM file with the certificate's key. Absent only where `certificate` is a directory.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// What is asked of clients.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// PEM bundles of the authorities that clients' certificates are verified against. Empty: the directory's `ca.crt`.
    #[serde(default, with = "crate::config::units::one_or_many")]
    pub client_ca: Vec<PathBuf>,
    /// PEM files of revocation lists.
    #[serde(default, with = "crate::config::units::one_or_many")]
    pub crl: Vec<PathBuf>,
    /// Least version.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A dedicated mTLS endpoint of the manager's side, chosen by the server name that the client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EndpointConfig {
    /// The DNS name, in lower case.
    pub server_name: String,
    /// As [`ListenerTls::certificate`].
    pub certificate: PathBuf,
    /// As [`ListenerTls::key`].
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// What is asked of clients.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// As [`ListenerTls::client_ca`], for this endpoint alone.
    #[serde(default, with = "crate::config::units::one_or_many")]
    pub client_ca: Vec<PathBuf>,
    /// PEM files of revocation lists.
    #[serde(default, with = "crate::config::units::one_or_many")]
    pub crl: Vec<PathBuf>,
    /// Least version.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// What paths of requests start with; taken off on the way. `/` or without a slash at its end.
    pub prefix: String,
    /// `http://` or `https://`, host, optional port and path.
    pub upstream: url::Url,
    /// As [`Upstream::ca`](super::Upstream::ca).
    #[serde(default, with = "crate::config::units::one_or_many")]
    pub upstream_ca: Vec<PathBuf>,
    /// As [`Upstream::certificate`](super::Upstream::certificate).
    #[serde(default)]
    pub upstream_certificate: Option<PathBuf>,
    /// As [`Upstream::key`](super::Upstream::key).
    #[serde(default)]
    pub upstream_key: Option<PathBuf>,
    /// As [`Upstream::server_name`](super::Upstream::server_name).
    #[serde(default)]
    pub upstream_server_name: Option<String>,
    /// As [`Upstream::protocol`](super::Upstream::protocol).
    #[serde(default)]
    pub upstream_protocol: HttpProtocol,
}

impl EndpointConfig {
    /// Its TLS settings in the listener's type: what compiles the one compiles the other.
    #[must_use]
    pub fn tls(&self) -> ListenerTls {
        ListenerTls {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_auth: self.client_auth,
            client_ca: self.client_ca.clone(),
            crl: self.crl.clone(),
            min_version: self.min_version,
        }
    }

    /// Its upstream in the type of the manager's.
    #[must_use]
    pub fn as_upstream(&self) -> super::Upstream {
        super::Upstream {
            url: self.upstream.clone(),
            ca: self.upstream_ca.clone(),
            certificate: self.upstream_certificate.clone(),
            key: self.upstream_key.clone(),
            server_name: self.upstream_server_name.clone(),
            min_version: TlsVersion::default(),
            protocol: self.upstream_protocol,
            parent: None,
        }
    }
}

/// How origin-form requests reach the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ReverseProxy {
    /// Only requests beneath it are served, and it is taken off on the way. Without a slash at its end. Absent: everything.
    pub prefix: Option<String>,
    /// Whether `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` are set; those of clients are replaced.
    pub forwarded_headers: bool,
    /// Whether `x-forwarded-client-cert` is set from the verified certificate. A client's own is removed in any case.
    pub client_certificate_header: bool,
}

impl Default for ReverseProxy {
    fn default() -> Self {
        ReverseProxy {
            prefix: None,
            forwarded_headers: true,
            client_certificate_header: false,
        }
    }
}

/// What is asked of clients that speak TLS. A certificate that is shown and does not verify is refused in `Loose` and
/// `Strict` alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    Off,
    /// Clients with and without a certificate are served.
    Loose,
    /// A client without a certificate is refused.
    Strict,
}

impl ClientAuth {
    /// Whether clients are asked for a certificate.
    #[must_use]
    pub fn asks(self) -> bool {
        self != ClientAuth::Off
    }

    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ClientAuth::Off => "off",
            ClientAuth::Loose => "loose",
            ClientAuth::Strict => "strict",
        }
    }
}

/// A version of TLS.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpProtocol {
    /// Over TLS what ALPN says; HTTP/1.1 in plaintext.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in plaintext with prior knowledge.
    H2,
}
