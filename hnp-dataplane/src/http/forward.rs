//! Requests carried to an upstream and responses carried back, one after the other on a client's connection: forwarding of absolute-form
//! `http://` requests and the reverse proxy both.
//!
//! ```text
//!            next head      Gate::admit      Gate::connect         exchange
//! client ──▶ (408, 400) ──▶ (407, 403…) ──▶ (502, 504…; reuse) ──▶ request ──▶ upstream
//!    ▲                                                         ◀── response ◀──┘
//!    └── keep-alive ─────────────────────────────────────────────────┘
//! ```
//!
//! Requests of one connection are handled in turn; bytes of pipelined ones wait. Each is admitted on its own. Memory is one
//! buffer towards each side, and a side that does not read stops the other's being read.
//!
//! What is asked, who may ask it, where it goes and what its head says there is the `Gate`'s; framing, time, and what may be
//! sent again are decided here, once.

mod alarm;
mod buffer;
mod connection;
mod exchange;
mod plan;
mod respond;
mod shared;

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::h2::asker::{Client, Received};
use super::h2::content::Content;
use super::h2::exchange::{Progress, Refused};
use super::head::{BodyFraming, HeadLimits, RequestHead};
use super::proxy_status::{ErrorType, Side};
use super::response::ResponseHead;
use super::rewrite;
use crate::stream::Stream;
use crate::uring;
use buffer::Buffer;
use connection::Connection;

/// A request for a connection that is shared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a> {
    /// Its head as the upstream would get it in HTTP/1.1.
    pub(crate) head: &'a [u8],
    /// How its response is read: as that to `HEAD`, or to any other.
    pub(crate) method: &'static str,
    pub(crate) framing: BodyFraming,
    /// Whether doing it twice is as good as doing it once.
    pub(crate) is_idempotent: bool,
}

/// What decides on each request and connects it. The stages of the flow, seen from here.
pub(crate) trait Gate {
    /// Where an admitted request goes.
    type Hop;

    /// Whether requests like this one are carried here. One that is not ends [`serve`] with [`End::Other`].
    fn carries(&self, head: &RequestHead<'_>) -> bool;

    /// Whether this client may send this request: credentials, policy, limits. Where it goes; its head as the next hop is to get it is
    /// added to `out`.
    fn admit(
        &self,
        head: &RequestHead<'_>,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Result<Self::Hop, Answer>>;

    /// A connection that an earlier request has left for this hop.
    fn kept(&self, hop: &Self::Hop) -> Option<Upstream>;

    /// A fresh connection to where a request was admitted to just before.
    fn connect(&self, hop: &Self::Hop) -> impl Future<Output = Result<Stream, Answer>>;

    /// A connection that can carry another request.
    fn keep(&self, hop: &Self::Hop, upstream: Upstream);

    /// Whether requests for this hop go over connections that they share, by HTTP/2: [`Gate::share`] carries them then.
    fn shares(&self, _hop: &Self::Hop) -> bool {
        false
    }

    /// Carries a request over a connection that others use at the same time.
    fn share(
        &self,
        _hop: &Self::Hop,
        _request: Shared<'_>,
        _content: &mut Content<Received<'_>>,
        _client: &mut Client<'_>,
        _progress: &Progress<'_>,
    ) -> impl Future<Output = Result<(), Refused>> {
        let why = "no connections are shared here";
        let error = ErrorType::ProxyInternalError;
        std::future::ready(Err(Answer::new(500, error, Side::Hnp, why).into()))
    }

    /// The head of a response as the client gets it, added to `out`. See [`rewrite::response_head`].
    fn respond(
        &self,
        _hop: &Self::Hop,
        head: &ResponseHead<'_>,
        close: bool,
        framed: bool,
        out: &mut Vec<u8>,
    ) {
        rewrite::response_head(head, close, framed, out);
    }

    /// Says in an answer what the request was for.
    fn about(&self, hop: &Self::Hop, answer: Answer) -> Answer;

    /// The request that was admitted last has ended, one way or the other, or none could be read: the place for a log line.
    fn finished(&self, exchange: &Exchange);

    /// Whether no further request is taken on this connection: responses then say so.
    fn is_draining(&self) -> bool {
        false
    }

    /// Ends when [`Gate::is_draining`] becomes true: an idle connection is closed then.
    fn draining(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// Limits and times of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How large heads may be, in either direction.
    pub limits: HeadLimits,
    /// From the end of an exchange to the next whole request head.
    pub head_timeout: Duration,
    /// With no byte of an exchange in either direction.
    pub idle_timeout: Duration,
}

/// Bytes of content and heads so far, on the client's side of the connection. Shared, so that they are right even when the connection
/// is dropped in the midst.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client.
    pub up: Cell<u64>,
    /// To the client.
    pub down: Cell<u64>,
}

/// What became of one request.
#[derive(Debug)]
pub struct Exchange {
    /// The status that the client got, 0 if none.
    pub status: u16,
    /// Bytes taken from the client for it, head included.
    pub up: u64,
    /// Bytes sent to the client for it, head included.
    pub down: u64,
    /// When its head was complete.
    pub started: Instant,
    /// Whether it went over a connection that an earlier request had opened.
    pub reused: bool,
    /// How it ended.
    pub end: ExchangeEnd,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// Request and response are complete.
    Complete,
    /// The upstream switched protocols; the connection is a tunnel from here on.
    Upgraded,
    /// HNP itself answered, and this is why.
    Answered(Answer),
    /// It was cut after part of the response had gone out, and this is what would have been answered.
    Cut(Answer),
    /// The client went away.
    ClientGone,
}

/// How a client's connection ended.
#[derive(Debug)]
pub enum End {
    /// Closed; every exchange has been reported.
    Closed,
    /// The protocol was switched (101): from here on bytes are relayed as they are.
    Upgraded(Upgraded),
    /// The next request is none that the gate carries: it belongs to the flow's first stage again. The bytes begin with its head.
    Other {
        /// The client.
        client: Stream,
        /// All that came and has not been used.
        received: Vec<u8>,
    },
}

/// Two streams to be relayed, and what was read from either beyond the heads.
#[derive(Debug)]
pub struct Upgraded {
    /// The client.
    pub client: Stream,
    /// The upstream.
    pub upstream: Stream,
    /// Bytes of the client's for the upstream, to be written first.
    pub to_upstream: Vec<u8>,
    /// Bytes of the upstream's for the client, to be written first.
    pub to_client: Vec<u8>,
}

/// A connection to an upstream that requests go over, one after the other.
#[derive(Debug)]
pub struct Upstream {
    stream: Stream,
    input: Buffer,
    /// When its last exchange ended.
    kept: Instant,
}

impl Upstream {
    /// A connection that nothing has come over.
    pub(crate) fn new(stream: Stream) -> Self {
        Upstream {
            stream,
            input: Buffer::new(),
            kept: uring::now(),
        }
    }

    /// How long it has idled.
    pub fn idle(&self) -> Duration {
        uring::now().saturating_duration_since(self.kept)
    }

    /// What it is a connection by.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether it can carry another request: an upstream that closed, or spoke without being asked, cannot. To be `sure` takes a system
    /// call; else what the worker's queue has said of it so far will do.
    pub fn is_usable(&mut self, sure: bool) -> bool {
        self.input.is_silent(&self.stream, sure)
    }

    /// Ends the connection in order.
    pub fn close(self) {
        if self.stream.session().is_some() {
            // Where the peer is gone already there is nobody to tell.
            let _ = self.stream.shutdown_write();
        }
    }
}

/// Serves a client's connection from its first request on. `received` is what was read already, from the first byte of that request's
/// head.
pub(crate) async fn serve<G: Gate>(
    client: Stream,
    received: Vec<u8>,
    options: Options,
    traffic: Rc<Traffic>,
    gate: &G,
) -> End {
    let draining = pin!(gate.draining());
    let connection = Connection::new(client, received, options, traffic, gate, draining);
    connection.serve().await
}

#[cfg(test)]
mod tests;
