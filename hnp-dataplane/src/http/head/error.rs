//! Why a request head is refused.

use std::fmt;

use crate::http::lines::LineFault;
use crate::http::proxy_status::{ErrorType, Side};
use crate::target::TargetError;

/// Why a request head is refused: the client's fault, always. The message says what is wrong and what to do; what it repeats
/// of the request is short, printable and free of queries and credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// 414.
    #[error("the request line is longer than {limit} bytes (limits.request-line-size)")]
    RequestLineTooLong {
        /// Bytes.
        limit: usize,
    },
    /// 431.
    #[error("the request head is larger than {limit} bytes (limits.head-size)")]
    HeadTooLarge {
        /// Bytes.
        limit: usize,
    },
    /// 431.
    #[error("the request has more than {limit} header fields (limits.headers)")]
    TooManyFields {
        /// Fields.
        limit: usize,
    },
    /// A TLS ClientHello where HTTP was expected.
    #[error(
        "a TLS handshake arrived where plaintext HTTP is spoken: write the proxy's address with http://, not https://, or give HNP a certificate in [listener.tls]"
    )]
    Tls,
    /// The connection preface of HTTP/2. 505.
    #[error(
        "HTTP/2 arrived where only HTTP/1.1 is spoken: switch HTTP/2 with prior knowledge off for the proxy connection (HTTP/2 inside a CONNECT tunnel works)"
    )]
    Http2,
    /// SOCKS 4 or 5.
    #[error(
        "a SOCKS handshake arrived where HTTP is spoken: write the proxy's address with http://, not socks://"
    )]
    Socks,
    /// HAProxy's PROXY protocol.
    #[error(
        "a PROXY protocol header arrived, which HNP does not take: switch it off in the load balancer before HNP"
    )]
    ProxyProtocol,
    /// The first byte begins no HTTP request.
    #[error(
        "the first byte, 0x{0:02x}, begins no HTTP request: the proxy's address is meant for HTTP proxying only"
    )]
    NotHttp(u8),
    /// More than the one empty line that is tolerated.
    #[error("more than one empty line stands before the request line")]
    LeadingEmptyLines,
    /// RFC 9112 section 2.2 lets a recipient accept it; this one does not.
    #[error("a line ends in a bare LF: lines of a head end in CRLF")]
    BareLf,
    /// RFC 9112 section 2.2.
    #[error("a CR without an LF stands in the head")]
    BareCr,
    /// RFC 9110 section 5.5.
    #[error("the control character 0x{0:02x} stands in the head")]
    Control(u8),
    /// Not three words with one space between.
    #[error("the request line is not `METHOD target HTTP/1.1` with one space between the words")]
    RequestLine,
    /// HTTP/0.9.
    #[error("the request line has no HTTP version: HTTP/0.9 is not spoken")]
    NoVersion,
    /// Not a token.
    #[error("the method is not made of letters, digits and the marks that a token may have")]
    Method,
    /// `HTTP/2.0`, `HTTP/1.2`. 505.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here, not {0}")]
    Version(Shown),
    /// Not even `HTTP/digit.digit`.
    #[error("the request line does not end in an HTTP version")]
    NotAVersion,
    /// RFC 9112 section 5.2.
    #[error("a header field goes on over a second line (obsolete line folding)")]
    Folded,
    /// RFC 9112 section 5.1.
    #[error("blanks stand between the name of the header field `{0}` and its colon")]
    BlankBeforeColon(Shown),
    /// A line of the header section without a colon.
    #[error("a line among the header fields has no colon")]
    NoColon,
    /// Not a token.
    #[error("the name of a header field is empty or has a character that names do not have")]
    FieldName,
    /// A value that RFC 9110 section 5.5 does not allow.
    #[error("the value of a header field has a character that values do not have")]
    FieldValue,
    /// Not a plain number.
    #[error("Content-Length is not one number in plain decimal")]
    ContentLength,
    /// More than one, be they equal or not.
    #[error("Content-Length stands there more than once")]
    ContentLengthTwice,
    /// RFC 9112 section 6.1.
    #[error(
        "both Content-Length and Transfer-Encoding are given, which lets two programs see two different messages"
    )]
    LengthAndCoding,
    /// RFC 9112 section 6.3, rule 4.
    #[error(
        "Transfer-Encoding does not end in `chunked` (once, and without parameters), so the end of the request cannot be told"
    )]
    TransferEncoding,
    /// RFC 9112 section 6.1. 501.
    #[error("the transfer coding `{0}` is not known here: only `chunked` is")]
    UnknownCoding(Shown),
    /// RFC 9112 section 6.1.
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    CodingIn10,
    /// RFC 9112 section 3.2.
    #[error("the Host field is missing, which HTTP/1.1 demands")]
    NoHost,
    /// RFC 9112 section 3.2.
    #[error("there is more than one Host field")]
    ManyHosts,
    /// RFC 9112 section 3.2.
    #[error("the Host field names no host: {0}")]
    Host(#[source] TargetError),
    /// The target's authority.
    #[error("the request's target names no host and port: {0}")]
    Target(#[source] TargetError),
    /// RFC 9110 section 9.3.6.
    #[error("CONNECT has no content, yet its head announces some")]
    ConnectWithBody,
    /// RFC 9112 section 3.2.3.
    #[error("CONNECT needs a target of the form host:port")]
    ConnectForm,
    /// RFC 9110 section 9.3.8.
    #[error("TRACE has no content, yet its head announces some")]
    TraceWithBody,
    /// RFC 9112 section 3.2.
    #[error(
        "the target has to be an absolute URI, `http://host/path`; host:port is for CONNECT alone (in capitals)"
    )]
    TargetForm,
    /// RFC 9112 section 3.2.4.
    #[error("the target `*` is for OPTIONS alone")]
    Asterisk,
    /// `https://` in absolute-form.
    #[error(
        "https:// targets are reached with CONNECT, not with an absolute URI: set https_proxy in the client"
    )]
    HttpsScheme,
    /// Anything but `http`.
    #[error("only http:// targets are forwarded")]
    Scheme,
    /// RFC 9112 section 3.2.
    #[error("the target has a fragment (#), which is never sent")]
    Fragment,
    /// Spaces are seen earlier; this is for bytes above 127 and the like.
    #[error("the target has a character that URIs do not have: percent-encode it")]
    TargetCharacter,
    /// A request for the server itself, not for a proxy.
    #[error(
        "the target is a path, as sent to a web server, but this is a proxy: use CONNECT or an absolute http:// URI, or have `reverse-proxy` added to HNP's `modes`"
    )]
    OriginForm,
    /// A field that may stand there once stands there twice.
    #[error("the field {0} stands there more than once")]
    Twice(&'static str),
    /// RFC 9110 section 7.6.1.
    #[error("Connection names {0}, which is not the connection's to remove")]
    ConnectionNames(&'static str),
    /// RFC 9110 section 10.1.1. 417.
    #[error("the only expectation known here is 100-continue")]
    Expectation,
    /// RFC 9110 section 7.6.2.
    #[error("Max-Forwards is not a number")]
    MaxForwards,
}

impl HeadError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::RequestLineTooLong { .. } => 414,
            Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => 431,
            Self::Expectation => 417,
            Self::UnknownCoding(_) => 501,
            Self::Http2 | Self::Version(_) => 505,
            _ => 400,
        }
    }

    /// The type for `Proxy-Status`.
    #[must_use]
    pub fn error_type(&self) -> ErrorType {
        ErrorType::HttpRequestError
    }

    /// Whose fault.
    #[must_use]
    pub fn side(&self) -> Side {
        Side::Client
    }

    pub(crate) fn from_lines(fault: LineFault, limits: &super::HeadLimits) -> Self {
        match fault {
            LineFault::BareLf => Self::BareLf,
            LineFault::BareCr => Self::BareCr,
            LineFault::Control(byte) => Self::Control(byte),
            // 0x16: a TLS handshake record (RFC 8446 section 5.1); 4 and 5: the version byte of SOCKS.
            LineFault::FirstByte(0x16) => Self::Tls,
            LineFault::FirstByte(4 | 5) => Self::Socks,
            LineFault::FirstByte(byte) => Self::NotHttp(byte),
            LineFault::LeadingEmptyLines => Self::LeadingEmptyLines,
            LineFault::FirstLineTooLong => Self::RequestLineTooLong {
                limit: limits.first_line.min(limits.size),
            },
            LineFault::TooLarge => Self::HeadTooLarge { limit: limits.size },
            LineFault::TooManyFields => Self::TooManyFields {
                limit: limits.fields,
            },
        }
    }
}

/// A few bytes of a peer's, made safe to show: at most 32, all printable ASCII, cut at a `?`.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(Box<str>);

impl Shown {
    /// Takes what may be shown of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|&b| b == b'?').unwrap_or(bytes.len());
        let printable = |&b: &u8| {
            if b.is_ascii_graphic() && b != b'"' && b != b'\\' {
                char::from(b)
            } else {
                '.'
            }
        };
        Shown(bytes[..end].iter().take(32).map(printable).collect())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
