//! Forwarding of absolute-form `http://` requests, one connection's after another.
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

mod buffer;
mod exchange;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::head::{HeadError, HeadLimits, RequestHead, RequestParser, RequestTarget, Version};
use super::proxy_status::{ErrorType, Side};
use super::{linger, rewrite};
use crate::stream::Stream;
use crate::target::Target;
use crate::uring;
use buffer::Buffer;
use exchange::{Failure, Plan};

/// A request that went through HNP this often goes in circles.
const LOOP_LIMIT: usize = 8;
/// How long a closed connection's peer may go on sending.
const LINGER: Duration = Duration::from_secs(2);
/// As answered where `Max-Forwards` makes HNP the last recipient of an OPTIONS request.
const OPTIONS_HERE: &[u8] = b"HTTP/1.1 200 OK\r\nAllow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What decides on each request and connects it. The stages of the flow, seen from here.
pub trait Gate {
    /// Whether this client may send this request to this target: credentials, policy, limits.
    fn admit(
        &mut self,
        head: &RequestHead<'_>,
        target: &Target,
    ) -> impl Future<Output = Result<(), Answer>>;

    /// A fresh connection to a target that was admitted just before.
    fn connect(&mut self, target: &Target) -> impl Future<Output = Result<Stream, Answer>>;

    /// A request has ended, one way or the other: the place for its log line.
    fn finished(&mut self, exchange: &Exchange);

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
    /// The method; `-` where no head could be read.
    pub method: String,
    /// Where to; absent where no head could be read.
    pub target: Option<Target>,
    /// The path without its query.
    pub path: String,
    /// The status that the client got, 0 if none.
    pub status: u16,
    /// Bytes taken from the client for it, head included.
    pub up: u64,
    /// Bytes sent to the client for it, head included.
    pub down: u64,
    /// When its head was complete.
    pub started: Instant,
    /// From then to its end.
    pub duration: Duration,
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
    /// The next request is a CONNECT: it belongs to the flow's first stage again. The bytes begin with its head.
    Connect {
        /// The client.
        client: Stream,
        /// All that came and has not been used.
        received: Vec<u8>,
    },
}

/// Two sockets to be relayed, and what was read from either beyond the heads.
#[derive(Debug)]
pub struct Upgraded {
    /// The client.
    pub client: Stream,
    /// The upstream.
    pub upstream: Stream,
    /// Who the upstream is.
    pub target: Target,
    /// Bytes of the client's for the upstream, to be written first.
    pub to_upstream: Vec<u8>,
    /// Bytes of the upstream's for the client, to be written first.
    pub to_client: Vec<u8>,
}

/// Serves a client's connection from its first absolute-form request on. `received` is what was read already, from the first byte
/// of that request's head.
pub async fn serve<G: Gate>(
    client: Stream,
    received: Vec<u8>,
    options: Options,
    traffic: Rc<Traffic>,
    gate: &mut G,
) -> End {
    let mut connection = Connection {
        client,
        input: Buffer::from(received),
        upstream: None,
        options,
        traffic,
        gate,
    };
    let mut first = true;
    let turn = loop {
        match connection.turn(first).await {
            Turn::Next => first = false,
            last => break last,
        }
    };
    connection.end(turn).await
}

/// What a request leaves the connection in.
enum Turn {
    Next,
    /// Nothing more can be said; the response, if any, must still arrive.
    Close,
    /// The client must not take what it has for complete.
    Reset,
    Upgraded,
    Connect,
}

/// A connection to an upstream, kept while requests name the same target.
struct Upstream {
    socket: Stream,
    target: Target,
    input: Buffer,
}

impl Upstream {
    /// Whether it can carry another request: an upstream that closed, or spoke without being asked, cannot.
    fn is_usable(&self) -> bool {
        let waiting = self.socket.try_read(&mut [0]);
        self.input.is_empty() && waiting.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }
}

struct Connection<'g, G> {
    client: Stream,
    input: Buffer,
    upstream: Option<Upstream>,
    options: Options,
    traffic: Rc<Traffic>,
    gate: &'g mut G,
}

impl<G: Gate> Connection<'_, G> {
    /// One request, from waiting for its head to the end of its response.
    async fn turn(&mut self, first: bool) -> Turn {
        if let Err(turn) = self.next_head(first).await {
            return turn;
        }
        let started = uring::now();
        let admitted = self.admit_next(started).await;
        let (plan, head_length) = match admitted {
            Ok(found) => found,
            Err(turn) => return turn,
        };
        self.input.consume(head_length);
        self.traffic
            .up
            .set(self.traffic.up.get() + head_length as u64);
        self.carry(plan, head_length as u64, started).await
    }

    /// Waits until the buffer holds a whole head.
    async fn next_head(&mut self, first: bool) -> Result<(), Turn> {
        let deadline = uring::now() + self.options.head_timeout;
        let mut parser = RequestParser::new();
        loop {
            match parser.parse(self.input.bytes(), &self.options.limits) {
                // A broken head is whole enough: whoever parses it next says what is wrong.
                Ok(Some(_)) | Err(_) => return Ok(()),
                Ok(None) => {}
            }
            let idle = self.input.is_empty();
            if idle {
                self.input.release();
            }
            tokio::select! {
                biased;
                ready = self.client.readable() => if ready.is_err() {
                    return Err(Turn::Close);
                },
                () = self.gate.draining(), if idle && !first => return Err(Turn::Close),
                () = uring::sleep_until(deadline) => {
                    if !idle || first {
                        self.answer_unread(Answer::head_timeout(self.options.head_timeout)).await;
                    }
                    return Err(Turn::Close);
                }
            }
            match self.input.try_fill(&self.client) {
                Ok(0) => return Err(Turn::Close),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Turn::Close),
            }
        }
    }

    /// Parses the head that is in the buffer, asks the gate, and makes the plan of its exchange.
    async fn admit_next(&mut self, started: Instant) -> Result<(Plan, usize), Turn> {
        let parsed = RequestParser::new().parse(self.input.bytes(), &self.options.limits);
        let (head, length) = match parsed {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Turn::Close),
            Err(error) => {
                self.answer_unread(error.into()).await;
                return Err(Turn::Close);
            }
        };
        if head.is_connect() {
            return Err(Turn::Connect);
        }
        let (RequestTarget::Absolute { target, .. }, Some(rewritten)) =
            (&head.target, rewrite::request_head(&head))
        else {
            self.answer_unread(HeadError::OriginForm.into()).await;
            return Err(Turn::Close);
        };
        let plan = Plan::new(&head, target.clone(), rewritten);
        let verdict = match self.gate.admit(&head, target).await {
            Ok(()) if rewrite::times_through_hnp(&head) >= LOOP_LIMIT => {
                let why = "the request went through HNP 8 times already: the target, or a proxy on the way, leads back here";
                Err(
                    Answer::new(502, ErrorType::ProxyLoopDetected, Side::Configuration, why)
                        .about(target),
                )
            }
            Ok(()) if plan.is_last_forward && plan.method != "OPTIONS" => {
                let why = "Max-Forwards is 0, and HNP itself serves no TRACE";
                Err(
                    Answer::new(405, ErrorType::HttpRequestError, Side::Client, why)
                        .allow("OPTIONS"),
                )
            }
            verdict => verdict,
        };
        match verdict {
            Ok(()) => Ok((plan, length)),
            Err(answer) => {
                self.traffic.up.set(self.traffic.up.get() + length as u64);
                let answer = answer.about(target);
                self.answer(&plan, length as u64, started, answer).await;
                Err(Turn::Close)
            }
        }
    }

    /// Brings an admitted request to its end, on the connection at hand or a fresh one.
    async fn carry(&mut self, plan: Plan, head_length: u64, started: Instant) -> Turn {
        if plan.is_last_forward {
            let sent = self.client.write_all(OPTIONS_HERE).await.is_ok();
            let down = if sent { OPTIONS_HERE.len() as u64 } else { 0 };
            self.traffic.down.set(self.traffic.down.get() + down);
            self.report(
                &plan,
                200,
                head_length,
                down,
                started,
                false,
                ExchangeEnd::Complete,
            );
            return Turn::Close;
        }
        let kept = self.upstream.take();
        let mut reused = kept.filter(|kept| kept.target == plan.target && kept.is_usable());
        loop {
            let was_reused = reused.is_some();
            let upstream = match reused.take() {
                Some(kept) => kept,
                None => match self.gate.connect(&plan.target).await {
                    Ok(socket) => Upstream {
                        socket,
                        target: plan.target.clone(),
                        input: Buffer::new(),
                    },
                    Err(answer) => {
                        let answer = answer.about(&plan.target);
                        self.answer(&plan, head_length, started, answer).await;
                        return Turn::Close;
                    }
                },
            };
            let upstream = self.upstream.insert(upstream);
            let may_keep = !self.gate.is_draining();
            let done = exchange::run(
                &self.client,
                &mut self.input,
                upstream,
                &plan,
                &self.options,
                may_keep,
            )
            .await;
            self.traffic.up.set(self.traffic.up.get() + done.up);
            self.traffic.down.set(self.traffic.down.get() + done.down);
            let up = head_length + done.up;
            match done.result {
                Ok(kept) => {
                    let end = if kept.upgraded {
                        ExchangeEnd::Upgraded
                    } else {
                        ExchangeEnd::Complete
                    };
                    self.report(&plan, done.status, up, done.down, started, was_reused, end);
                    if kept.upgraded {
                        return Turn::Upgraded;
                    }
                    self.upstream = self.upstream.take().filter(|_| kept.upstream);
                    if let Some(upstream) = &mut self.upstream {
                        upstream.input.release();
                    }
                    return if kept.client { Turn::Next } else { Turn::Close };
                }
                Err(Failure::Silent(_)) if was_reused && plan.is_repeatable && done.up == 0 => {
                    // The kept connection died under the request; nobody has seen any of a response.
                    self.upstream = None;
                }
                Err(Failure::ClientGone) => {
                    self.upstream = None;
                    self.report(
                        &plan,
                        done.status,
                        up,
                        done.down,
                        started,
                        was_reused,
                        ExchangeEnd::ClientGone,
                    );
                    return Turn::Reset;
                }
                Err(Failure::Silent(answer) | Failure::Fault(answer)) => {
                    self.upstream = None;
                    if done.responded {
                        let end = ExchangeEnd::Cut(answer);
                        self.report(&plan, done.status, up, done.down, started, was_reused, end);
                        return Turn::Reset;
                    }
                    self.answer(&plan, up, started, answer.about(&plan.target))
                        .await;
                    return Turn::Close;
                }
            }
        }
    }

    /// Answers a request of which nothing but the fault is known.
    async fn answer_unread(&mut self, answer: Answer) {
        let plan = Plan::unread();
        self.answer(&plan, 0, uring::now(), answer).await;
    }

    async fn answer(&mut self, plan: &Plan, up: u64, started: Instant, answer: Answer) {
        let bytes = if plan.method == "HEAD" {
            answer.to_bytes_without_body()
        } else {
            answer.to_bytes()
        };
        let sent = uring::timeout(self.options.idle_timeout, self.client.write_all(&bytes)).await;
        let down = if matches!(sent, Ok(Ok(()))) {
            bytes.len() as u64
        } else {
            0
        };
        self.traffic.down.set(self.traffic.down.get() + down);
        let status = answer.status();
        self.report(
            plan,
            status,
            up,
            down,
            started,
            false,
            ExchangeEnd::Answered(answer),
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "they are the fields of the report, filled at one place"
    )]
    fn report(
        &mut self,
        plan: &Plan,
        status: u16,
        up: u64,
        down: u64,
        started: Instant,
        reused: bool,
        end: ExchangeEnd,
    ) {
        self.gate.finished(&Exchange {
            method: plan.method.clone(),
            target: (plan.method != "-").then(|| plan.target.clone()),
            path: plan.path.clone(),
            status,
            up,
            down,
            started,
            duration: started.elapsed(),
            reused,
            end,
        });
    }

    async fn end(self, turn: Turn) -> End {
        match (turn, self.upstream) {
            (Turn::Upgraded, Some(upstream)) => End::Upgraded(Upgraded {
                client: self.client,
                upstream: upstream.socket,
                target: upstream.target,
                to_upstream: self.input.into_bytes(),
                to_client: upstream.input.into_bytes(),
            }),
            (Turn::Connect, _) => End::Connect {
                client: self.client,
                received: self.input.into_bytes(),
            },
            (Turn::Reset, _) => {
                self.client.reset();
                End::Closed
            }
            (_, upstream) => {
                drop(upstream);
                linger::close(self.client, LINGER).await;
                End::Closed
            }
        }
    }
}

/// Whether a client of this version understands chunks and interim responses.
fn knows_http11(version: Version) -> bool {
    version == Version::Http11
}

#[cfg(test)]
mod tests;
