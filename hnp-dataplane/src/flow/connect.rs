//! Connecting: to the target itself, or through the parent proxy; for a tunnel once, for forwarded requests as often as their
//! target changes.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::account::Account;
use super::authorize;
use super::identify::{self, ForwardRequest};
use super::relay::Tunnel;
use super::reverse::Served;
use crate::access_log::ClosedBy;
use crate::admin::metrics::{self, DnsLookup};
use crate::dial::{Cause, DialError, Side as At};
use crate::http::answer::Answer;
use crate::http::forward::{self, End, Exchange, ExchangeEnd, Gate, Options, Traffic, Upgraded};
use crate::http::head::{RequestHead, RequestTarget};
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::rewrite;
use crate::origin::Origin;
use crate::policy::{Decision, Engine, Who};
use crate::relay::Leg;
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::tls::verify::explain;
use crate::tls::{Alpn, HandshakeError};
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// A connection to a target.
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// What came over it already.
    pub early: Vec<u8>,
}

/// Connects to a target that policy lets pass by name; each address is shown to policy before it is dialled.
///
/// # Errors
/// 403 for addresses that policy refuses, 502 and 504 for what fails on the way.
pub async fn dial(
    worker: &Worker,
    snapshot: &Snapshot,
    account: &Account,
    target: &Target,
) -> Result<Upstream, Answer> {
    let judge: Judge = |engine, target, address, who| engine.check_address(target, address, who);
    dial_if(worker, snapshot, account, target, judge).await
}

/// What policy says of an address.
type Judge = fn(&Engine, &Target, IpAddr, Who<'_>) -> Decision;

async fn dial_if(
    worker: &Worker,
    snapshot: &Snapshot,
    account: &Account,
    target: &Target,
    judge: Judge,
) -> Result<Upstream, Answer> {
    let identities = account.identities();
    let decision = RefCell::new(None);
    let allowed = |address: IpAddr| {
        let judged = judge(&snapshot.policy, target, address, (&identities).into());
        *decision.borrow_mut() = Some(judged);
        judged
    };
    match snapshot.dialer.dial(&worker.metrics, target, allowed).await {
        Ok(dialled) => {
            let named = matches!(target.host, Host::Name(_));
            if named && !dialled.via_parent {
                worker
                    .metrics
                    .resolved(lookup(dialled.resolve.is_zero()), dialled.resolve);
            }
            worker.metrics.dialled(dialled.connect);
            if let Some(decision) = dialled.decision {
                account.decided(stricter(account.decision(), decision));
            }
            let parent = if dialled.via_parent {
                snapshot.parent.clone()
            } else {
                None
            };
            account.dialled(
                dialled.address,
                parent,
                named.then_some(dialled.resolve),
                dialled.connect,
            );
            Ok(Upstream {
                stream: dialled.stream,
                early: dialled.early,
            })
        }
        Err(error) => {
            if let (Cause::Policy(_), Some(decision)) = (&error.cause, decision.into_inner()) {
                account.decided(decision);
            } else {
                worker.metrics.dial_error(error.code());
            }
            if matches!(error.side(), At::Dns) {
                worker
                    .metrics
                    .resolved(DnsLookup::Failed, snapshot.config.timeouts.resolve.0);
            }
            Err(answer(&error))
        }
    }
}

fn lookup(at_once: bool) -> DnsLookup {
    if at_once {
        DnsLookup::Hit
    } else {
        DnsLookup::Miss
    }
}

/// Of the decisions on name and address the one that says more: a refusal that was only reported outlasts what came after.
fn stricter(by_name: Option<Decision>, by_address: Decision) -> Decision {
    match by_name {
        Some(decision) if decision.reported => decision,
        _ => by_address,
    }
}

/// What the client is told when there is no connection.
fn answer(error: &DialError) -> Answer {
    let side = match error.side() {
        At::Policy => Side::Configuration,
        At::Dns | At::Upstream | At::Parent => Side::Upstream,
        At::Hnp => Side::Hnp,
    };
    Answer::new(
        error.status(),
        error.error_type(),
        side,
        error.cause.to_string(),
    )
}

/// A connection to where requests are sent, over TLS where it has it. Which HTTP is spoken on it, [`Stream::session`] says.
///
/// # Errors
/// As [`dial`]; 502 and 504 where the handshake fails.
pub async fn origin(
    worker: &Worker,
    snapshot: &Snapshot,
    account: &Account,
    origin: &Origin,
    alpn: Alpn,
) -> Result<Stream, Answer> {
    let judge: Judge =
        |engine, target, address, who| engine.check_origin_address(target, address, who);
    let upstream = dial_if(worker, snapshot, account, &origin.target, judge).await?;
    let Some(tls) = &origin.tls else {
        return without_early(upstream);
    };
    let limit = snapshot.config.timeouts.handshake.0;
    let stream = without_early(upstream)?;
    let books = worker.metrics.handshake(metrics::Side::Upstream);
    match uring::timeout(limit, tls.connect(stream, alpn)).await {
        Ok(Ok(stream)) => {
            if let Some(session) = stream.session() {
                books.done(session.version_name(), session.resumed);
            }
            Ok(stream)
        }
        Ok(Err(error)) => {
            books.failed(error.code());
            Err(tls_failed(&error))
        }
        Err(_) => {
            books.failed("timeout");
            let why = format!(
                "the TLS handshake with it was not complete within {limit:?} (timeouts.handshake)"
            );
            Err(Answer::new(
                504,
                ErrorType::ConnectionTimeout,
                Side::Upstream,
                why,
            ))
        }
    }
}

/// What is asked before it says anything: whoever speaks first is no HTTP server.
fn without_early(upstream: Upstream) -> Result<Stream, Answer> {
    if upstream.early.is_empty() {
        return Ok(upstream.stream);
    }
    let why = "it spoke before it was asked anything: it is no HTTP server";
    Err(Answer::new(
        502,
        ErrorType::HttpProtocolError,
        Side::Upstream,
        why,
    ))
}

/// What the client is told of a failed handshake with the upstream.
fn tls_failed(error: &HandshakeError) -> Answer {
    let (error_type, side) = match error {
        HandshakeError::Tls(rustls::Error::AlertReceived(_)) => {
            (ErrorType::TlsAlertReceived, Side::Upstream)
        }
        HandshakeError::Tls(rustls::Error::InvalidCertificate(_)) => {
            (ErrorType::TlsCertificateError, Side::Upstream)
        }
        _ => (ErrorType::TlsProtocolError, Side::Upstream),
    };
    let why = match error {
        HandshakeError::Tls(error) => explain::upstream(error),
        other => other.to_string(),
    };
    let why = format!("the TLS handshake with it failed: {why}");
    Answer::new(502, error_type, side, why)
}

/// Forwards this and the following requests of a connection. Gives a tunnel when one of them was upgraded.
pub async fn forward(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    client: Stream,
    request: ForwardRequest,
    account: &Account,
) -> Served {
    let timeouts = &snapshot.config.timeouts;
    let options = Options {
        limits: snapshot.head,
        head_timeout: timeouts.head.0,
        idle_timeout: timeouts.http_idle.0,
    };
    let traffic = Rc::new(Traffic::default());
    let gate = Stages {
        worker,
        snapshot,
        account,
        ledger: Ledger::new(account, Rc::clone(&traffic)),
        kept: RefCell::default(),
    };
    match forward::serve(client, request.received, options, traffic, &gate).await {
        End::Closed => Served::Closed,
        End::Other { client, received } => {
            account.begun();
            Served::Other { client, received }
        }
        End::Upgraded(upgraded) => Served::Upgraded(tunnel(snapshot, upgraded)),
    }
}

/// The tunnel that a switch of protocols leaves.
pub(super) fn tunnel(snapshot: &Snapshot, upgraded: Upgraded) -> Tunnel {
    let timeouts = &snapshot.config.timeouts;
    Tunnel {
        client: Leg::new(upgraded.client, upgraded.to_upstream),
        upstream: Leg::new(upgraded.upstream, upgraded.to_client),
        idle: timeouts.tunnel_idle.0,
        lifetime: timeouts.tunnel_lifetime.map(|lifetime| lifetime.0),
    }
}

/// Enters a connection's exchanges in its account: their bytes as they pass, and how each of them ended.
pub(super) struct Ledger<'a> {
    account: &'a Account,
    /// Bytes of the connection so far.
    traffic: Rc<Traffic>,
    /// Those of them that are in the account.
    entered: Cell<(u64, u64)>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(account: &'a Account, traffic: Rc<Traffic>) -> Self {
        let entered = Cell::default();
        Ledger {
            account,
            traffic,
            entered,
        }
    }

    fn enter_traffic(&self) {
        let so_far = (self.traffic.up.get(), self.traffic.down.get());
        let entered = self.entered.replace(so_far);
        self.account
            .exchanged(so_far.0 - entered.0, so_far.1 - entered.1);
    }

    pub(super) fn finished(&self, exchange: &Exchange) {
        self.enter_traffic();
        if exchange.status != 0 {
            self.account.status(exchange.status);
        }
        match &exchange.end {
            ExchangeEnd::Complete => self.account.closed(ClosedBy::Upstream, "complete"),
            // The relay that follows has its own end, in the same line.
            ExchangeEnd::Upgraded => return,
            ExchangeEnd::Answered(answer) | ExchangeEnd::Cut(answer) => {
                self.account.answered(answer);
                self.account
                    .closed(closer(answer.side()), answer.error_type().token());
            }
            ExchangeEnd::ClientGone => self.account.closed(ClosedBy::Client, "aborted"),
        }
        self.account.next_request();
    }
}

impl Drop for Ledger<'_> {
    /// What passed of an exchange that was cut off has passed all the same.
    fn drop(&mut self) {
        self.enter_traffic();
    }
}

/// The stages of the flow, for each of a connection's forwarded requests.
struct Stages<'a> {
    worker: &'a Rc<Worker>,
    snapshot: &'a Arc<Snapshot>,
    account: &'a Account,
    ledger: Ledger<'a>,
    /// The connection that the last request has left. It is for this client alone, for policy has judged its address for this client.
    kept: RefCell<Option<(Target, forward::Upstream)>>,
}

impl Gate for Stages<'_> {
    type Hop = Target;

    fn carries(&self, head: &RequestHead<'_>) -> bool {
        matches!(head.target, RequestTarget::Absolute { .. })
    }

    async fn admit(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) -> Result<Target, Answer> {
        let target = head.proxy_target()?;
        self.account.asked(
            "forward",
            head.method,
            Some(target),
            Some(head.target.path()),
        );
        let admitted = async {
            identify::client(self.snapshot, head.proxy_authorization(), self.account).await?;
            authorize::target(self.snapshot, self.account, target)
        };
        admitted
            .await
            .map_err(|answer: Answer| answer.about(target))?;
        // It is in absolute-form: all that comes here is.
        let _ = rewrite::request_head(head, out);
        Ok(target.clone())
    }

    fn kept(&self, target: &Target) -> Option<forward::Upstream> {
        let (kept, upstream) = self.kept.take()?;
        (kept == *target).then_some(upstream)
    }

    async fn connect(&self, target: &Target) -> Result<Stream, Answer> {
        without_early(dial(self.worker, self.snapshot, self.account, target).await?)
    }

    fn keep(&self, target: &Target, upstream: forward::Upstream) {
        *self.kept.borrow_mut() = Some((target.clone(), upstream));
    }

    fn about(&self, target: &Target, answer: Answer) -> Answer {
        answer.about(target)
    }

    fn finished(&self, exchange: &Exchange) {
        self.ledger.finished(exchange);
    }

    fn is_draining(&self) -> bool {
        self.worker.draining.fired()
    }

    async fn draining(&self) {
        self.worker.draining.wait().await;
    }
}

pub(super) fn closer(side: Side) -> ClosedBy {
    match side {
        Side::Client => ClosedBy::Client,
        Side::Upstream => ClosedBy::Upstream,
        Side::Hnp | Side::Configuration => ClosedBy::Hnp,
    }
}
