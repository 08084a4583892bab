//! Reverse proxy: requests in origin-form, each sent to the configured upstream over a connection that the worker keeps.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::account::Account;
use super::authorize;
use super::connect::{self, Ledger};
use super::h2::reach;
use super::relay::Tunnel;
use crate::admin::metrics::{Connection, UpstreamGuard};
use crate::config::model::HttpProtocol;
use crate::http::answer::Answer;
use crate::http::forward::{self, End, Exchange, Gate, Options, Shared, Traffic, Upstream};
use crate::http::h2::asker::{self, Received};
use crate::http::h2::content::Content;
use crate::http::h2::exchange::{Idle, Progress, Refused};
use crate::http::head::{RequestHead, RequestTarget};
use crate::http::pool::Tending;
use crate::http::response::ResponseHead;
use crate::http::reverse::{Client, Rewriter};
use crate::origin::{Origin, Route};
use crate::stream::Stream;
use crate::tls::Alpn;
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// What is known of a client before its first request, whatever version of HTTP it speaks.
#[derive(Debug)]
pub struct Peer {
    /// As the log says it: `reverse-proxy`, `end-to-end-mtls` or `endpoint`.
    pub mode: &'static str,
    /// What is served to it.
    pub route: Arc<Route>,
    /// Whether it came over TLS: `https` in `X-Forwarded-Proto`.
    pub over_tls: bool,
    /// The value of `x-forwarded-client-cert` for its verified certificate, if it showed one.
    pub client_certificate: Option<Arc<str>>,
}

/// What became of a connection.
pub enum Served {
    /// It is closed.
    Closed,
    /// A protocol was switched.
    Upgraded(Tunnel),
    /// The next request is not in origin-form: it belongs to the flow's first stage again.
    Other {
        /// Who asks.
        client: Stream,
        /// All that came of it.
        received: Vec<u8>,
    },
}

/// Serves this and the following requests of a connection. `received` is all that has come, from the first byte of a request's head.
pub async fn serve(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    client: Stream,
    received: Vec<u8>,
    peer: &Peer,
    account: &Account,
) -> Served {
    let timeouts = &snapshot.config.timeouts;
    let options = Options {
        limits: snapshot.head,
        head_timeout: timeouts.head.0,
        idle_timeout: timeouts.http_idle.0,
    };
    let traffic = Rc::new(Traffic::default());
    let about = Client {
        address: account.client().ip(),
        over_tls: peer.over_tls,
        certificate: peer.client_certificate.as_deref(),
    };
    let gate = Stages {
        worker,
        snapshot,
        peer,
        account,
        rewriter: Rewriter::new(&peer.route, about),
        ledger: Ledger::new(account, Rc::clone(&traffic)),
        in_use: RefCell::default(),
    };
    match forward::serve(client, received, options, traffic, &gate).await {
        End::Closed => Served::Closed,
        End::Other { client, received } => {
            account.begun();
            Served::Other { client, received }
        }
        End::Upgraded(upgraded) => Served::Upgraded(connect::tunnel(snapshot, upgraded)),
    }
}

/// Keeps a connection for whichever request comes next, in the care of a task where there was none.
pub(super) fn keep(worker: &Rc<Worker>, origin: &Arc<Origin>, upstream: Upstream) {
    if worker.upstreams.keep(origin, upstream) == Tending::Untended {
        let worker = Rc::clone(worker);
        uring::spawn(async move {
            let limit = || {
                let snapshot = worker.shared.snapshot.load();
                snapshot.config.timeouts.upstream_idle.0
            };
            worker.upstreams.tend(limit, &worker.draining).await;
        });
    }
}

/// The stages of the flow, for each of a connection's requests.
struct Stages<'a> {
    worker: &'a Rc<Worker>,
    snapshot: &'a Arc<Snapshot>,
    peer: &'a Peer,
    account: &'a Account,
    rewriter: Rewriter,
    ledger: Ledger<'a>,
    /// The connection that the request under way has to the upstream.
    in_use: RefCell<Option<UpstreamGuard>>,
}

impl Stages<'_> {
    fn origin(&self) -> &Arc<Origin> {
        &self.peer.route.origin
    }

    fn goes_over(&self, connection: Connection) {
        let guard = self.worker.metrics.upstream_request(connection);
        self.in_use.replace(Some(guard));
    }

    /// Another configuration is in force than the one that this connection was judged by.
    fn is_outdated(&self) -> bool {
        !std::ptr::eq(
            Arc::as_ptr(&self.worker.shared.snapshot.load()),
            Arc::as_ptr(self.snapshot),
        )
    }
}

impl Gate for Stages<'_> {
    type Hop = ();

    fn carries(&self, head: &RequestHead<'_>) -> bool {
        let for_a_server = matches!(
            head.target,
            RequestTarget::Origin(_) | RequestTarget::Asterisk
        );
        // A request that comes after a reload is served by what is in force now: the flow begins anew with it.
        for_a_server && !self.is_outdated()
    }

    async fn admit(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) -> Result<(), Answer> {
        let target = &self.origin().target;
        let path = head.target.path();
        self.account
            .asked(self.peer.mode, head.method, Some(target), Some(path));
        self.account
            .calls_itself(|| head.fields.first("user-agent"));
        authorize::origin(self.snapshot, self.account, self.origin())
            .map_err(|answer| answer.about(target))?;
        self.rewriter.request_head(head, out)
    }

    fn kept(&self, (): &()) -> Option<Upstream> {
        let kept = self.worker.upstreams.take(self.origin())?;
        self.goes_over(Connection::Kept);
        Some(kept)
    }

    async fn connect(&self, (): &()) -> Result<Stream, Answer> {
        let connected = connect::origin(
            self.worker,
            self.snapshot,
            self.account,
            self.origin(),
            Alpn::Http1,
        );
        let stream = connected.await?;
        let again = self.in_use.borrow().is_some();
        self.goes_over(match again {
            true => Connection::Again,
            false => Connection::New,
        });
        Ok(stream)
    }

    fn keep(&self, (): &(), upstream: Upstream) {
        keep(self.worker, self.origin(), upstream);
    }

    fn shares(&self, (): &()) -> bool {
        self.origin().protocol == HttpProtocol::H2
    }

    async fn share(
        &self,
        (): &(),
        request: Shared<'_>,
        content: &mut Content<Received<'_>>,
        client: &mut asker::Client<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), Refused> {
        let exchange = reach::Exchange {
            worker: self.worker,
            snapshot: self.snapshot,
            origin: self.origin(),
            rewriter: &self.rewriter,
            account: self.account,
            progress,
            idle: Idle::of_request(&self.snapshot.config.timeouts),
            plan: reach::Plan {
                head: request.head.to_owned(),
                method: request.method.to_owned(),
                framing: request.framing,
                is_idempotent: request.is_idempotent,
            },
        };
        exchange.carry(content, client).await
    }

    fn respond(
        &self,
        (): &(),
        head: &ResponseHead<'_>,
        close: bool,
        framed: bool,
        out: &mut Vec<u8>,
    ) {
        self.rewriter.response_head(head, close, framed, out);
    }

    fn about(&self, (): &(), answer: Answer) -> Answer {
        answer.about(&self.origin().target)
    }

    fn finished(&self, exchange: &Exchange) {
        self.in_use.take();
        self.ledger.finished(exchange);
    }

    fn is_draining(&self) -> bool {
        self.worker.draining.fired()
    }

    async fn draining(&self) {
        self.worker.draining.wait().await;
    }
}
