//! Request heads: read strictly, borrowed from the buffer they came in.
//!
//! RFC 9112 leaves a recipient choices; these are HNP's, and each refuses rather than repairs:
//! * lines end in CRLF, never in a bare LF; one empty line before the request line is skipped, no more;
//! * one space between the words of the request line, no other blank;
//! * `Content-Length` stands there at most once and is plain digits; with `Transfer-Encoding` beside it the request is refused;
//! * the only transfer coding is `chunked`, once, in HTTP/1.1;
//! * HTTP/1.1 needs exactly one valid `Host`; it decides nothing here, the target does (RFC 9112 section 3.2.2), and what is
//!   forwarded carries the target's authority;
//! * CONNECT announces no content (`Content-Length: 0` is let through), and names its port.

mod diagnose;
mod error;
mod framing;
mod request_target;

pub use error::{HeadError, Shown};
pub use framing::BodyFraming;
pub(crate) use framing::content_length;
pub use request_target::RequestTarget;

use std::mem::MaybeUninit;

use super::fields::{Fields, Known};
use super::lines::{Extent, Lines};
use crate::config::model::Limits;
use crate::target::Target;

/// Most field lines that are parsed without an allocation.
const FEW_FIELDS: usize = 64;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, line ends and the empty line included.
    pub size: usize,
    /// Bytes of the first line, without its line end.
    pub first_line: usize,
    /// Header fields.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits::from(&Limits::default())
    }
}

impl From<&Limits> for HeadLimits {
    fn from(limits: &Limits) -> Self {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        HeadLimits {
            size: bytes(limits.head_size.0),
            first_line: bytes(limits.request_line_size.0),
            fields: limits.headers,
        }
    }
}

/// The version of HTTP that a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// `1.0` or `1.1`, as in `Via`.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }
}

/// A request head that keeps every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method; methods are case-sensitive.
    pub method: &'a str,
    /// Never anything but 1.0 and 1.1.
    pub version: Version,
    /// What is asked for.
    pub target: RequestTarget<'a>,
    /// The header fields, as they came.
    pub fields: Fields<'a>,
    /// What follows the head.
    pub framing: BodyFraming,
}

impl<'a> RequestHead<'a> {
    /// Whether a tunnel is asked for.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    /// Where a proxy would connect to.
    ///
    /// # Errors
    /// [`HeadError::OriginForm`] when the request is for a web server, not for a proxy.
    pub fn proxy_target(&self) -> Result<&Target, HeadError> {
        match &self.target {
            RequestTarget::Authority(target) | RequestTarget::Absolute { target, .. } => Ok(target),
            RequestTarget::Origin(_) | RequestTarget::Asterisk => Err(HeadError::OriginForm),
        }
    }

    /// The value of `Host`, as it came. Present and valid in HTTP/1.1.
    #[must_use]
    pub fn host(&self) -> Option<&'a [u8]> {
        self.fields.value(Known::Host)
    }

    /// The value of `Proxy-Authorization`: a secret, never to be logged.
    #[must_use]
    pub fn proxy_authorization(&self) -> Option<&'a [u8]> {
        self.fields.value(Known::ProxyAuthorization)
    }

    /// The options of `Connection`: `close`, `keep-alive`, `upgrade` and names of hop-by-hop fields.
    pub fn connection_options(&self) -> impl Iterator<Item = &'a [u8]> {
        self.fields.elements(Known::Connection)
    }

    /// Whether the client waits for `100 Continue` before it sends the content. HTTP/1.0 knows no such thing.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.fields.lists(Known::Expect, "100-continue")
    }

    /// The protocol to switch to, where the client asks for that (RFC 9110 section 7.8): both fields are there, in HTTP/1.1.
    #[must_use]
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        let asked =
            self.version == Version::Http11 && self.fields.lists(Known::Connection, "upgrade");
        self.fields.value(Known::Upgrade).filter(|_| asked)
    }

    /// Whether the client keeps the connection for another request. A proxy keeps none with an HTTP/1.0 client (RFC 9112
    /// section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.version == Version::Http11 && !self.fields.lists(Known::Connection, "close")
    }
}

/// Parses one request head at the start of `bytes`. Gives the head and the number of bytes it takes, or `None` while it is not
/// complete. Where bytes come in small pieces use a [`RequestParser`], which does not start over.
///
/// # Errors
/// Whatever makes the head refused, as soon as it is known.
pub fn parse_request<'a>(
    bytes: &'a [u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
    RequestParser::new().parse(bytes, limits)
}

/// Parses a request head that arrives bit by bit, looking at each byte once until the head is complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestParser {
    lines: Lines,
}

impl RequestParser {
    /// At the start of a head.
    #[must_use]
    pub fn new() -> Self {
        RequestParser::default()
    }

    /// As [`parse_request`]; `bytes` holds all that came since the start of the head, at each call.
    ///
    /// # Errors
    /// As [`parse_request`]. Nothing further may be parsed then.
    pub fn parse<'a>(
        &mut self,
        bytes: &'a [u8],
        limits: &HeadLimits,
    ) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
        let extent = self
            .lines
            .advance(bytes, limits)
            .map_err(|fault| HeadError::from_lines(fault, limits))?;
        let Some(extent) = extent else {
            return Ok(None);
        };
        parse_complete(bytes, extent, limits).map(|head| Some((head, extent.end)))
    }
}

fn parse_complete<'a>(
    bytes: &'a [u8],
    extent: Extent,
    limits: &HeadLimits,
) -> Result<RequestHead<'a>, HeadError> {
    let Extent { start, fields, end } = extent;
    let head = &bytes[start..end];
    let mut few = [const { MaybeUninit::<httparse::Header<'a>>::uninit() }; FEW_FIELDS];
    let mut many = Vec::new();
    let mut request = httparse::Request::new(&mut []);
    let mut status = request.parse_with_uninit_headers(head, &mut few);
    if status == Err(httparse::Error::TooManyHeaders) {
        many.resize_with(limits.fields.min(head.len()), MaybeUninit::uninit);
        request = httparse::Request::new(&mut []);
        status = request.parse_with_uninit_headers(head, &mut many);
    }
    let complete = matches!(status, Ok(httparse::Status::Complete(length)) if length == head.len());
    let (true, Some(method), Some(target), Some(minor)) =
        (complete, request.method, request.path, request.version)
    else {
        return Err(diagnose::refused(
            &bytes[start..fields],
            &bytes[fields..end],
        ));
    };
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let framing = framing::check(method, version, request.headers)?;
    let target = RequestTarget::parse(method, target)?;
    let named = |field: &httparse::Header<'a>| (field.name.as_bytes(), field.value);
    let found = request.headers.iter().map(named);
    Ok(RequestHead {
        method,
        version,
        target,
        fields: Fields::parsed(&bytes[fields..end - 2], found),
        framing,
    })
}
