//! Where a reverse proxy sends what it serves: the upstream, and what is served from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use url::Url;

use crate::config::model::HttpProtocol;
use crate::target::{Target, TargetError};
use crate::tls::client::Client;

/// An upstream that requests are sent to: everything that tells one connection to it from another's. Made once for a configuration;
/// where nothing of it has changed, a reload keeps it ([`Origin::kept`]), and with it the connections that idle in the workers' pools.
#[derive(Debug)]
pub struct Origin {
    id: u64,
    /// Host and port.
    pub target: Target,
    /// How TLS is made; absent: plaintext.
    pub tls: Option<Arc<Client>>,
    /// Which HTTP is spoken.
    pub protocol: HttpProtocol,
    /// As `Host` has it: the port is left out where it is the scheme's own.
    pub authority: Box<str>,
    /// What stands before each request's path: empty, or begins with `/` and does not end with it.
    pub base_path: Box<str>,
}

impl Origin {
    /// The origin that a url names. Whether it is `https` is for `tls` to say.
    ///
    /// # Errors
    /// The url's host cannot be one.
    pub fn new(url: &Url, tls: Option<Arc<Client>>) -> Result<Origin, TargetError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let mut target = Target::parse_authority_or(host.as_bytes(), port)?;
        target.port = port;
        let authority = match (url.port(), target.to_string()) {
            (Some(_), whole) => whole,
            (None, whole) => match whole.rsplit_once(':') {
                Some((host, _)) => host.to_owned(),
                None => whole,
            },
        };
        Ok(Origin {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target,
            tls,
            protocol: HttpProtocol::default(),
            authority: authority.into(),
            base_path: url.path().trim_end_matches('/').into(),
        })
    }

    /// The same, spoken to in this protocol.
    #[must_use]
    pub fn speaking(self, protocol: HttpProtocol) -> Origin {
        Origin { protocol, ..self }
    }

    /// Unique in the process: no two origins ever have the same.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The one among `old` that is no different, or else `self`.
    #[must_use]
    pub fn kept<'a>(self, mut old: impl Iterator<Item = &'a Arc<Origin>>) -> Arc<Origin> {
        match old.find(|old| old.is_like(&self)) {
            Some(old) => Arc::clone(old),
            None => Arc::new(self),
        }
    }

    fn is_like(&self, other: &Origin) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_tls
            && self.target == other.target
            && self.protocol == other.protocol
            && self.authority == other.authority
            && self.base_path == other.base_path
    }
}

/// What becomes of the origin-form requests of a listener, or of one endpoint.
#[derive(Debug)]
pub struct Route {
    /// Where they go.
    pub origin: Arc<Origin>,
    /// Only paths beneath it are served, and it is taken off them: empty, or begins with `/` and does not end with it.
    pub prefix: Box<str>,
    /// The one host that is served, in lower case and without a port: the name of an endpoint. Requests for another get 421.
    pub server_name: Option<Box<str>>,
    /// Whether `Forwarded` and `X-Forwarded-*` are set; those of clients never pass.
    pub forwarded_headers: bool,
    /// Whether `x-forwarded-client-cert` is set from the client's verified certificate.
    pub client_certificate_header: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::new(&Url::parse(url).unwrap(), None).unwrap()
    }

    #[test]
    fn authority_and_base_path() {
        for (url, target, authority, base) in [
            ("http://app.test", "app.test:80", "app.test", ""),
            ("http://app.test:80/", "app.test:80", "app.test", ""),
            ("https://APP.test/", "app.test:443", "app.test", ""),
            (
                "https://app.test:80/a/b/",
                "app.test:80",
                "app.test:80",
                "/a/b",
            ),
            ("http://[::1]:9090/a", "[::1]:9090", "[::1]:9090", "/a"),
            ("http://[::1]/", "[::1]:80", "[::1]", ""),
            ("http://127.0.0.1:81", "127.0.0.1:81", "127.0.0.1:81", ""),
        ] {
            let origin = origin(url);
            assert_eq!(origin.target.to_string(), target, "{url}");
            assert_eq!(&*origin.authority, authority, "{url}");
            assert_eq!(&*origin.base_path, base, "{url}");
        }
    }

    #[test]
    fn a_reload_keeps_what_has_not_changed() {
        let old = [
            Arc::new(origin("http://a.test")),
            Arc::new(origin("http://b.test")),
        ];
        let kept = origin("http://b.test").kept(old.iter());
        assert_eq!(kept.id(), old[1].id());
        let new = origin("http://b.test/x").kept(old.iter());
        assert!(old.iter().all(|old| old.id() != new.id()));
    }
}
