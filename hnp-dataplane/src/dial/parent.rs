//! A tunnel through another proxy: CONNECT (RFC 9110 section 9.3.6) on a connection to the parent.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::error::ParentFailure;
use super::no_proxy::{NoProxy, NoProxyError};
use crate::admin::metrics::{self, WorkerMetrics};
use crate::config::model;
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::tls::{Alpn, Client};
use crate::uring::{self, Socket};

/// Bytes of a parent's answer, header fields included.
const MOST_HEAD: usize = 16 << 10;

/// Header fields of a parent's answer.
const MOST_FIELDS: usize = 64;

/// A parent proxy, ready to be asked.
pub(super) struct Parent {
    /// Where it is.
    pub(super) target: Target,
    /// `host:port`, for messages.
    pub(super) name: Box<str>,
    /// What does not go through it.
    pub(super) direct: NoProxy,
    /// `Proxy-Authorization: …\r\n`, or nothing.
    authorization: Box<str>,
    /// Its url says `https`.
    tls: Option<Arc<Client>>,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent")
            .field("name", &self.name)
            .field("direct", &self.direct)
            .field("credentials", &!self.authorization.is_empty())
            .finish()
    }
}

/// A parent that cannot be used as it is configured.
#[derive(Debug, Error)]
pub enum ParentError {
    /// Neither `http` nor `https`.
    #[error(
        "`upstream.parent.url` has the scheme `{0}`: write `http://host:port` or `https://host:port`"
    )]
    Scheme(String),
    /// No host.
    #[error("`upstream.parent.url` has no host: write `http://host:port`")]
    Host,
    /// Only half of the credentials.
    #[error(
        "`upstream.parent` has a {has} but no {lacks}: set both `username` and `password-file`, or both in the url"
    )]
    Credentials {
        /// What there is.
        has: &'static str,
        /// What there is not.
        lacks: &'static str,
    },
    /// A user name with a colon cannot be sent (RFC 7617 section 2).
    #[error(
        "the user name for `upstream.parent` contains a colon or a control character, which Basic authentication cannot carry"
    )]
    UserName,
    /// The file with the password.
    #[error("`upstream.parent.password-file` {}: {error}", .path.display())]
    PasswordFile {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The no-proxy list.
    #[error(transparent)]
    NoProxy(#[from] NoProxyError),
}

impl Parent {
    pub(super) fn new(
        config: &model::Parent,
        tls: Option<Arc<Client>>,
    ) -> Result<Parent, ParentError> {
        let url = &config.url;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ParentError::Scheme(url.scheme().to_owned()));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => {
                Host::Name(name.trim_end_matches('.').to_ascii_lowercase().into())
            }
            Some(url::Host::Ipv4(address)) => Host::Address(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Address(address.into()),
            None => return Err(ParentError::Host),
        };
        let target = Target {
            host,
            port: url.port_or_known_default().ok_or(ParentError::Host)?,
        };
        let authorization = match credentials(config)? {
            None => String::new(),
            Some((user, _)) if user.iter().any(|b| *b == b':' || b.is_ascii_control()) => {
                return Err(ParentError::UserName);
            }
            Some((user, password)) => {
                let pair = [&user[..], b":", &password].concat();
                format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
            }
        };
        Ok(Parent {
            name: target.to_string().into(),
            target,
            direct: NoProxy::compile(&config.no_proxy)?,
            authorization: authorization.into(),
            tls,
        })
    }

    /// The connection to the parent, as it is asked over: by TLS where its url says `https`, for whose handshake `left` is left.
    pub(super) async fn secured(
        &self,
        metrics: &WorkerMetrics,
        socket: Socket,
        left: Duration,
    ) -> Result<Stream, ParentFailure> {
        let Some(tls) = &self.tls else {
            return Ok(socket.into());
        };
        let books = metrics.handshake(metrics::Side::Upstream);
        match uring::timeout(left, tls.connect(socket.into(), Alpn::Http1)).await {
            Ok(Ok(stream)) => {
                if let Some(session) = stream.session() {
                    books.done(session.version_name(), session.resumed);
                }
                Ok(stream)
            }
            Ok(Err(error)) => {
                books.failed(error.code());
                Err(ParentFailure::Tls(error))
            }
            Err(_) => {
                books.failed("timeout");
                Err(ParentFailure::Silent(left))
            }
        }
    }

    /// Asks the parent for `target`; what it sent behind its answer is the tunnel's first bytes.
    pub(super) async fn tunnel(
        &self,
        stream: &Stream,
        target: &Target,
    ) -> Result<Vec<u8>, ParentFailure> {
        let request = self.request(target);
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut buffer = vec![0; 1024];
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                if filled >= MOST_HEAD {
                    return Err(ParentFailure::Malformed(format!(
                        "more than {MOST_HEAD} bytes of head"
                    )));
                }
                buffer.resize(filled * 2, 0);
            }
            match stream.read(&mut buffer[filled..]).await.map_err(broken)? {
                0 => return Err(ParentFailure::Closed),
                n => filled += n,
            }
            buffer.truncate(filled);
            if let Some(head) = answer(&buffer)? {
                buffer.drain(..head);
                return Ok(buffer);
            }
            buffer.resize(buffer.capacity().max(filled), 0);
        }
    }

    fn request(&self, target: &Target) -> String {
        let authorization = &self.authorization;
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
    }
}

fn broken(error: io::Error) -> ParentFailure {
    ParentFailure::Broken(error)
}

/// The length of a head that says yes; `None` while it is not whole. Interim answers (1xx) are skipped.
fn answer(bytes: &[u8]) -> Result<Option<usize>, ParentFailure> {
    let mut skipped = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&bytes[skipped..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(ParentFailure::Malformed(error.to_string())),
        };
        let status = response.code.unwrap_or_default();
        match status {
            // 101 would be the answer to an Upgrade that was not sent.
            100 | 102..=199 => skipped += length,
            200..=299 => return Ok(Some(skipped + length)),
            407 => return Err(ParentFailure::Credentials),
            400..=499 => return Err(ParentFailure::Refused(status)),
            500..=599 => return Err(ParentFailure::Failed(status)),
            _ => return Err(ParentFailure::Malformed(format!("status {status}"))),
        }
    }
}

/// User name and password.
type Credentials = (Vec<u8>, Vec<u8>);

fn credentials(config: &model::Parent) -> Result<Option<Credentials>, ParentError> {
    let from_url =
        (!config.url.username().is_empty()).then(|| percent_decoded(config.url.username()));
    let user = config
        .username
        .as_ref()
        .map(|name| name.clone().into_bytes())
        .or(from_url);
    let password = match &config.password_file {
        Some(path) => {
            let error = |error| ParentError::PasswordFile {
                path: path.clone(),
                error,
            };
            let text = fs::read(path).map_err(error)?;
            let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return Err(error(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its first line is empty",
                )));
            }
            Some(line.to_vec())
        }
        None => config.url.password().map(percent_decoded),
    };
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some((user, password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ParentError::Credentials {
            has: "user name",
            lacks: "password",
        }),
        (None, Some(_)) => Err(ParentError::Credentials {
            has: "password",
            lacks: "user name",
        }),
    }
}

/// `%40` is `@`: what a url cannot carry plainly (RFC 3986 section 2.1).
fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(toml: &str) -> Result<Parent, ParentError> {
        Parent::new(&toml::from_str(toml).unwrap(), None)
    }

    #[test]
    fn the_request_carries_target_and_credentials() {
        let target = Target {
            host: Host::Name("app.harness.io".into()),
            port: 443,
        };
        let plain = parent("url = \"http://proxy.corp:3128\"").unwrap();
        assert_eq!(
            plain.request(&target),
            "CONNECT app.harness.io:443 HTTP/1.1\r\nHost: app.harness.io:443\r\n\r\n"
        );
        assert_eq!(&*plain.name, "proxy.corp:3128");
        // RFC 7617 section 2: Aladdin, open sesame.
        let with = parent("url = \"http://Aladdin:open%20sesame@proxy.corp\"").unwrap();
        assert!(
            with.request(&target)
                .contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n")
        );
        assert_eq!(&*with.name, "proxy.corp:80");
        assert!(!format!("{with:?}").contains("QWxh"));
    }

    #[test]
    fn the_password_may_come_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "open sesame\r\nsecond line\n").unwrap();
        let config = format!(
            "url = \"http://proxy.corp\"\nusername = \"Aladdin\"\npassword-file = {path:?}"
        );
        let target = Target {
            host: Host::Address([10, 0, 0, 1].into()),
            port: 1,
        };
        assert!(
            parent(&config)
                .unwrap()
                .request(&target)
                .contains("QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        );
        fs::write(&path, "\n").unwrap();
        assert!(
            parent(&config)
                .unwrap_err()
                .to_string()
                .contains("first line is empty")
        );
    }

    #[test]
    fn half_a_configuration_is_refused() {
        for (toml, expected) in [
            ("url = \"socks5://proxy.corp\"", "scheme `socks5`"),
            ("url = \"http://user@proxy.corp\"", "no password"),
            (
                "url = \"http://proxy.corp\"\nusername = \"a:b\"\npassword-file = \"/dev/null\"",
                "first line is empty",
            ),
            ("url = \"http://proxy.corp\"\nno-proxy = [\"a b\"]", "`a b`"),
            ("url = \"http://a%3Ab:c@proxy.corp\"", "colon"),
        ] {
            let error = parent(toml).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let ok = |text: &str| answer(text.as_bytes()).unwrap();
        assert_eq!(ok("HTTP/1.1 200 OK\r\n\r\nhello"), Some(19));
        assert_eq!(
            ok("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n"),
            Some(47)
        );
        assert_eq!(
            ok("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            Some(38)
        );
        assert_eq!(
            ok("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            Some(41)
        );
        assert_eq!(ok("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(ok(""), None);
        let refused = |text: &str| answer(text.as_bytes()).unwrap_err();
        assert!(matches!(
            refused("HTTP/1.1 407 No\r\n\r\n"),
            ParentFailure::Credentials
        ));
        assert!(matches!(
            refused("HTTP/1.1 403 No\r\n\r\n"),
            ParentFailure::Refused(403)
        ));
        assert!(matches!(
            refused("HTTP/1.1 503 No\r\n\r\n"),
            ParentFailure::Failed(503)
        ));
        assert!(matches!(
            refused("HTTP/1.1 302 No\r\n\r\n"),
            ParentFailure::Malformed(_)
        ));
        assert!(matches!(
            refused("SSH-2.0-OpenSSH_9.2\r\n"),
            ParentFailure::Malformed(_)
        ));
    }
}
