//! The sides of an exchange that are an HTTP/1.1 connection to an upstream, which carries this one request at a time.

use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::message::{Answering, Broken, Heads, Part, Sink, Source};
use super::translate;
use crate::http::body::{Body, BodyError, Piece, may_be_trailer};
use crate::http::fields::Fields;
use crate::http::head::{BodyFraming, HeadLimits};
use crate::http::proxy_status::ErrorType;
use crate::http::response::ResponseParser;
use crate::stream::Stream;

/// Bytes of room for a read at first, and for bulk.
const SMALL: usize = 8 << 10;
const LARGE: usize = 64 << 10;

/// The way to the upstream.
pub(crate) struct Request<'a> {
    stream: &'a Stream,
    chunked: bool,
    frame: Vec<u8>,
    /// The upstream takes no more. Its response may say why.
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
    stream: &'a Stream,
    heads: &'a H,
    method: &'a str,
    limits: HeadLimits,
    input: BytesMut,
    room: usize,
    body: Body,
    /// Framing since the last data: in the end the trailer section.
    framing: Vec<u8>,
    chunked: bool,
    keeps_alive: bool,
    /// Whether a byte of any response has come.
    begun: bool,
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
            stream,
            heads,
            method,
            limits,
            input: BytesMut::new(),
            room: SMALL,
            body: Body::new(BodyFraming::None),
            framing: Vec::new(),
            chunked: false,
            keeps_alive: false,
            begun: false,
        }
    }

    /// Whether the connection can carry another request, now that the response is complete.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keeps_alive && self.body.is_done() && self.input.is_empty()
    }

    /// Whether the upstream closed without a word.
    pub(crate) fn was_silent(&self) -> bool {
        !self.begun
    }

    /// Reads at least a byte; 0 is the end. Dropping the future loses nothing.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            let there = self.input.len();
            self.input.resize(there + self.room, 0);
            let read = self.stream.try_read(&mut self.input[there..]);
            self.input.truncate(there + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(n) => {
                    self.begun |= n > 0;
                    if n == self.room {
                        self.room = LARGE;
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.readable().await?,
                Err(e) => return Err(e),
            }
        }
    }

    fn parsed_trailers(&self) -> Option<HeaderMap> {
        // `[CRLF]0[;extension]CRLF` *field CRLF, all of it checked by the body's own parser.
        let framing = self.framing.strip_prefix(b"\r\n").unwrap_or(&self.framing);
        let size_line = framing.iter().position(|&b| b == b'\n')? + 1;
        let fields = framing.get(size_line..framing.len().checked_sub(2)?)?;
        if fields.is_empty() {
            return None;
        }
        let mut trailers = HeaderMap::new();
        for (name, value) in Fields::checked(fields) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            trailers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(trailers)
    }
}

impl<H: Heads> Source for Upstream<'_, H> {
    async fn next(&mut self) -> Result<Part, Broken> {
        loop {
            if self.body.is_done() {
                return Ok(
                    match self.chunked.then(|| self.parsed_trailers()).flatten() {
                        Some(trailers) => Part::Trailers(trailers),
                        None => Part::End,
                    },
                );
            }
            if self.input.is_empty() {
                match self.fill().await {
                    Ok(1..) => {}
                    Ok(0) => match self.body.connection_ended() {
                        Ok(()) => return Ok(Part::End),
                        Err(error) => return Err(incomplete(&error.to_string())),
                    },
                    Err(error) => return Err(incomplete(&error.to_string())),
                }
            }
            let Piece { skip, data } = self.body.next(&self.input).map_err(malformed)?;
            if self.chunked {
                self.framing.extend_from_slice(&self.input[..skip]);
            }
            self.input.advance(skip);
            if data > 0 {
                self.framing.clear();
                let data = self.input.split_to(data).freeze();
                // Of chunks the end is not known before the last of them has come.
                let last = self.body.is_done() && !self.chunked;
                return Ok(Part::Data { data, last });
            }
        }
    }

    fn taken(&mut self, _bytes: usize) {}
}

impl<H: Heads> Answering for Upstream<'_, H> {
    async fn head(&mut self) -> Result<(Response<()>, bool), Broken> {
        let mut parser = ResponseParser::new();
        loop {
            match parser.parse(&self.input, &self.limits, self.method) {
                Ok(Some((head, _))) if head.status == 101 => {
                    let why = "it switches protocols (101) though nobody asked it to";
                    return Err(Broken::Malformed(
                        ErrorType::HttpUpgradeFailed,
                        why.to_owned(),
                    ));
                }
                Ok(Some((head, length))) => {
                    let response = translate::response(&head, self.heads);
                    if !head.is_interim() {
                        self.keeps_alive = head.keeps_alive();
                        self.chunked = head.framing == BodyFraming::Chunked;
                        self.body = Body::new(head.framing);
                    }
                    self.input.advance(length);
                    return Ok((response?, self.body.is_done()));
                }
                Ok(None) => {}
                Err(error) => {
                    return Err(Broken::Malformed(error.error_type(), error.to_string()));
                }
            }
            match self.fill().await {
                Ok(1..) => {}
                Ok(0) if self.begun => return Err(incomplete("it closed the connection")),
                Ok(0) => {
                    return Err(Broken::Gone(
                        "it closed the connection before it sent a response".to_owned(),
                    ));
                }
                Err(error) if self.begun => return Err(incomplete(&error.to_string())),
                Err(error) => return Err(Broken::Gone(error.to_string())),
            }
        }
    }
}

fn incomplete(why: &str) -> Broken {
    Broken::Malformed(
        ErrorType::HttpResponseIncomplete,
        format!("its response is cut short: {why}"),
    )
}

fn malformed(error: BodyError) -> Broken {
    Broken::Malformed(ErrorType::HttpProtocolError, error.to_string())
}
