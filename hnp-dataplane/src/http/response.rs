//! Response heads: what an upstream says, read as strictly as it can be without refusing the web as it is.

use std::mem::MaybeUninit;

use super::fields::{Fields, Known, trim};
use super::head::{BodyFraming, HeadLimits, Version, content_length};
use super::lines::{Extent, LineFault, Lines};
use super::proxy_status::ErrorType;

const FEW_FIELDS: usize = 64;

/// Why a response cannot be passed on: the upstream's fault, always; the client gets 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not `HTTP/1.x NNN reason`.
    #[error("the upstream's response does not begin with an HTTP/1.1 or HTTP/1.0 status line")]
    StatusLine,
    /// Line ends, folds, control characters, names.
    #[error(
        "the head of the upstream's response is malformed (line ends, folding, control characters or field names)"
    )]
    Malformed,
    /// Over the limits that hold for requests too.
    #[error(
        "the head of the upstream's response is larger than limits.head-size or has more fields than limits.headers"
    )]
    TooLarge,
    /// RFC 9112 section 6.3.
    #[error(
        "the upstream's response does not say unambiguously where its content ends (Content-Length and Transfer-Encoding)"
    )]
    Framing,
    /// Anything but `chunked`.
    #[error("the upstream's response has a transfer coding other than `chunked`")]
    TransferCoding,
}

impl ResponseError {
    /// The type for `Proxy-Status`.
    #[must_use]
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::StatusLine | Self::Malformed | Self::Framing => ErrorType::HttpProtocolError,
            Self::TooLarge => ErrorType::HttpResponseHeaderSectionSize,
            Self::TransferCoding => ErrorType::HttpResponseTransferCoding,
        }
    }
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// Never anything but 1.0 and 1.1.
    pub version: Version,
    /// 100 to 999; 600 and above are not defined but seen.
    pub status: u16,
    /// May be empty.
    pub reason: &'a [u8],
    /// The header fields, as they came.
    pub fields: Fields<'a>,
    /// What follows the head.
    pub framing: BodyFraming,
}

impl ResponseHead<'_> {
    /// Whether another response comes for the same request (101 is the last).
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether the upstream keeps the connection for another request.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.version == Version::Http11
            && self.framing != BodyFraming::UntilClose
            && !self.fields.lists(Known::Connection, "close")
    }
}

/// Parses a response head that arrives bit by bit, looking at each byte once until the head is complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseParser {
    lines: Lines,
}

impl ResponseParser {
    /// At the start of a head.
    #[must_use]
    pub fn new() -> Self {
        ResponseParser::default()
    }

    /// Parses the head at the start of `bytes`, which answers a request of `method`. `None` while it is not complete, else
    /// the head and the bytes it takes.
    ///
    /// # Errors
    /// Whatever makes it impossible to pass the response on.
    pub fn parse<'a>(
        &mut self,
        bytes: &'a [u8],
        limits: &HeadLimits,
        method: &str,
    ) -> Result<Option<(ResponseHead<'a>, usize)>, ResponseError> {
        let extent = self
            .lines
            .advance(bytes, limits)
            .map_err(|fault| match fault {
                LineFault::FirstLineTooLong | LineFault::TooLarge | LineFault::TooManyFields => {
                    ResponseError::TooLarge
                }
                LineFault::FirstByte(_) | LineFault::LeadingEmptyLines => ResponseError::StatusLine,
                LineFault::BareLf | LineFault::BareCr | LineFault::Control(_) => {
                    ResponseError::Malformed
                }
            })?;
        let Some(extent) = extent else {
            return Ok(None);
        };
        parse_complete(bytes, extent, limits, method).map(|head| Some((head, extent.end)))
    }
}

fn parse_complete<'a>(
    bytes: &'a [u8],
    extent: Extent,
    limits: &HeadLimits,
    method: &str,
) -> Result<ResponseHead<'a>, ResponseError> {
    let Extent { start, fields, end } = extent;
    let head = &bytes[start..end];
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 section 5.1: a proxy removes such blanks from a response, which the rewriting does.
    config.allow_spaces_after_header_name_in_responses(true);
    let mut few = [const { MaybeUninit::<httparse::Header<'a>>::uninit() }; FEW_FIELDS];
    let mut many = Vec::new();
    let mut response = httparse::Response::new(&mut []);
    let mut status = config.parse_response_with_uninit_headers(&mut response, head, &mut few);
    if status == Err(httparse::Error::TooManyHeaders) {
        many.resize_with(limits.fields.min(head.len()), MaybeUninit::uninit);
        response = httparse::Response::new(&mut []);
        status = config.parse_response_with_uninit_headers(&mut response, head, &mut many);
    }
    match status {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::Version | httparse::Error::Status | httparse::Error::Token) => {
            return Err(ResponseError::StatusLine);
        }
        _ => return Err(ResponseError::Malformed),
    }
    let (Some(code @ 100..), Some(minor), 0) = (response.code, response.version, start) else {
        return Err(ResponseError::StatusLine);
    };
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    // Behind `HTTP/1.1 200`.
    let reason = bytes.get(12..fields).map_or(&[][..], trim);
    let named = |field: &httparse::Header<'a>| (field.name.as_bytes(), field.value);
    let found = response.headers.iter().map(named);
    let fields = Fields::parsed(&bytes[fields..end - 2], found);
    Ok(ResponseHead {
        version,
        status: code,
        reason,
        fields,
        framing: framing(&fields, version, code, method)?,
    })
}

/// RFC 9112 section 6.3, with what it calls an error refused.
fn framing(
    fields: &Fields<'_>,
    version: Version,
    status: u16,
    method: &str,
) -> Result<BodyFraming, ResponseError> {
    let length = match fields.value(Known::ContentLength) {
        None => None,
        Some(digits) => Some(content_length(digits).ok_or(ResponseError::Framing)?),
    };
    if fields.repeats(Known::ContentLength) {
        return Err(ResponseError::Framing);
    }
    let coding = fields.value(Known::TransferEncoding);
    if coding.is_some() && (length.is_some() || version == Version::Http10) {
        return Err(ResponseError::Framing);
    }
    let no_content = method == "HEAD" || matches!(status, 100..200 | 204 | 304);
    if no_content || (method == "CONNECT" && (200..300).contains(&status)) {
        return Ok(BodyFraming::None);
    }
    if let Some(coding) = coding {
        // `chunked`, once, and nothing else: not even an empty element of the list.
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        return match chunked && !fields.repeats(Known::TransferEncoding) {
            true => Ok(BodyFraming::Chunked),
            false => Err(ResponseError::TransferCoding),
        };
    }
    Ok(match length {
        None => BodyFraming::UntilClose,
        Some(0) => BodyFraming::None,
        Some(length) => BodyFraming::Length(length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, method: &str) -> Result<(u16, String, BodyFraming), ResponseError> {
        let limits = HeadLimits::default();
        let mut parser = ResponseParser::new();
        let own = |(head, _): (ResponseHead<'_>, usize)| {
            (
                head.status,
                String::from_utf8_lossy(head.reason).into_owned(),
                head.framing,
            )
        };
        let whole = ResponseParser::new()
            .parse(text.as_bytes(), &limits, method)
            .map(|found| own(found.expect("complete")));
        let split = (1..=text.len())
            .find_map(|end| {
                parser
                    .parse(&text.as_bytes()[..end], &limits, method)
                    .transpose()
            })
            .expect("complete")
            .map(own);
        assert_eq!(whole, split, "{text:?}");
        whole
    }

    #[test]
    fn where_the_content_ends() {
        use BodyFraming::*;
        for (head, method, framing) in [
            ("200 OK\r\nContent-Length: 5", "GET", Length(5)),
            ("200 OK\r\nContent-Length: 0", "GET", None),
            ("200 OK\r\nContent-Length: 5", "HEAD", None),
            ("200 OK\r\nTransfer-Encoding: Chunked", "GET", Chunked),
            ("200 OK\r\nTransfer-Encoding : chunked", "GET", Chunked),
            ("200 OK\r\nTransfer-Encoding: chunked", "HEAD", None),
            ("200 OK\r\nX: y", "GET", UntilClose),
            ("200 OK\r\nX: y", "CONNECT", None),
            ("403 No\r\nContent-Length: 2", "CONNECT", Length(2)),
            ("204 No Content\r\nContent-Length: 5", "GET", None),
            ("304 Not Modified\r\nContent-Length: 5", "GET", None),
            ("100 Continue\r\nX: y", "GET", None),
            ("101 Switching Protocols\r\nX: y", "GET", None),
        ] {
            let (_, _, got) = parsed(&format!("HTTP/1.1 {head}\r\n\r\n"), method).expect(head);
            assert_eq!(got, framing, "{method}: {head}");
        }
    }

    #[test]
    fn reasons_may_be_missing() {
        let reason = |line: &str| {
            parsed(&format!("{line}\r\nX: y\r\n\r\n"), "HEAD")
                .map(|(status, reason, _)| (status, reason))
        };
        assert_eq!(
            reason("HTTP/1.1 200 All is well"),
            Ok((200, "All is well".to_owned()))
        );
        assert_eq!(reason("HTTP/1.1 200 "), Ok((200, String::new())));
        assert_eq!(reason("HTTP/1.0 999"), Ok((999, String::new())));
    }

    #[test]
    fn what_cannot_be_passed_on() {
        use ResponseError::*;
        let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        for (text, error) in [
            ("HTTP/2.0 200 OK\r\n\r\n", StatusLine),
            ("HTTP/1.1 099 Low\r\n\r\n", StatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
            ("ICY 200 OK\r\n\r\n", StatusLine),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
            ("\x15\x03\x01", StatusLine),
            ("HTTP/1.1 200 OK\nX: y\r\n\r\n", Malformed),
            ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Malformed),
            ("HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", Malformed),
            ("HTTP/1.1 200 OK\r\nX\r\n\r\n", Malformed),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                Framing,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Framing),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Framing),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                TransferCoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                TransferCoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
                TransferCoding,
            ),
            (&large, TooLarge),
        ] {
            assert_eq!(parsed(text, "GET"), Err(error), "{text:?}");
        }
    }
}
