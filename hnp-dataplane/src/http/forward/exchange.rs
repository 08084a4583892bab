//! One request and its response, both ways at once.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::buffer::Buffer;
use super::plan::Plan;
use super::respond::Response;
use super::{Gate, Options, Upstream};
use crate::http::answer::Answer;
use crate::http::body::{Body, BodyError};
use crate::http::proxy_status::{ErrorType, Side};
use crate::stream::Stream;
use crate::uring;

/// Bytes that are read of later requests while one is under way.
const AHEAD_LIMIT: usize = 8 << 10;

/// What came of an exchange.
pub(super) struct Done {
    /// Bytes of the request's content.
    pub(super) up: u64,
    /// Bytes of the response, as the client got it.
    pub(super) down: u64,
    /// The status that the client got, 0 while none.
    pub(super) status: u16,
    /// Whether any of the final response has gone to the client.
    pub(super) responded: bool,
    /// Whether the request is still here in whole and may be sent again: nothing of it was sent, or sending it twice does no harm.
    pub(super) may_repeat: bool,
    pub(super) result: Result<Kept, Failure>,
}

/// Which connections can be used again.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) client: bool,
    pub(super) upstream: bool,
    pub(super) upgraded: bool,
}

impl Kept {
    /// Nothing can be used again once part of a request had nowhere to go.
    fn unless_deaf(self, shared: &Shared) -> Self {
        let usable = self.upgraded || !shared.upstream_deaf.get();
        Kept {
            client: self.client && usable,
            upstream: self.upstream && usable,
            ..self
        }
    }
}

/// Why there is no complete exchange.
pub(super) enum Failure {
    /// The upstream closed before it said a word.
    Silent(Answer),
    /// To be told to the client, while it can be told.
    Fault(Answer),
    /// There is nobody to tell.
    ClientGone,
}

/// What both directions know of each other.
pub(super) struct Shared {
    active: Cell<Instant>,
    pub(super) up: Cell<u64>,
    pub(super) down: Cell<u64>,
    pub(super) status: Cell<u16>,
    pub(super) responded: Cell<bool>,
    pub(super) continued: Cell<bool>,
    awaits_client: Cell<bool>,
    pub(super) upstream_deaf: Cell<bool>,
    /// Bytes at the start of the client's buffer that are sent and still kept, to be sent again where that is allowed.
    held: Cell<usize>,
    /// Something of the request has been handed to the upstream's connection.
    begun: Cell<bool>,
    /// Some of the request's content is not here any more.
    streamed: Cell<bool>,
    /// The request is sent, as far as the upstream took it.
    sent: Cell<bool>,
    /// The upstream has said something.
    pub(super) heard: Cell<bool>,
}

impl Shared {
    fn new() -> Self {
        Shared {
            active: Cell::new(uring::now()),
            up: Cell::new(0),
            down: Cell::new(0),
            status: Cell::new(0),
            responded: Cell::new(false),
            continued: Cell::new(false),
            awaits_client: Cell::new(false),
            upstream_deaf: Cell::new(false),
            held: Cell::new(0),
            begun: Cell::new(false),
            streamed: Cell::new(false),
            sent: Cell::new(false),
            heard: Cell::new(false),
        }
    }

    pub(super) fn touch(&self) {
        self.active.set(uring::now());
    }

    /// Writes all of `bytes`, and lets every byte that leaves count as a sign of life.
    pub(super) async fn write_all(&self, to: &Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.try_write(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    self.touch();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// An exchange about to begin.
pub(super) struct Run<'a, G: Gate> {
    pub(super) client: &'a Stream,
    pub(super) plan: &'a Plan,
    pub(super) hop: &'a G::Hop,
    /// The request's head as the upstream gets it.
    pub(super) head: &'a [u8],
    pub(super) options: &'a Options,
    pub(super) may_keep: bool,
    pub(super) gate: &'a G,
}

impl<G: Gate> Run<'_, G> {
    /// Sends the request and passes the response on, both at once. `input` begins with the request's content.
    pub(super) async fn run(
        &self,
        input: &mut Buffer,
        upstream: &mut Upstream,
        alarm: &mut Alarm,
    ) -> Done {
        let shared = Shared::new();
        let result = self.both_ways(input, upstream, alarm, &shared).await;
        let silent = matches!(result, Err(Failure::Silent(_)));
        let harmless = !shared.begun.get() || self.plan.is_idempotent;
        let may_repeat = silent && harmless && !shared.streamed.get();
        let held = shared.held.get();
        if may_repeat && held > 0 {
            // The head is put before the content anew.
            input.consume(self.head.len());
        } else {
            input.consume(held);
        }
        Done {
            up: shared.up.get(),
            down: shared.down.get(),
            status: shared.status.get(),
            responded: shared.responded.get(),
            may_repeat,
            result,
        }
    }

    async fn both_ways(
        &self,
        input: &mut Buffer,
        upstream: &mut Upstream,
        alarm: &mut Alarm,
        shared: &Shared,
    ) -> Result<Kept, Failure> {
        let Upstream {
            stream,
            input: back,
            ..
        } = upstream;
        let kept = Cell::new(None);
        let mut request = pin!(self.serve_request(input, stream, shared, &kept));
        let response = Response {
            upstream: stream,
            run: self,
            shared,
        };
        let mut response = pin!(response.pass_on(back));
        let limit = self.options.idle_timeout;
        std::future::poll_fn(|cx| {
            if kept.get().is_none()
                && let Poll::Ready(outcome) = response.as_mut().poll(cx)
            {
                let outcome: Kept = match outcome {
                    Ok(outcome) => outcome,
                    Err(failure) => return Poll::Ready(Err(failure)),
                };
                if shared.sent.get() {
                    return Poll::Ready(Ok(outcome.unless_deaf(shared)));
                }
                if !(outcome.client && outcome.upstream) {
                    // The rest of the request is not wanted any more; what the client still sends must not be read as
                    // its next request.
                    return Poll::Ready(Ok(Kept {
                        client: false,
                        upstream: false,
                        ..outcome
                    }));
                }
                kept.set(Some(outcome));
            }
            if let Poll::Ready(outcome) = request.as_mut().poll(cx) {
                return Poll::Ready(outcome.map(|kept| kept.unless_deaf(shared)));
            }
            if alarm.poll(shared.active.get() + limit, cx).is_ready() {
                return Poll::Ready(Err(Failure::Fault(timed_out(limit, shared))));
            }
            Poll::Pending
        })
        .await
    }

    /// Sends the request, then watches the client while the response is on its way. Ends with what is kept if the response was
    /// complete first, and with the failure if the client goes away.
    async fn serve_request(
        &self,
        input: &mut Buffer,
        upstream: &Stream,
        shared: &Shared,
        kept: &Cell<Option<Kept>>,
    ) -> Result<Kept, Failure> {
        self.send_request(input, upstream, shared).await?;
        shared.sent.set(true);
        if let Some(kept) = kept.get() {
            return Ok(kept);
        }
        // Only reading tells that a client is gone. What it has sent ahead meanwhile is kept for its turn.
        while input.bytes().len() < AHEAD_LIMIT + shared.held.get() {
            match input.fill(self.client).await {
                Ok(1..) => {}
                // It may have closed its half only.
                Ok(0) => break,
                Err(_) => return Err(Failure::ClientGone),
            }
        }
        std::future::pending().await
    }

    /// Sends head and content. An upstream that takes no more is no failure yet: its response may say why.
    async fn send_request(
        &self,
        input: &mut Buffer,
        upstream: &Stream,
        shared: &Shared,
    ) -> Result<(), Failure> {
        let mut body = Body::new(self.plan.framing);
        // What is here of the content goes with the head, at once.
        let there = body.scan(input.bytes()).map_err(bad_content)?.take;
        let mut first = self.head;
        if there > 0 {
            input.put_before(self.head);
            shared.held.set(self.head.len() + there);
            shared.up.set(there as u64);
            first = &input.bytes()[..shared.held.get()];
        }
        if self.write_first(upstream, first, shared).await.is_err() {
            shared.upstream_deaf.set(true);
            return Ok(());
        }
        if body.is_done() {
            return Ok(());
        }
        input.consume(shared.held.take());
        shared.streamed.set(there > 0);
        while !body.is_done() {
            if input.is_empty() {
                shared.awaits_client.set(true);
                let read = input.fill(self.client).await;
                shared.awaits_client.set(false);
                if !matches!(read, Ok(1..)) {
                    return Err(Failure::ClientGone);
                }
            }
            shared.touch();
            let scan = body.scan(input.bytes()).map_err(bad_content)?;
            shared.streamed.set(true);
            shared.up.set(shared.up.get() + scan.take as u64);
            let content = &input.bytes()[..scan.take];
            if shared.write_all(upstream, content).await.is_err() {
                shared.upstream_deaf.set(true);
                return Ok(());
            }
            input.consume(scan.take);
        }
        Ok(())
    }

    /// Writes the first bytes of a request, and notes whether any left.
    async fn write_first(
        &self,
        upstream: &Stream,
        bytes: &[u8],
        shared: &Shared,
    ) -> io::Result<()> {
        match upstream.try_write(bytes) {
            Ok(n) => {
                shared.begun.set(true);
                shared.touch();
                shared.write_all(upstream, &bytes[n..]).await
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                shared.begun.set(true);
                shared.write_all(upstream, bytes).await
            }
            Err(e) => Err(e),
        }
    }
}

fn timed_out(limit: Duration, shared: &Shared) -> Answer {
    if shared.awaits_client.get() {
        let why = format!(
            "nothing more of the request's content came within {limit:?} (timeouts.http-idle)"
        );
        Answer::new(408, ErrorType::HttpRequestError, Side::Client, why)
    } else {
        let why = format!("the upstream took or sent nothing for {limit:?} (timeouts.http-idle)");
        Answer::new(504, ErrorType::HttpResponseTimeout, Side::Upstream, why)
    }
}

fn bad_content(error: BodyError) -> Failure {
    let why = format!("the request's content cannot be read: {error}");
    Failure::Fault(Answer::new(
        400,
        ErrorType::HttpRequestError,
        Side::Client,
        why,
    ))
}
