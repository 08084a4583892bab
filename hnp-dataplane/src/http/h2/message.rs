//! What the two sides of an exchange are to each other, whatever version of HTTP they speak.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};

use crate::http::proxy_status::ErrorType;
use crate::http::response::ResponseHead;
use crate::http::reverse::Rewriter;

/// A part of a message's content.
#[derive(Debug)]
pub(crate) enum Part {
    /// Some of it; `last` where it is known already that nothing follows.
    Data {
        /// At least a byte, unless it is the last.
        data: Bytes,
        /// Whether the message ends with it.
        last: bool,
    },
    /// The trailer section, which ends the message.
    Trailers(HeaderMap),
    /// Nothing more.
    End,
}

/// Where content comes from.
pub(crate) trait Source {
    /// The next part. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Result<Part, Broken>>;

    /// The other side has taken `bytes` of what was given.
    fn taken(&mut self, bytes: usize);

    /// The request is in the hands of the upstream: it will not be sent again.
    fn settle(&mut self) {}
}

/// Where content goes.
pub(crate) trait Sink {
    /// Passes data on; done when it has gone as far as backpressure allows.
    fn data(&mut self, data: Bytes, last: bool) -> impl Future<Output = Result<(), Broken>>;

    /// Ends the message with trailers.
    fn trailers(&mut self, trailers: HeaderMap) -> impl Future<Output = Result<(), Broken>>;

    /// Ends the message.
    fn end(&mut self) -> impl Future<Output = Result<(), Broken>>;

    /// Ends when it is known that nothing can be sent any more.
    fn broken(&mut self) -> impl Future<Output = Broken>;
}

/// How the heads of responses are rewritten for their client.
pub(crate) trait Heads {
    /// The head of an HTTP/1.1 response as an HTTP/1.1 client would get it, added to `out`.
    fn response(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>);

    /// A `Location` as the client can follow it, where that is another than the upstream's.
    fn location(&self, location: &[u8]) -> Option<Vec<u8>>;
}

impl Heads for Rewriter {
    fn response(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) {
        self.response_head(head, false, true, out);
    }

    fn location(&self, location: &[u8]) -> Option<Vec<u8>> {
        match Rewriter::location(self, location) {
            Cow::Borrowed(_) => None,
            Cow::Owned(other) => Some(other),
        }
    }
}

/// An upstream that has got a request: its response, then the content of that.
pub(crate) trait Answering: Source {
    /// The next head, interim ones (1xx) included, and whether the message ends with it.
    fn head(&mut self) -> impl Future<Output = Result<(Response<()>, bool), Broken>>;
}

/// A client that waits for its response.
pub(crate) trait Asking: Sink {
    /// Sends an interim response.
    fn interim(&mut self, head: Response<()>) -> impl Future<Output = Result<(), Broken>>;

    /// Sends the final head.
    fn head(&mut self, head: Response<()>, end: bool) -> impl Future<Output = Result<(), Broken>>;
}

/// Why one side of an exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It gave the stream up with this code (RST_STREAM).
    Reset(Reason),
    /// It has not looked at the request, and says so: REFUSED_STREAM, or a GOAWAY that leaves the stream out (RFC 9113 section 8.7).
    Unprocessed(&'static str),
    /// The connection is gone.
    Gone(String),
    /// It breaks the protocol.
    Malformed(ErrorType, String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Reset(reason) => write!(f, "reset the stream ({})", name(*reason)),
            Broken::Unprocessed(how) => write!(f, "did not take the request ({how})"),
            Broken::Gone(why) => write!(f, "is gone: {why}"),
            Broken::Malformed(_, why) => write!(f, "breaks the protocol: {why}"),
        }
    }
}

/// The name of an error code, as RFC 9113 section 7 has it.
pub(crate) fn name(reason: Reason) -> String {
    format!("{reason:?}")
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Broken {
        match error.reason() {
            Some(Reason::REFUSED_STREAM) if error.is_remote() => {
                Broken::Unprocessed("REFUSED_STREAM")
            }
            Some(_) if error.is_go_away() && error.is_remote() => Broken::Unprocessed("GOAWAY"),
            Some(reason) if error.is_remote() => Broken::Reset(reason),
            Some(_) => Broken::Malformed(ErrorType::HttpProtocolError, error.to_string()),
            None => Broken::Gone(error.to_string()),
        }
    }
}
