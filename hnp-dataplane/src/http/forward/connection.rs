//! A client's connection: one request after the other, and what each leaves it in.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::buffer::Buffer;
use super::exchange::{self, Failure};
use super::plan::{LastForward, Plan};
use super::{End, Exchange, ExchangeEnd, Gate, Options, Traffic, Upgraded, Upstream};
use crate::http::answer::Answer;
use crate::http::head::{RequestHead, RequestParser};
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::{linger, rewrite};
use crate::stream::Stream;
use crate::uring;

/// A request that went through HNP this often goes in circles.
const LOOP_LIMIT: usize = 8;
/// How long a closed connection's peer may go on sending.
const LINGER: Duration = Duration::from_secs(2);
/// A kept connection that was used since is hardly one that its peer closes for idling.
const FRESH: Duration = Duration::from_millis(100);
/// As answered where `Max-Forwards` makes HNP the last recipient of an OPTIONS request.
const OPTIONS_HERE: &[u8] = b"HTTP/1.1 200 OK\r\nAllow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a request leaves the connection in.
pub(super) enum Turn {
    Next,
    /// Nothing more can be said; the response, if any, must still arrive.
    Close,
    /// The client must not take what it has for complete.
    Reset,
    Upgraded(Upstream),
    Other,
}

/// What a wait for a request's head ended with.
enum Event {
    Readable(io::Result<()>),
    Draining,
    Late,
}

/// A request that may go on its way.
struct Admitted<H> {
    plan: Plan,
    hop: H,
    head_length: usize,
}

pub(super) struct Connection<'g, G, D> {
    pub(super) client: Stream,
    pub(super) input: Buffer,
    /// The head of the request at hand, as the next hop gets it.
    pub(super) head: Vec<u8>,
    alarm: Alarm,
    pub(super) options: Options,
    pub(super) traffic: Rc<Traffic>,
    pub(super) gate: &'g G,
    draining: Pin<&'g mut D>,
    /// The signal knows this task.
    told: bool,
}

impl<'g, G: Gate, D: Future<Output = ()>> Connection<'g, G, D> {
    pub(super) fn new(
        client: Stream,
        received: Vec<u8>,
        options: Options,
        traffic: Rc<Traffic>,
        gate: &'g G,
        draining: Pin<&'g mut D>,
    ) -> Self {
        Connection {
            client,
            input: Buffer::from(received),
            head: Vec::new(),
            alarm: Alarm::new(),
            options,
            traffic,
            gate,
            draining,
            told: false,
        }
    }

    pub(super) async fn serve(mut self) -> End {
        let mut first = true;
        let turn = loop {
            match self.turn(first).await {
                Turn::Next => first = false,
                last => break last,
            }
        };
        self.end(turn).await
    }

    /// One request, from waiting for its head to the end of its response.
    async fn turn(&mut self, first: bool) -> Turn {
        let Admitted {
            plan,
            hop,
            head_length,
        } = match self.next_request(first).await {
            Ok(admitted) => admitted,
            Err(turn) => return turn,
        };
        let started = uring::now();
        self.input.consume(head_length);
        self.count_up(head_length as u64);
        self.carry(&plan, &hop, head_length as u64, started).await
    }

    /// Waits until the buffer holds a whole head, and asks the gate.
    async fn next_request(&mut self, first: bool) -> Result<Admitted<G::Hop>, Turn> {
        let deadline = uring::now() + self.options.head_timeout;
        let mut parser = RequestParser::new();
        loop {
            match parser.parse(self.input.bytes(), &self.options.limits) {
                Ok(Some((head, length))) => {
                    let judged = judge(self.gate, &head, length, &mut self.head).await;
                    return match judged {
                        Judged::Admitted(admitted) => Ok(admitted),
                        Judged::Other => Err(Turn::Other),
                        Judged::Refused(plan, answer) => {
                            self.count_up(length as u64);
                            self.answer(&plan, length as u64, uring::now(), answer)
                                .await;
                            Err(Turn::Close)
                        }
                    };
                }
                Ok(None) => {}
                Err(error) => {
                    self.answer_unread(error.into()).await;
                    return Err(Turn::Close);
                }
            }
            let idle = self.input.is_empty();
            if idle {
                self.input.release();
            }
            match self.more(deadline, idle && !first).await {
                Event::Readable(Ok(())) => {}
                Event::Readable(Err(_)) | Event::Draining => return Err(Turn::Close),
                Event::Late => {
                    if !idle || first {
                        let answer = Answer::head_timeout(self.options.head_timeout);
                        self.answer_unread(answer).await;
                    }
                    return Err(Turn::Close);
                }
            }
            match self.input.try_fill(&self.client) {
                Ok(0) => return Err(Turn::Close),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Turn::Close),
            }
        }
    }

    /// Waits until there may be more of a head.
    async fn more(&mut self, deadline: Instant, leaves_with_drain: bool) -> Event {
        let mut readable = pin!(self.client.readable());
        std::future::poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(ready) = self.input.poll_more(&mut readable, cx) {
                return Poll::Ready(Event::Readable(ready));
            }
            if leaves_with_drain {
                let drains = if self.told {
                    self.gate.is_draining()
                } else {
                    self.told = true;
                    self.draining.as_mut().poll(cx).is_ready()
                };
                if drains {
                    return Poll::Ready(Event::Draining);
                }
            }
            self.alarm.poll(deadline, cx).map(|()| Event::Late)
        })
        .await
    }

    /// Brings an admitted request to its end, on a kept connection or a fresh one.
    async fn carry(
        &mut self,
        plan: &Plan,
        hop: &G::Hop,
        head_length: u64,
        started: Instant,
    ) -> Turn {
        if plan.last_forward.is_some() {
            return self.answer_options(head_length, started).await;
        }
        if self.gate.shares(hop) {
            // In a box: connections that do without it keep no room for it.
            return Box::pin(self.carry_shared(plan, hop, head_length, started)).await;
        }
        let mut kept = self.kept(plan, hop);
        loop {
            let reused = kept.is_some();
            let mut upstream = match kept.take() {
                Some(kept) => kept,
                None => match self.gate.connect(hop).await {
                    Ok(stream) => Upstream::new(stream),
                    Err(answer) => {
                        let answer = self.gate.about(hop, answer);
                        self.answer(plan, head_length, started, answer).await;
                        return Turn::Close;
                    }
                },
            };
            let may_keep = !self.gate.is_draining();
            let done = exchange::Run {
                client: &self.client,
                plan,
                hop,
                head: &self.head,
                options: &self.options,
                may_keep,
                gate: self.gate,
            }
            .run(&mut self.input, &mut upstream, &mut self.alarm)
            .await;
            if matches!(done.result, Err(Failure::Silent(_))) && reused && done.may_repeat {
                // The kept connection died under the request; nobody has seen any of a response.
                continue;
            }
            self.count_up(done.up);
            self.traffic.down.set(self.traffic.down.get() + done.down);
            let exchange = |end| Exchange {
                status: done.status,
                up: head_length + done.up,
                down: done.down,
                started,
                reused,
                end,
            };
            return match done.result {
                Ok(kept) if kept.upgraded => {
                    self.gate.finished(&exchange(ExchangeEnd::Upgraded));
                    Turn::Upgraded(upstream)
                }
                Ok(kept) => {
                    self.gate.finished(&exchange(ExchangeEnd::Complete));
                    // What follows a response nobody has asked for.
                    if kept.upstream && upstream.input.is_empty() {
                        upstream.input.release();
                        upstream.kept = uring::now();
                        self.gate.keep(hop, upstream);
                    } else {
                        upstream.close();
                    }
                    if kept.client { Turn::Next } else { Turn::Close }
                }
                Err(Failure::ClientGone) => {
                    self.gate.finished(&exchange(ExchangeEnd::ClientGone));
                    Turn::Reset
                }
                Err(Failure::Silent(answer) | Failure::Fault(answer)) if done.responded => {
                    self.gate.finished(&exchange(ExchangeEnd::Cut(answer)));
                    Turn::Reset
                }
                Err(Failure::Silent(answer) | Failure::Fault(answer)) => {
                    drop(upstream);
                    let answer = self.gate.about(hop, answer);
                    let up = head_length + done.up;
                    self.answer(plan, up, started, answer).await;
                    Turn::Close
                }
            };
        }
    }

    /// A connection that an earlier request has left and that can carry this one.
    fn kept(&self, plan: &Plan, hop: &G::Hop) -> Option<Upstream> {
        loop {
            let mut kept = self.gate.kept(hop)?;
            // Under load the queue has told of whatever happened; after a while it is worth a system call to be sure, unless the
            // request can be sent again.
            if kept.is_usable(!plan.is_idempotent && kept.idle() > FRESH) {
                return Some(kept);
            }
            kept.close();
        }
    }

    async fn answer_options(&mut self, head_length: u64, started: Instant) -> Turn {
        let sent = self.client.write_all(OPTIONS_HERE).await.is_ok();
        let down = if sent { OPTIONS_HERE.len() as u64 } else { 0 };
        self.traffic.down.set(self.traffic.down.get() + down);
        self.gate.finished(&Exchange {
            status: 200,
            up: head_length,
            down,
            started,
            reused: false,
            end: ExchangeEnd::Complete,
        });
        Turn::Close
    }

    /// Answers a request of which nothing but the fault is known.
    async fn answer_unread(&mut self, answer: Answer) {
        self.answer(&Plan::unread(), 0, uring::now(), answer).await;
    }

    pub(super) async fn answer(&mut self, plan: &Plan, up: u64, started: Instant, answer: Answer) {
        let bytes = if plan.is_head {
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
        self.gate.finished(&Exchange {
            status: answer.status(),
            up,
            down,
            started,
            reused: false,
            end: ExchangeEnd::Answered(answer),
        });
    }

    fn count_up(&self, bytes: u64) {
        self.traffic.up.set(self.traffic.up.get() + bytes);
    }

    async fn end(self, turn: Turn) -> End {
        match turn {
            Turn::Upgraded(upstream) => End::Upgraded(Upgraded {
                client: self.client,
                upstream: upstream.stream,
                to_upstream: self.input.into_bytes(),
                to_client: upstream.input.into_bytes(),
            }),
            Turn::Other => End::Other {
                client: self.client,
                received: self.input.into_bytes(),
            },
            Turn::Reset => {
                self.client.reset();
                End::Closed
            }
            Turn::Next | Turn::Close => {
                linger::close(self.client, LINGER).await;
                End::Closed
            }
        }
    }
}

enum Judged<H> {
    Admitted(Admitted<H>),
    Other,
    Refused(Plan, Answer),
}

/// Asks the gate, and what holds for every request whatever the gate says.
async fn judge<G: Gate>(
    gate: &G,
    head: &RequestHead<'_>,
    head_length: usize,
    out: &mut Vec<u8>,
) -> Judged<G::Hop> {
    if !gate.carries(head) {
        return Judged::Other;
    }
    let plan = Plan::new(head);
    out.clear();
    let hop = match gate.admit(head, out).await {
        Ok(hop) => hop,
        Err(answer) => return Judged::Refused(plan, answer),
    };
    let refused = if rewrite::times_through_hnp(head) >= LOOP_LIMIT {
        let why = "the request went through HNP 8 times already: the target, or a proxy on the way, leads back here";
        Answer::new(502, ErrorType::ProxyLoopDetected, Side::Configuration, why)
    } else if plan.last_forward == Some(LastForward::Trace) {
        let why = "Max-Forwards is 0, and HNP itself serves no TRACE";
        Answer::new(405, ErrorType::HttpRequestError, Side::Client, why).allow("OPTIONS")
    } else {
        return Judged::Admitted(Admitted {
            plan,
            hop,
            head_length,
        });
    };
    Judged::Refused(plan, gate.about(&hop, refused))
}
