//! What HNP itself says to a client: who is at fault, what failed, why, and what to do.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::head::HeadError;
use super::proxy_status::{ErrorType, Side};
use crate::target::Target;

/// The answer to a CONNECT that has its tunnel (RFC 9110 section 9.3.6): no field that announces content.
pub const CONNECTION_ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Bytes of a message that are shown; the rest is cut.
const MESSAGE_LIMIT: usize = 512;

/// A complete response that refuses a request and ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    error: ErrorType,
    side: Side,
    about: Option<String>,
    why: Cow<'static, str>,
    retry_after: Option<Duration>,
    realm: Option<String>,
    allow: Option<&'static str>,
}

impl Answer {
    /// An answer of `status` because `error` happened by the fault of `side`. `why` is one sentence part: it must hold no
    /// query string and no credential; anything unprintable in it is replaced.
    pub fn new(
        status: u16,
        error: ErrorType,
        side: Side,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Answer {
            status,
            error,
            side,
            about: None,
            why: why.into(),
            retry_after: None,
            realm: None,
            allow: None,
        }
    }

    /// Says what the request was for.
    #[must_use]
    pub fn about(mut self, target: &Target) -> Self {
        self.about = Some(target.to_string());
        self
    }

    /// Says when to try again; rounded up to whole seconds, one at least (429, 503).
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Asks for Basic credentials (407, RFC 7617).
    #[must_use]
    pub fn authenticate(mut self, realm: &str) -> Self {
        self.realm = Some(realm.to_owned());
        self
    }

    /// Says which methods would do (405).
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// 408: no complete request head within `limit`.
    #[must_use]
    pub fn head_timeout(limit: Duration) -> Self {
        let why = format!("no complete request head came within {limit:?} (timeouts.head)");
        Answer::new(408, ErrorType::HttpRequestError, Side::Client, why)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The type in `Proxy-Status`.
    #[must_use]
    pub fn error_type(&self) -> ErrorType {
        self.error
    }

    /// Whose fault it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Why, as given.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The bytes of the response.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut response = self.head_and_body();
        response.0.push_str(&response.1);
        response.0.into_bytes()
    }

    /// The bytes of the response to a HEAD request: the same without the body.
    #[must_use]
    pub fn to_bytes_without_body(&self) -> Vec<u8> {
        self.head_and_body().0.into_bytes()
    }

    fn head_and_body(&self) -> (String, String) {
        let Answer {
            status,
            error,
            side,
            ..
        } = self;
        let reason = reason_phrase(*status);
        let mut why = printable(&self.why);
        if let Some(about) = &self.about {
            why.insert_str(0, ": ");
            why.insert_str(0, about);
        }
        let body = format!("HNP answers {status} {reason} (at fault: {side}): {why}\n");

        let mut head = String::with_capacity(512);
        // Writing to a String cannot fail.
        let _ = write!(
            head,
            "HTTP/1.1 {status} {reason}\r\nProxy-Status: hnp; error={error}; details=\"{}\"\r\n",
            escaped(&why)
        );
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let _ = write!(head, "Retry-After: {}\r\n", seconds.max(1));
        }
        if let Some(realm) = &self.realm {
            let realm = escaped(&printable(realm));
            let _ = write!(
                head,
                "Proxy-Authenticate: Basic realm=\"{realm}\", charset=\"UTF-8\"\r\n"
            );
        }
        if let Some(methods) = self.allow {
            let _ = write!(head, "Allow: {methods}\r\n");
        }
        let _ = write!(
            head,
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        (head, body)
    }
}

impl From<HeadError> for Answer {
    fn from(error: HeadError) -> Self {
        Answer::new(
            error.status(),
            error.error_type(),
            error.side(),
            error.to_string(),
        )
    }
}

/// The reason phrase of a status that HNP sends.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}

/// Only what may stand in a structured field's string (RFC 8941 section 3.3.3) and in one line of text, not too much of it.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '.'
        }
    };
    text.chars().take(MESSAGE_LIMIT).map(plain).collect()
}

/// With `"` and `\` escaped, as quoted strings want them.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer) -> String {
        String::from_utf8(answer.to_bytes()).unwrap()
    }

    #[test]
    fn says_who_what_and_why() {
        let target = Target::parse_authority(b"evil.example:443").unwrap();
        let answer = Answer::new(
            403,
            ErrorType::HttpRequestDenied,
            Side::Configuration,
            "no rule allows it",
        )
        .about(&target);
        assert_eq!(
            text(&answer),
            "HTTP/1.1 403 Forbidden\r\n\
             Proxy-Status: hnp; error=http_request_denied; details=\"evil.example:443: no rule allows it\"\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 89\r\n\
             Connection: close\r\n\
             \r\n\
             HNP answers 403 Forbidden (at fault: configuration): evil.example:443: no rule allows it\n"
        );
        assert!(
            answer
                .to_bytes()
                .starts_with(&answer.to_bytes_without_body())
        );
        assert!(answer.to_bytes_without_body().ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn nothing_unescaped_gets_out() {
        let answer = Answer::new(
            400,
            ErrorType::HttpRequestError,
            Side::Client,
            "a\"b\\c\r\nSet-Cookie: x\u{e9}\0",
        )
        .authenticate("re\"alm\r\nX: y");
        let text = text(&answer);
        assert!(
            text.contains("details=\"a\\\"b\\\\c..Set-Cookie: x..\""),
            "{text}"
        );
        assert!(
            text.contains("Basic realm=\"re\\\"alm..X: y\", charset=\"UTF-8\"\r\n"),
            "{text}"
        );
        assert!(
            !text.contains("\nSet-Cookie") && !text.contains("\nX:"),
            "{text}"
        );
        assert_eq!(text.matches("\r\n\r\n").count(), 1);
    }

    #[test]
    fn a_long_message_is_cut() {
        let answer = Answer::new(
            400,
            ErrorType::HttpRequestError,
            Side::Client,
            "x".repeat(100_000),
        );
        assert!(answer.to_bytes().len() < 2000);
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        let answer = Answer::new(503, ErrorType::ConnectionLimitReached, Side::Hnp, "full");
        let with = |wait| text(&answer.clone().retry_after(Duration::from_millis(wait)));
        assert!(with(0).contains("\r\nRetry-After: 1\r\n"));
        assert!(with(1001).contains("\r\nRetry-After: 2\r\n"));
        assert!(with(2000).contains("\r\nRetry-After: 2\r\n"));
    }
}
