//! The sides of an exchange that are streams of HTTP/2 connections.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};

use super::message::{Answering, Asking, Broken, Heads, Part, Sink, Source};
use super::{plain, translate};

/// The content of a client's request, as its stream receives it.
pub(crate) struct Received {
    stream: RecvStream,
}

impl Received {
    pub(crate) fn new(stream: RecvStream) -> Received {
        Received { stream }
    }

    /// Whether the client has said that there is none. To be asked before any is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.stream.is_end_stream()
    }
}

impl Source for Received {
    async fn next(&mut self) -> Result<Part, Broken> {
        next(&mut self.stream).await
    }

    fn taken(&mut self, bytes: usize) {
        give_back(&mut self.stream, bytes);
    }
}

/// The next part of what a stream receives.
async fn next(stream: &mut RecvStream) -> Result<Part, Broken> {
    loop {
        match poll_fn(|cx| stream.poll_data(cx)).await {
            Some(Ok(data)) => {
                let last = stream.is_end_stream();
                if last || !data.is_empty() {
                    return Ok(Part::Data { data, last });
                }
            }
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Ok(match poll_fn(|cx| stream.poll_trailers(cx)).await? {
                    Some(trailers) => Part::Trailers(trailers),
                    None => Part::End,
                });
            }
        }
    }
}

fn give_back(stream: &mut RecvStream, bytes: usize) {
    // It fails only where more is given back than has come.
    let _ = stream.flow_control().release_capacity(bytes);
}

/// The stream of a client that waits for its response.
pub(crate) struct Client {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Client {
    pub(crate) fn new(respond: SendResponse<Bytes>) -> Client {
        Client {
            respond,
            stream: None,
        }
    }

    /// Gives the stream up.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    fn stream(&mut self) -> Result<&mut SendStream<Bytes>, Broken> {
        self.stream
            .as_mut()
            .ok_or_else(|| Broken::Gone("its response has not begun".to_owned()))
    }
}

impl Sink for Client {
    async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        send(self.stream()?, data, last).await
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Broken> {
        Ok(self.stream()?.send_trailers(trailers)?)
    }

    async fn end(&mut self) -> Result<(), Broken> {
        Ok(self.stream()?.send_data(Bytes::new(), true)?)
    }

    async fn broken(&mut self) -> Broken {
        match &mut self.stream {
            Some(stream) => reset(stream).await,
            None => match poll_fn(|cx| self.respond.poll_reset(cx)).await {
                Ok(reason) => Broken::Reset(reason),
                Err(error) => error.into(),
            },
        }
    }
}

impl Asking for Client {
    async fn interim(&mut self, head: Response<()>) -> Result<(), Broken> {
        Ok(self.respond.send_informational(head)?)
    }

    async fn head(&mut self, head: Response<()>, end: bool) -> Result<(), Broken> {
        self.stream = Some(self.respond.send_response(head, end)?);
        Ok(())
    }
}

/// Sends as much as the peer and the buffer have room for, and waits for the rest.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), Broken> {
    if data.is_empty() {
        return if last {
            Ok(stream.send_data(data, true)?)
        } else {
            Ok(())
        };
    }
    loop {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(Broken::Gone("its stream is closed".to_owned())),
            },
            room => room,
        };
        let now = data.split_to(room.min(data.len()));
        if now.is_empty() {
            continue;
        }
        let done = data.is_empty();
        stream.send_data(now, last && done)?;
        if done {
            return Ok(());
        }
    }
}

async fn reset(stream: &mut SendStream<Bytes>) -> Broken {
    match poll_fn(|cx| stream.poll_reset(cx)).await {
        Ok(Reason::REFUSED_STREAM) => Broken::Unprocessed("REFUSED_STREAM"),
        Ok(reason) => Broken::Reset(reason),
        Err(error) => error.into(),
    }
}

/// The sending half of an upstream's stream.
pub(crate) struct Request {
    stream: SendStream<Bytes>,
}

impl Request {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Request {
        Request { stream }
    }

    /// Gives the stream up.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

impl Sink for Request {
    async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        send(&mut self.stream, data, last).await
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Broken> {
        Ok(self.stream.send_trailers(trailers)?)
    }

    async fn end(&mut self) -> Result<(), Broken> {
        Ok(self.stream.send_data(Bytes::new(), true)?)
    }

    async fn broken(&mut self) -> Broken {
        reset(&mut self.stream).await
    }
}

/// The receiving half of an upstream's stream.
pub(crate) struct Upstream<'a, H> {
    response: ResponseFuture,
    content: Option<RecvStream>,
    heads: &'a H,
}

impl<H: Heads> Upstream<'_, H> {
    pub(crate) fn new(response: ResponseFuture, heads: &H) -> Upstream<'_, H> {
        Upstream {
            response,
            content: None,
            heads,
        }
    }
}

impl<H: Heads> Source for Upstream<'_, H> {
    async fn next(&mut self) -> Result<Part, Broken> {
        match &mut self.content {
            Some(content) => next(content).await,
            None => Ok(Part::End),
        }
    }

    fn taken(&mut self, bytes: usize) {
        if let Some(content) = &mut self.content {
            give_back(content, bytes);
        }
    }
}

impl<H: Heads> Answering for Upstream<'_, H> {
    async fn head(&mut self) -> Result<(Response<()>, bool), Broken> {
        let response = &mut self.response;
        let head = poll_fn(|cx| {
            // `None` says that no interim response stands before the final one.
            if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                return Poll::Ready(interim.map(Head::Interim));
            }
            Pin::new(&mut *response).poll(cx).map_ok(Head::Final)
        })
        .await?;
        Ok(match head {
            // HTTP/2 has no such status (RFC 9113 section 8.6), and an HTTP/1.1 client would believe it.
            Head::Interim(head) if head.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(plain::unasked_switch());
            }
            Head::Interim(head) => (translate::response_between(head, self.heads), false),
            Head::Final(response) => {
                let (head, content) = response.into_parts();
                let end = content.is_end_stream();
                self.content = Some(content);
                let head = Response::from_parts(head, ());
                (translate::response_between(head, self.heads), end)
            }
        })
    }
}

enum Head {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}
