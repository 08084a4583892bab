//! Heads on their way through the reverse proxy: which requests are served, and how the upstream and the client see them.
//!
//! * The path must lie beneath the route's prefix, which is taken off; the upstream's own path is put before it ([`path`]).
//! * `Host` becomes the upstream's authority. An endpoint serves the one host that it is named after; for another: 421.
//! * What a client says of its own identity goes no further ([`fields::is_identity`]), whether HNP says something of it or not.
//! * `X-Forwarded-*` and `Forwarded` are HNP's own, or, where that is switched off, not there.
//! * `Location` and `Content-Location` that name the upstream, or a path of its own, name what the client can reach instead.

pub mod fields;
pub mod path;

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::answer::Answer;
use super::head::{RequestHead, RequestTarget};
use super::proxy_status::{ErrorType, Side};
use super::response::ResponseHead;
use super::rewrite::{self, Fate};
use crate::origin::Route;

/// What is known of a client that its requests do not say.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Where it connected from.
    pub address: IpAddr,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// The value of `x-forwarded-client-cert`, if it has shown a certificate that was verified.
    pub certificate: Option<&'a str>,
}

/// Writes the heads of one client's requests and responses.
#[derive(Debug)]
pub struct Rewriter {
    route: Arc<Route>,
    /// Fields that are the same in each of its requests.
    constant: Vec<u8>,
    /// `for=…;proto=…`.
    forwarded: String,
}

impl Rewriter {
    /// For the requests of one connection.
    #[must_use]
    pub fn new(route: &Arc<Route>, client: Client<'_>) -> Self {
        let scheme = if client.over_tls { "https" } else { "http" };
        let address = client.address.to_canonical();
        let mut constant = Vec::new();
        if route.forwarded_headers {
            // Writing to a Vec cannot fail.
            let _ = write!(
                constant,
                "X-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}\r\n"
            );
        }
        if let Some(certificate) = client.certificate
            && route.client_certificate_header
        {
            rewrite::write_field(
                &mut constant,
                fields::CLIENT_CERTIFICATE,
                certificate.as_bytes(),
            );
        }
        let node = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        Rewriter {
            route: Arc::clone(route),
            constant,
            forwarded: format!("for={node};proto={scheme}"),
        }
    }

    /// The head of an origin-form request as the upstream gets it, added to `out`.
    ///
    /// # Errors
    /// 421: another host than the endpoint's; 404: a path that is not beneath the prefix.
    pub fn request_head(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) -> Result<(), Answer> {
        let route = &*self.route;
        check_host(route, head)?;
        out.extend_from_slice(head.method.as_bytes());
        out.push(b' ');
        match head.target {
            RequestTarget::Origin(path) => {
                let rest = path::beneath(&route.prefix, &route.origin.base_path, path)
                    .ok_or_else(|| not_beneath(&route.prefix))?;
                path::write(&route.origin.base_path, rest, out);
            }
            // The server as a whole is not beneath any path.
            _ if route.prefix.is_empty() => out.push(b'*'),
            _ => return Err(not_beneath(&route.prefix)),
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(route.origin.authority.as_bytes());
        out.extend_from_slice(b"\r\n");
        let forwarded = route.forwarded_headers;
        rewrite::request_fields(head, out, |name| {
            fields::is_identity(name) || fields::is_forwarded(name)
        });
        out.extend_from_slice(&self.constant);
        if forwarded {
            self.write_forwarded(head.host().unwrap_or_default(), out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// `X-Forwarded-Host`, and `Forwarded` of RFC 7239. `host` is that of the request, which has been checked: nothing in it needs an
    /// escape inside a quoted string.
    fn write_forwarded(&self, host: &[u8], out: &mut Vec<u8>) {
        if !host.is_empty() {
            rewrite::write_field(out, "X-Forwarded-Host", host);
        }
        out.extend_from_slice(b"Forwarded: ");
        out.extend_from_slice(self.forwarded.as_bytes());
        if !host.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(host);
            out.push(b'"');
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A `Location` as the client can follow it. See [`path::location`].
    pub(crate) fn location<'a>(&self, location: &'a [u8]) -> Cow<'a, [u8]> {
        path::location(&self.route, location)
    }

    /// The head of a response as the client gets it, added to `out`. See [`rewrite::response_head`].
    pub fn response_head(
        &self,
        head: &ResponseHead<'_>,
        close: bool,
        framed: bool,
        out: &mut Vec<u8>,
    ) {
        rewrite::response_head_but(head, close, framed, out, |name, value| {
            let is_location = match name.len() {
                8 => name.eq_ignore_ascii_case(b"location"),
                16 => name.eq_ignore_ascii_case(b"content-location"),
                _ => false,
            };
            match is_location.then(|| path::location(&self.route, value)) {
                Some(Cow::Owned(location)) => Fate::Becomes(location),
                Some(Cow::Borrowed(_)) | None => Fate::Passes,
            }
        });
    }
}

/// RFC 9110 section 7.4: a connection that was opened for one host serves no other. Without a `Host`, which HTTP/1.0 allows, the name
/// that the client gave to TLS is all it has said.
fn check_host(route: &Route, head: &RequestHead<'_>) -> Result<(), Answer> {
    let (Some(name), Some(host)) = (&route.server_name, head.host()) else {
        return Ok(());
    };
    if names(host, name) {
        return Ok(());
    }
    Err(misdirected())
}

/// 421: the request is for another host than the connection.
#[must_use]
pub fn misdirected() -> Answer {
    let why = "the request's host is not the name that this connection was opened for (SNI): use a connection of its own for each host";
    Answer::new(421, ErrorType::HttpRequestError, Side::Client, why)
}

/// 404: no path of this route's.
#[must_use]
pub fn not_beneath(prefix: &str) -> Answer {
    let why = if prefix.is_empty() {
        "the path leads out of what is served here".to_owned()
    } else {
        format!("only paths beneath {prefix} are served here, and none that lead out of it")
    };
    Answer::new(404, ErrorType::HttpRequestError, Side::Client, why)
}

/// Whether an authority is this host, whatever its port. `name` is in lower case, without a trailing dot.
#[must_use]
pub fn names(authority: &[u8], name: &str) -> bool {
    let host = match authority.iter().rposition(|&b| b == b':') {
        // Not a colon of an IPv6 literal, which stands in brackets.
        Some(colon) if !authority[colon..].contains(&b']') => &authority[..colon],
        _ => authority,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests;
