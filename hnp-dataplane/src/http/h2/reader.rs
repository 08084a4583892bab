//! The content of an HTTP/1.1 message as it comes off a connection, whoever sends it.

use std::io;

use bytes::{Buf as _, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::message::Part;
use crate::http::body::{Body, BodyError, Piece};
use crate::http::fields::Fields;
use crate::http::head::BodyFraming;
use crate::stream::Stream;

/// Bytes of room for a read at first, and for bulk.
const SMALL: usize = 8 << 10;
const LARGE: usize = 64 << 10;

/// Why content cannot be read to its end.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Its framing is broken.
    Framing(BodyError),
    /// The connection ended, or broke, first.
    Ended(String),
}

/// Reads one message after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    stream: &'a Stream,
    /// What came and has not been given.
    pub(crate) input: BytesMut,
    room: usize,
    body: Body,
    /// Framing since the last data: in the end the trailer section.
    framing: Vec<u8>,
    chunked: bool,
    /// Whether a byte has come.
    begun: bool,
}

impl Reader<'_> {
    /// `input` is what came already.
    pub(crate) fn new(stream: &Stream, input: BytesMut) -> Reader<'_> {
        Reader {
            stream,
            input,
            room: SMALL,
            body: Body::new(BodyFraming::None),
            framing: Vec::new(),
            chunked: false,
            begun: false,
        }
    }

    /// What comes next is content, framed like this.
    pub(crate) fn expect(&mut self, framing: BodyFraming) {
        self.chunked = framing == BodyFraming::Chunked;
        self.body = Body::new(framing);
    }

    /// Whether all of the content has come.
    pub(crate) fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether anything has come since it was made.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Reads at least a byte; 0 is the end. Dropping the future loses nothing.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
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

    /// The next part of the content. Dropping the future loses nothing.
    pub(crate) async fn part(&mut self) -> Result<Part, Unread> {
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
                        Err(error) => return Err(Unread::Ended(error.to_string())),
                    },
                    Err(error) => return Err(Unread::Ended(error.to_string())),
                }
            }
            let Piece { skip, data } = self.body.next(&self.input).map_err(Unread::Framing)?;
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
