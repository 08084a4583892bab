//! The sides of an exchange that are an HTTP/1.1 connection to an upstream, which carries this one request at a time.

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Response};

use super::message::{Answering, Broken, Heads, Part, Sink, Source};
use super::reader::{Reader, Unread};
use super::translate;
use crate::http::body::may_be_trailer;
use crate::http::head::{BodyFraming, HeadLimits};
use crate::http::proxy_status::ErrorType;
use crate::http::response::ResponseParser;
use crate::stream::Stream;

/// The way to whom content is sent in HTTP/1.1, behind a head.
pub(crate) struct Request<'a> {
    stream: &'a Stream,
    chunked: bool,
    frame: Vec<u8>,
    /// It takes no more. Where it is an upstream, its response may say why.
    deaf: bool,
}

impl Request<'_> {
    /// For content that is framed as the head, which was sent before, says.
    pub(crate) fn new(stream: &Stream, framing: BodyFraming) -> Request<'_> {
        Request {
            stream,
            chunked: framing == BodyFraming::Chunked,
            frame: Vec::new(),
            deaf: false,
        }
    }

    async fn write(&mut self) -> Result<(), Broken> {
        let written = self.stream.write_all(&self.frame).await;
        self.frame.clear();
        written.map_err(|error| {
            self.deaf = true;
            Broken::Gone(error.to_string())
        })
    }
}

impl Sink for Request<'_> {
    async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        if !self.chunked {
            return self.stream.write_all(&data).await.map_err(|error| {
                self.deaf = true;
                Broken::Gone(error.to_string())
            });
        }
        // Head, data and end in one piece: one record of TLS, one packet.
        if !data.is_empty() {
            // Writing to a Vec cannot fail.
            let _ = write!(self.frame, "{:x}\r\n", data.len());
            self.frame.extend_from_slice(&data);
            self.frame.extend_from_slice(b"\r\n");
        }
        if last {
            self.frame.extend_from_slice(b"0\r\n\r\n");
        }
        self.write().await
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Broken> {
        if !self.chunked {
            // Content-Length leaves no room for them, and a trailer may always be dropped (RFC 9110 section 6.5.1).
            return Ok(());
        }
        self.frame.extend_from_slice(b"0\r\n");
        for (name, value) in &trailers {
            if may_be_trailer(name.as_str().as_bytes()) {
                self.frame.extend_from_slice(name.as_str().as_bytes());
                self.frame.extend_from_slice(b": ");
                self.frame.extend_from_slice(value.as_bytes());
                self.frame.extend_from_slice(b"\r\n");
            }
        }
        self.frame.extend_from_slice(b"\r\n");
        self.write().await
    }

    async fn end(&mut self) -> Result<(), Broken> {
        self.data(Bytes::new(), true).await
    }

    async fn broken(&mut self) -> Broken {
        if self.deaf {
            return Broken::Gone("it takes nothing more".to_owned());
        }
        // What reads the response learns it.
        std::future::pending().await
    }
}

/// The way back.
pub(crate) struct Upstream<'a, H> {
    reader: Reader<'a>,
    heads: &'a H,
    method: &'a str,
    limits: HeadLimits,
    keeps_alive: bool,
}

impl<H: Heads> Upstream<'_, H> {
    /// For the response to a request of `method`.
    pub(crate) fn new<'a>(
        stream: &'a Stream,
        method: &'a str,
        limits: HeadLimits,
        heads: &'a H,
    ) -> Upstream<'a, H> {
        Upstream {
            reader: Reader::new(stream, BytesMut::new()),
            heads,
            method,
            limits,
            keeps_alive: false,
        }
    }

    /// Whether the connection can carry another request, now that the response is complete.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keeps_alive && self.reader.is_done() && self.reader.input.is_empty()
    }

    /// Whether the upstream closed without a word.
    pub(crate) fn was_silent(&self) -> bool {
        !self.reader.has_begun()
    }
}

impl<H: Heads> Source for Upstream<'_, H> {
    async fn next(&mut self) -> Result<Part, Broken> {
        self.reader.part().await.map_err(|unread| match unread {
            Unread::Framing(error) => {
                Broken::Malformed(ErrorType::HttpProtocolError, error.to_string())
            }
            Unread::Ended(why) => incomplete(&why),
        })
    }

    fn taken(&mut self, _bytes: usize) {}
}

impl<H: Heads> Answering for Upstream<'_, H> {
    async fn head(&mut self) -> Result<(Response<()>, bool), Broken> {
        let mut parser = ResponseParser::new();
        loop {
            match parser.parse(&self.reader.input, &self.limits, self.method) {
                Ok(Some((head, _))) if head.status == 101 => return Err(unasked_switch()),
                Ok(Some((head, length))) => {
                    let response = translate::response(&head, self.heads);
                    if !head.is_interim() {
                        self.keeps_alive = head.keeps_alive();
                        self.reader.expect(head.framing);
                    }
                    self.reader.input.advance(length);
                    return Ok((response?, self.reader.is_done()));
                }
                Ok(None) => {}
                Err(error) => {
                    return Err(Broken::Malformed(error.error_type(), error.to_string()));
                }
            }
            match self.reader.fill().await {
                Ok(1..) => {}
                Ok(0) if self.reader.has_begun() => {
                    return Err(incomplete("it closed the connection"));
                }
                Ok(0) => {
                    return Err(Broken::Gone(
                        "it closed the connection before it sent a response".to_owned(),
                    ));
                }
                Err(error) if self.reader.has_begun() => {
                    return Err(incomplete(&error.to_string()));
                }
                Err(error) => return Err(Broken::Gone(error.to_string())),
            }
        }
    }
}

/// The upstream answers 101 to a request that does not ask for it.
pub(crate) fn unasked_switch() -> Broken {
    let why = "it switches protocols (101) though nobody asked it to";
    Broken::Malformed(ErrorType::HttpUpgradeFailed, why.to_owned())
}

fn incomplete(why: &str) -> Broken {
    Broken::Malformed(
        ErrorType::HttpResponseIncomplete,
        format!("its response is cut short: {why}"),
    )
}
