//! Fields of requests that say who the client is.

/// Set from the certificate that HNP itself has verified.
pub const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// Names, in lower case and with `-` for `_`, by which servers are told of a client's certificate: by proxies in front of them, so that what
/// a client sends under them is never true of HNP. A `*` stands for any rest.
///
/// | who reads or sends it | names |
/// |---|---|
/// | Envoy, Istio | `x-forwarded-client-cert` |
/// | RFC 9440 | `client-cert`, `client-cert-chain` |
/// | nginx and its ingress, Apache, Java servers | `ssl-*`, `x-ssl-*` |
/// | HAProxy, Spring and others | `x-client-cert*`, `x-client-verify`, `x-client-dn`, `x-client-subject*`, `x-client-cn`, `x-client-san*` |
/// | Traefik | `x-forwarded-tls-client-*` |
/// | Amazon's, Google's and Microsoft's balancers | `x-amzn-mtls-*`, `x-client-cert*`, `x-arr-clientcert` |
/// | others | `tls-client-*`, `x-tls-client-*`, `x-spiffe-*` |
pub const IDENTITY: &[&str] = &[
    CLIENT_CERTIFICATE,
    "client-cert",
    "client-cert-chain",
    "ssl-*",
    "tls-client-*",
    "x-amzn-mtls-*",
    "x-arr-clientcert",
    "x-client-cert*",
    "x-client-cn",
    "x-client-dn",
    "x-client-san*",
    "x-client-subject*",
    "x-client-verify",
    "x-forwarded-tls-client-*",
    "x-spiffe-*",
    "x-ssl-*",
    "x-tls-client-*",
];

/// Whether a field says who the client is by its certificate. See [`IDENTITY`].
#[must_use]
pub fn is_identity(name: &[u8]) -> bool {
    // Nearly every field is ruled out by its first letter.
    matches!(
        name.first(),
        Some(b'c' | b'C' | b's' | b'S' | b't' | b'T' | b'x' | b'X')
    ) && IDENTITY.iter().any(|pattern| matches(pattern, name))
}

/// Whether a field says how the client came here, as proxies on the way add it: `Forwarded` (RFC 7239), `X-Forwarded-*`, `X-Real-IP`.
#[must_use]
pub fn is_forwarded(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'f' | b'F' | b'x' | b'X'))
        && ["forwarded", "x-forwarded-*", "x-real-ip"]
            .iter()
            .any(|pattern| matches(pattern, name))
}

/// Servers that make variables of fields do not tell `-` from `_`, so neither does this.
fn matches(pattern: &str, name: &[u8]) -> bool {
    let (wanted, open) = match pattern.strip_suffix('*') {
        Some(start) => (start, true),
        None => (pattern, false),
    };
    let wanted = wanted.as_bytes();
    (name.len() == wanted.len() || open && name.len() > wanted.len())
        && wanted.iter().zip(name).all(|(wanted, byte)| {
            *wanted == byte.to_ascii_lowercase() || *wanted == b'-' && *byte == b'_'
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_known_in_every_spelling() {
        for name in [
            "X-Forwarded-Client-Cert",
            "x_forwarded_client_cert",
            "SSL-Client-Cert",
            "SSL_CLIENT_S_DN",
            "X-SSL-Client-Verify",
            "Client-Cert",
            "client_cert_chain",
            "X-Client-Cert",
            "X-Client-Cert-Chain",
            "X-Client-Certificate",
            "X-ARR-ClientCert",
            "X-Amzn-Mtls-Clientcert-Subject",
            "X-Forwarded-Tls-Client-Cert-Info",
        ] {
            assert!(is_identity(name.as_bytes()), "{name}");
        }
        for name in [
            "X-Request-Id",
            "Cookie",
            "Content-Type",
            "Client",
            "X-Client-Version",
            "Sec-Fetch-Site",
            "SSL",
            "X-Forwarded-For",
            "",
        ] {
            assert!(!is_identity(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_proxies_add() {
        for name in [
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded-Port",
            "X-Real-IP",
        ] {
            assert!(is_forwarded(name.as_bytes()), "{name}");
        }
        for name in ["Forward", "X-Forwarded", "X-Real", "From"] {
            assert!(!is_forwarded(name.as_bytes()), "{name}");
        }
    }
}
