//! One request and its response, both ways at once.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::{Options, Upstream, knows_http11};
use crate::http::answer::Answer;
use crate::http::body::{Body, BodyError, Piece};
use crate::http::head::{BodyFraming, RequestHead, Version, content_length};
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::response::{ResponseHead, ResponseParser};
use crate::http::rewrite;
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::uring;

/// Interim responses that one request may get.
const INTERIM_LIMIT: usize = 32;
/// Bytes that are read of later requests while one is under way.
const AHEAD_LIMIT: usize = 8 << 10;

/// What is left of a request head once its exchange begins: nothing that borrows the buffer.
pub(super) struct Plan {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) target: Target,
    /// Whether the request can be sent again without doing anything twice, and is here in whole.
    pub(super) is_repeatable: bool,
    /// `Max-Forwards` says that it goes no further.
    pub(super) is_last_forward: bool,
    head: Vec<u8>,
    framing: BodyFraming,
    version: Version,
    keeps_alive: bool,
    expects_continue: bool,
    upgrades: bool,
}

impl Plan {
    pub(super) fn new(head: &RequestHead<'_>, target: Target, rewritten: Vec<u8>) -> Self {
        // RFC 9110 section 9.2.2.
        let idempotent = matches!(
            head.method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        );
        let hops = head.fields.first("max-forwards").and_then(content_length);
        Plan {
            method: head.method.to_owned(),
            path: head.target.path().to_owned(),
            target,
            is_repeatable: idempotent && head.framing == BodyFraming::None,
            is_last_forward: matches!(head.method, "TRACE" | "OPTIONS") && hops == Some(0),
            head: rewritten,
            framing: head.framing,
            version: head.version,
            keeps_alive: head.keeps_alive(),
            expects_continue: head.expects_continue(),
            upgrades: rewrite::passes_upgrade(head),
        }
    }

    /// Stands for a request whose head could not be read.
    pub(super) fn unread() -> Self {
        Plan {
            method: "-".to_owned(),
            path: String::new(),
            target: Target {
                host: Host::Name("".into()),
                port: 0,
            },
            is_repeatable: false,
            is_last_forward: false,
            head: Vec::new(),
            framing: BodyFraming::None,
            version: Version::Http11,
            keeps_alive: false,
            expects_continue: false,
            upgrades: false,
        }
    }
}

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
struct Shared {
    active: Cell<Instant>,
    up: Cell<u64>,
    down: Cell<u64>,
    status: Cell<u16>,
    responded: Cell<bool>,
    continued: Cell<bool>,
    awaits_client: Cell<bool>,
    upstream_deaf: Cell<bool>,
    /// The request is sent, as far as the upstream took it.
    sent: Cell<bool>,
    /// The response is complete.
    kept: Cell<Option<Kept>>,
}

impl Shared {
    fn touch(&self) {
        self.active.set(uring::now());
    }

    /// Writes all of `bytes`, and lets every byte that leaves count as a sign of life.
    async fn write_all(&self, to: &Stream, mut bytes: &[u8]) -> io::Result<()> {
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

/// Sends the request and passes the response on, both at once.
pub(super) async fn run(
    client: &Stream,
    input: &mut Buffer,
    upstream: &mut Upstream,
    plan: &Plan,
    options: &Options,
    may_keep: bool,
) -> Done {
    let shared = Shared {
        active: Cell::new(uring::now()),
        up: Cell::new(0),
        down: Cell::new(0),
        status: Cell::new(0),
        responded: Cell::new(false),
        continued: Cell::new(false),
        awaits_client: Cell::new(false),
        upstream_deaf: Cell::new(false),
        sent: Cell::new(false),
        kept: Cell::new(None),
    };
    let result = both_ways(client, input, upstream, plan, options, may_keep, &shared).await;
    Done {
        up: shared.up.get(),
        down: shared.down.get(),
        status: shared.status.get(),
        responded: shared.responded.get(),
        result,
    }
}

async fn both_ways(
    client: &Stream,
    input: &mut Buffer,
    upstream: &mut Upstream,
    plan: &Plan,
    options: &Options,
    may_keep: bool,
    shared: &Shared,
) -> Result<Kept, Failure> {
    let mut request = pin!(serve_request(client, input, &upstream.socket, plan, shared));
    let response = Response {
        upstream: &upstream.socket,
        client,
        plan,
        options,
        may_keep,
        shared,
    };
    let mut response = pin!(response.pass_on(&mut upstream.input));
    let mut silence = pin!(silence(options.idle_timeout, shared));
    loop {
        tokio::select! {
            biased;
            outcome = &mut response, if shared.kept.get().is_none() => {
                let outcome = outcome?;
                if shared.sent.get() {
                    return Ok(outcome.unless_deaf(shared));
                }
                if !(outcome.client && outcome.upstream) {
                    // The rest of the request is not wanted any more; what the client still sends must not be read as
                    // its next request.
                    return Ok(Kept { client: false, upstream: false, ..outcome });
                }
                shared.kept.set(Some(outcome));
            }
            outcome = &mut request => return Ok(outcome?.unless_deaf(shared)),
            () = &mut silence => return Err(Failure::Fault(timed_out(options.idle_timeout, shared))),
        }
    }
}

/// Ends when no byte has moved for `limit`.
async fn silence(limit: Duration, shared: &Shared) {
    loop {
        let deadline = shared.active.get() + limit;
        if deadline <= uring::now() {
            return;
        }
        uring::sleep_until(deadline).await;
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

/// Sends the request, then watches the client while the response is on its way. Ends with what is kept if the response was
/// complete first, and with the failure if the client goes away.
async fn serve_request(
    client: &Stream,
    input: &mut Buffer,
    upstream: &Stream,
    plan: &Plan,
    shared: &Shared,
) -> Result<Kept, Failure> {
    send_request(client, input, upstream, plan, shared).await?;
    shared.sent.set(true);
    if let Some(kept) = shared.kept.get() {
        return Ok(kept);
    }
    // Only reading tells that a client is gone. What it has sent ahead meanwhile is kept for its turn.
    while input.bytes().len() < AHEAD_LIMIT {
        match input.fill(client).await {
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
    client: &Stream,
    input: &mut Buffer,
    upstream: &Stream,
    plan: &Plan,
    shared: &Shared,
) -> Result<(), Failure> {
    let mut body = Body::new(plan.framing);
    if shared.write_all(upstream, &plan.head).await.is_err() {
        shared.upstream_deaf.set(true);
        return Ok(());
    }
    while !body.is_done() {
        if input.is_empty() {
            shared.awaits_client.set(true);
            let read = input.fill(client).await;
            shared.awaits_client.set(false);
            if !matches!(read, Ok(1..)) {
                return Err(Failure::ClientGone);
            }
        }
        shared.touch();
        let scan = body.scan(input.bytes()).map_err(bad_content)?;
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

fn bad_content(error: BodyError) -> Failure {
    let why = format!("the request's content cannot be read: {error}");
    Failure::Fault(Answer::new(
        400,
        ErrorType::HttpRequestError,
        Side::Client,
        why,
    ))
}

/// The way back.
struct Response<'a> {
    upstream: &'a Stream,
    client: &'a Stream,
    plan: &'a Plan,
    options: &'a Options,
    may_keep: bool,
    shared: &'a Shared,
}

/// What the final head says of the rest.
struct Final {
    framing: BodyFraming,
    decode: bool,
    kept: Kept,
}

impl Response<'_> {
    async fn pass_on(&self, input: &mut Buffer) -> Result<Kept, Failure> {
        for _ in 0..INTERIM_LIMIT {
            if let Some(last) = self.pass_on_head(input).await? {
                if !last.kept.upgraded {
                    self.pass_on_content(input, &last).await?;
                }
                return Ok(last.kept);
            }
        }
        Err(self.upstream_fault(
            ErrorType::HttpProtocolError,
            "the upstream sends one interim response after the other",
        ))
    }

    /// Passes on one head: `None` for an interim one.
    async fn pass_on_head(&self, input: &mut Buffer) -> Result<Option<Final>, Failure> {
        let mut parser = ResponseParser::new();
        loop {
            let parsed = parser.parse(input.bytes(), &self.options.limits, &self.plan.method);
            match parsed {
                Err(error) => {
                    return Err(self.upstream_fault(error.error_type(), &error.to_string()));
                }
                Ok(Some((head, length))) => {
                    let (bytes, last) = self.judge(&head)?;
                    if last.is_some() {
                        self.shared.responded.set(true);
                        self.shared.status.set(head.status);
                    } else if head.status == 100 {
                        self.shared.continued.set(true);
                    }
                    self.to_client(&bytes).await?;
                    input.consume(length);
                    return Ok(last);
                }
                Ok(None) => {}
            }
            match input.fill(self.upstream).await {
                Ok(1..) => self.shared.touch(),
                Ok(0) if input.is_empty() => return Err(self.silent("closed the connection")),
                Err(error) if input.is_empty() => {
                    return Err(self.silent(&format!("cut the connection ({error})")));
                }
                Ok(0) => {
                    let why =
                        "the upstream closed the connection in the midst of its response's head";
                    return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, why));
                }
                Err(error) => {
                    let why = format!(
                        "the connection to the upstream broke in the midst of its response's head: {error}"
                    );
                    return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, &why));
                }
            }
        }
    }

    /// The head as the client is to get it (nothing, for an interim one that it would not understand), and what follows it.
    fn judge(&self, head: &ResponseHead<'_>) -> Result<(Vec<u8>, Option<Final>), Failure> {
        let new_client = knows_http11(self.plan.version);
        if head.is_interim() {
            let bytes = if new_client {
                rewrite::response_head(head, false, true)
            } else {
                Vec::new()
            };
            return Ok((bytes, None));
        }
        let upgraded = head.status == 101;
        if upgraded && !self.plan.upgrades {
            let why = "the upstream switches protocols (101) though nobody asked it to";
            return Err(self.upstream_fault(ErrorType::HttpUpgradeFailed, why));
        }
        let decode = head.framing == BodyFraming::Chunked && !new_client;
        let no_end = head.framing == BodyFraming::UntilClose || decode;
        // A client that was to wait for 100 and got a refusal instead may or may not send its content: no telling which.
        let in_doubt =
            self.plan.expects_continue && !self.shared.continued.get() && self.shared.up.get() == 0;
        let client = upgraded
            || (self.plan.keeps_alive
                && self.may_keep
                && !no_end
                && !in_doubt
                && !self.shared.upstream_deaf.get());
        let last = Final {
            framing: head.framing,
            decode,
            kept: Kept {
                client,
                upstream: head.keeps_alive() && !in_doubt && !self.shared.upstream_deaf.get(),
                upgraded,
            },
        };
        Ok((
            rewrite::response_head(head, !client, new_client),
            Some(last),
        ))
    }

    async fn pass_on_content(&self, input: &mut Buffer, last: &Final) -> Result<(), Failure> {
        let mut body = Body::new(last.framing);
        while !body.is_done() {
            if input.is_empty() {
                match input.fill(self.upstream).await {
                    Ok(1..) => self.shared.touch(),
                    Ok(0) => {
                        return body.connection_ended().map_err(|error| {
                            self.upstream_fault(
                                ErrorType::HttpResponseIncomplete,
                                &format!("the upstream's response: {error}"),
                            )
                        });
                    }
                    Err(error) => {
                        let why = format!(
                            "the connection to the upstream broke in the midst of its response: {error}"
                        );
                        return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, &why));
                    }
                }
            }
            let bytes = input.bytes();
            let broken = |error: BodyError| {
                self.upstream_fault(
                    ErrorType::HttpProtocolError,
                    &format!("the upstream's response: {error}"),
                )
            };
            let taken = if last.decode {
                let Piece { skip, data } = body.next(bytes).map_err(broken)?;
                self.to_client(&bytes[skip..skip + data]).await?;
                skip + data
            } else {
                let taken = body.scan(bytes).map_err(broken)?.take;
                self.to_client(&bytes[..taken]).await?;
                taken
            };
            input.consume(taken);
        }
        Ok(())
    }

    async fn to_client(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.shared
            .write_all(self.client, bytes)
            .await
            .map_err(|_| Failure::ClientGone)?;
        self.shared
            .down
            .set(self.shared.down.get() + bytes.len() as u64);
        Ok(())
    }

    fn upstream_fault(&self, error: ErrorType, why: &str) -> Failure {
        Failure::Fault(Answer::new(502, error, Side::Upstream, why.to_owned()))
    }

    fn silent(&self, what: &str) -> Failure {
        let why = format!("the upstream {what} before it sent a response");
        Failure::Silent(Answer::new(
            502,
            ErrorType::ConnectionTerminated,
            Side::Upstream,
            why,
        ))
    }
}
