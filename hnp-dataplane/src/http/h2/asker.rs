//! The sides of an exchange that are an HTTP/1.1 client, where the upstream is spoken to in HTTP/2.

use std::future::poll_fn;
use std::io::Write as _;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};

use super::exchange::Progress;
use super::message::{Asking, Broken, Part, Sink, Source};
use super::plain;
use super::reader::{Reader, Unread};
use crate::http::answer::reason_phrase;
use crate::http::head::BodyFraming;
use crate::http::proxy_status::ErrorType;
use crate::http::rewrite::write_field;
use crate::stream::Stream;

/// The content of a client's request.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    reader: Reader<'a>,
}

impl Received<'_> {
    /// `input` is what came already, from the first byte behind the head.
    pub(crate) fn new<'a>(stream: &'a Stream, input: &[u8], framing: BodyFraming) -> Received<'a> {
        let mut reader = Reader::new(stream, BytesMut::from(input));
        reader.expect(framing);
        Received { reader }
    }

    /// What came behind the content: of the next request.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.reader.input.into()
    }
}

impl Source for Received<'_> {
    async fn next(&mut self) -> Result<Part, Broken> {
        self.reader.part().await.map_err(|unread| match unread {
            Unread::Framing(error) => {
                Broken::Malformed(ErrorType::HttpRequestError, error.to_string())
            }
            Unread::Ended(why) => Broken::Gone(why),
        })
    }

    fn taken(&mut self, _bytes: usize) {}
}

/// What matters of a request to how its response is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Its response has no content.
    pub(crate) is_head: bool,
    /// The client understands chunks and interim responses.
    pub(crate) knows_http11: bool,
    /// The connection may be used again.
    pub(crate) keeps: bool,
}

/// A client that waits for its response.
pub(crate) struct Client<'a> {
    stream: &'a Stream,
    asked: Asked,
    progress: &'a Progress<'a>,
    content: plain::Request<'a>,
    /// The response has no content, whatever comes.
    bodyless: bool,
    keeps: bool,
    /// A head has been begun that nothing else can follow.
    spoken: bool,
}

impl<'a> Client<'a> {
    pub(crate) fn new(stream: &'a Stream, asked: Asked, progress: &'a Progress<'a>) -> Client<'a> {
        Client {
            stream,
            asked,
            progress,
            content: plain::Request::new(stream, BodyFraming::None),
            bodyless: false,
            keeps: false,
            spoken: false,
        }
    }

    /// Whether another request may follow, now that the response is complete.
    pub(crate) fn is_kept(&self) -> bool {
        self.keeps
    }

    /// Whether it is too late for an answer of HNP's own.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let written = self.stream.write_all(bytes).await;
        written.map_err(|error| Broken::Gone(error.to_string()))
    }

    /// How the content behind a final head is framed; adds the field that says so.
    fn frame(&mut self, head: &Response<()>, end: bool, out: &mut Vec<u8>) -> BodyFraming {
        let status = head.status();
        // The library has seen to it that there is one, a number, and that it is true.
        let length = head.headers().get(header::CONTENT_LENGTH);
        self.bodyless = self.asked.is_head
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if self.bodyless {
            // Only a response to HEAD and a 304 have a length without content (RFC 9110 section 8.6).
            if let Some(length) = length.filter(|_| status != StatusCode::NO_CONTENT) {
                write_field(out, "content-length", length.as_bytes());
            }
            return BodyFraming::None;
        }
        match length {
            Some(length) => {
                write_field(out, "content-length", length.as_bytes());
                // Its value has been checked by who counts the bytes.
                BodyFraming::Length(0)
            }
            None if end => {
                write_field(out, "content-length", b"0");
                BodyFraming::None
            }
            None if self.asked.knows_http11 => {
                write_field(out, "transfer-encoding", b"chunked");
                BodyFraming::Chunked
            }
            None => BodyFraming::UntilClose,
        }
    }
}

impl Sink for Client<'_> {
    async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        if self.bodyless {
            return Ok(());
        }
        self.content.data(data, last).await
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Broken> {
        if self.bodyless {
            return Ok(());
        }
        self.content.trailers(trailers).await
    }

    async fn end(&mut self) -> Result<(), Broken> {
        self.data(Bytes::new(), true).await
    }

    async fn broken(&mut self) -> Broken {
        // While content is read, reading tells; and only one may wait for bytes of a stream. When the request has been sent whole, whoever
        // drives the exchange asks here again.
        let progress = self.progress;
        poll_fn(|_| match progress.sent.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        Broken::Gone(self.stream.broken().await.to_string())
    }
}

impl Asking for Client<'_> {
    async fn interim(&mut self, head: Response<()>) -> Result<(), Broken> {
        // A client of HTTP/1.0 would not understand it.
        if !self.asked.knows_http11 {
            return Ok(());
        }
        let mut out = status_line(&head);
        write_fields(&mut out, head.headers());
        out.extend_from_slice(b"\r\n");
        // Part of it may be on its way: nothing else can follow that.
        self.spoken = true;
        self.write(&out).await?;
        self.spoken = false;
        Ok(())
    }

    async fn head(&mut self, head: Response<()>, end: bool) -> Result<(), Broken> {
        let mut out = status_line(&head);
        write_fields(&mut out, head.headers());
        let framing = self.frame(&head, end, &mut out);
        self.content = plain::Request::new(self.stream, framing);
        // Content that is still to come would be read as the next request.
        self.keeps =
            self.asked.keeps && framing != BodyFraming::UntilClose && self.progress.sent.get();
        if !self.keeps {
            write_field(&mut out, "connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        self.spoken = true;
        self.write(&out).await
    }
}

fn status_line(head: &Response<()>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let status = head.status();
    let reason = status
        .canonical_reason()
        .unwrap_or_else(|| reason_phrase(status.as_u16()));
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    out
}

/// All fields but those that frame the content.
fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        if name != header::CONTENT_LENGTH {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
}
