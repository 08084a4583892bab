//! A worker: one thread, one reactor, its listeners and the connections they bring; nothing on the byte path is shared with
//! another worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};

use crate::access_log::{AccessLog, ClosedBy};
use crate::admin::health::{self, Health, Heartbeat};
use crate::admin::metrics::WorkerMetrics;
use crate::config::Config;
use crate::dial::{Dialer, Resolver};
use crate::flow::modes::Modes;
use crate::flow::{accept, captured};
use crate::http::h2::upstream::Upstreams;
use crate::http::head::HeadLimits;
use crate::http::pool::Pool;
use crate::intercept::{Intercepted, Order};
use crate::origin::Route;
use crate::policy::Engine;
use crate::policy::auth::Authenticator;
use crate::policy::limits::Limits;
use crate::redirect::Destinations;
use crate::relay::Pools;
use crate::signal::Signal;
use crate::target::Target;
use crate::tls::{Clients, Handshakes, Server};
use crate::uring::{self, Listener, Mechanism, Runtime};

/// How often a worker says that its loop is alive.
const HEARTBEAT: Duration = health::BEAT_EVERY;
/// How long the connections that are ended by force have for their log lines.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What all workers share, none of it touched for a byte.
pub struct Shared {
    /// What the configuration means, for connections that begin now.
    pub snapshot: ArcSwap<Snapshot>,
    /// Running counts against limits.
    pub limits: Arc<Limits>,
    /// Liveness of the workers and more.
    pub health: Arc<Health>,
}

/// One state of the configuration, compiled. A connection keeps the one that it began with.
pub struct Snapshot {
    /// As written.
    pub config: Config,
    /// Who may reach what.
    pub policy: Engine,
    /// Who clients are; absent: nobody is asked.
    pub auth: Option<Authenticator>,
    /// From targets to sockets.
    pub dialer: Dialer,
    /// Behind the dialer; kept across reloads for its cache.
    pub resolver: Resolver,
    /// Host and port of the configured upstream.
    pub upstream: Option<Target>,
    /// `host:port` of the parent proxy.
    pub parent: Option<Arc<str>>,
    /// How large a head may be.
    pub head: HeadLimits,
    /// What is served.
    pub modes: Modes,
    /// TLS on the listener; absent: plaintext alone.
    pub tls: Option<Arc<Server>>,
    /// TLS towards the manager and the parent proxy.
    pub clients: Clients,
    /// What becomes of requests for the manager; absent without an upstream.
    pub route: Option<Arc<Route>>,
    /// What becomes of the requests of endpoints, by name.
    pub endpoints: HashMap<Box<str>, Arc<Route>>,
    /// What becomes of captured connections.
    pub intercepted: Option<Intercepted>,
}

impl Snapshot {
    /// Everything that requests for a manager are served by.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.route.iter().chain(self.endpoints.values())
    }
}

impl Snapshot {
    /// What has become of a route of an earlier configuration.
    pub(crate) fn route_like(&self, old: &Route) -> Option<&Arc<Route>> {
        match &old.server_name {
            Some(name) => self.endpoints.get(name),
            None => self.route.as_ref(),
        }
    }
}

/// How far the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// New connections are refused, old ones finish.
    Draining,
    /// What is left ends by force.
    Stopping,
}

/// What a worker's connections share.
pub struct Worker {
    /// From 0.
    pub id: usize,
    workers: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's cells.
    pub metrics: WorkerMetrics,
    /// This worker's buffer of log lines.
    pub log: AccessLog,
    /// Buffers and pipes.
    pub pools: Pools,
    /// Idle connections to upstreams.
    pub upstreams: Pool,
    /// Connections to upstreams that speak HTTP/2.
    pub h2_upstreams: Rc<Upstreams>,
    /// New connections are refused from now on.
    pub draining: Signal,
    /// What is left ends now.
    pub stopping: Signal,
    /// TLS handshakes of clients under way.
    pub handshakes: Handshakes,
    /// Clients being told that they are over a limit.
    pub refusals: Cell<usize>,
    /// Where captured connections were meant to go; absent before there are any.
    pub(crate) destinations: RefCell<Option<Destinations>>,
    connections: Cell<u64>,
    live: Cell<usize>,
    empty: Notify,
}

impl Worker {
    /// With no connection yet.
    pub(crate) fn new(
        id: usize,
        workers: usize,
        shared: Arc<Shared>,
        metrics: WorkerMetrics,
        log: AccessLog,
    ) -> Worker {
        Worker {
            id,
            workers,
            shared,
            metrics,
            log,
            pools: Pools::default(),
            upstreams: Pool::default(),
            h2_upstreams: Rc::default(),
            draining: Signal::default(),
            stopping: Signal::default(),
            handshakes: Handshakes::default(),
            refusals: Cell::new(0),
            destinations: RefCell::new(None),
            connections: Cell::new(id as u64),
            live: Cell::new(0),
            empty: Notify::new(),
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.workers
    }

    /// A number for a new connection, unique in the process: the remainder by the number of workers is the worker's own.
    pub fn next_connection(&self) -> u64 {
        let number = self.connections.get();
        self.connections.set(number + self.workers as u64);
        number
    }

    /// One more connection lives; [`Worker::left`] takes it back.
    pub fn entered(&self) {
        self.live.set(self.live.get() + 1);
    }

    /// A connection has ended.
    pub fn left(&self) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.empty.notify_waiters();
        }
    }

    /// Why a connection whose code did not say so has ended.
    #[must_use]
    pub fn why_aborted(&self) -> (ClosedBy, &'static str) {
        let reason = if self.stopping.fired() {
            "drain_deadline"
        } else {
            "aborted"
        };
        (ClosedBy::Hnp, reason)
    }

    async fn empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.live.get() == 0 {
                return;
            }
            empty.await;
        }
    }
}

/// Everything a worker's thread is started with.
pub struct Start {
    /// From 0.
    pub id: usize,
    /// How many there are.
    pub workers: usize,
    /// What to wait with.
    pub mechanism: Mechanism,
    /// One for each address.
    pub listeners: Vec<(SocketAddr, OwnedFd)>,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's cells.
    pub metrics: WorkerMetrics,
    /// This worker's buffer of log lines.
    pub log: AccessLog,
    /// This worker's part of the health report.
    pub heart: Heartbeat,
    /// How far the process is on its way out.
    pub phase: watch::Receiver<Phase>,
    /// Which pods to serve.
    pub orders: mpsc::UnboundedReceiver<Order>,
}

/// Runs a worker on this thread to its end. Gives the number of connections that had to be ended by force.
///
/// # Errors
/// The kernel refuses the reactor or a listener.
pub fn run(start: Start) -> std::io::Result<usize> {
    let Start {
        id,
        workers,
        mechanism,
        listeners,
        shared,
        metrics,
        log,
        heart,
        phase,
        orders,
    } = start;
    let mut runtime = Runtime::new(mechanism)?;
    metrics.backend(mechanism.name());
    let worker = Rc::new(Worker::new(id, workers, shared, metrics, log));
    let housekeeper = Rc::clone(&worker);
    runtime.before_sleep(move || {
        housekeeper.log.flush();
        housekeeper.metrics.tasks(uring::task_count());
        let pools = housekeeper.pools.counts();
        housekeeper
            .metrics
            .pipes(pools.pipes_spare, pools.pipes_leased);
        // The one that all relays share lies idle between their turns.
        housekeeper.metrics.buffers(1, pools.buffers_held);
        housekeeper
            .metrics
            .upstream_idle(housekeeper.upstreams.len());
    });
    runtime.block_on(live(worker, listeners, heart, phase, orders))
}

async fn live(
    worker: Rc<Worker>,
    listeners: Vec<(SocketAddr, OwnedFd)>,
    heart: Heartbeat,
    mut phase: watch::Receiver<Phase>,
    orders: mpsc::UnboundedReceiver<Order>,
) -> std::io::Result<usize> {
    for (address, listener) in listeners {
        uring::spawn(accept::run(
            Rc::clone(&worker),
            Listener::from_fd(listener)?,
            address,
        ));
    }
    uring::spawn(captured::obey(Rc::clone(&worker), orders));
    uring::spawn(async move {
        loop {
            heart.beat();
            uring::sleep(HEARTBEAT).await;
        }
    });
    // A control thread that is gone, and its channel with it, means the end as well.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    worker.draining.fire();
    // The accept loops take who is in their queues before they close; only then can it be empty.
    uring::yield_now().await;
    let forced = {
        let mut empty = std::pin::pin!(worker.empty());
        let mut stopping = std::pin::pin!(phase.wait_for(|phase| *phase >= Phase::Stopping));
        std::future::poll_fn(|cx| {
            if empty.as_mut().poll(cx).is_ready() {
                return std::task::Poll::Ready(false);
            }
            stopping.as_mut().poll(cx).map(|_| true)
        })
        .await
    };
    let left = worker.live.get();
    if forced {
        worker.stopping.fire();
        let _ = uring::timeout(LAST_WORDS, worker.empty()).await;
    }
    worker.log.flush();
    Ok(left)
}
