//! The command's connections: programs attached to its cgroup, workers that serve what these redirect, and what both report.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use nix::sys::signal::Signal;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cgroup::Cgroup;
use super::ready::Ready;
use super::signals::Signals;
use super::table::{Seen, Table};
use crate::access_log::AccessLog;
use crate::admin::health::Health;
use crate::admin::metrics::Metrics;
use crate::config::Config;
use crate::config::model::Backend;
use crate::intercept::event::End;
use crate::intercept::{Event, Interceptor, Observers, Settings};
use crate::policy::limits::Limits;
use crate::redirect::{EventKind, Events, Observed, Programs};
use crate::run::snapshot::Compiler;
use crate::run::{Ended, spawn_worker};
use crate::uring::{self, Mechanism};
use crate::worker::{Phase, Shared, Start};

/// How long what the command has sent may take to arrive once it has ended: the kernel would have done it in its absence.
const LAST_BYTES: Duration = Duration::from_secs(3);
/// The same where processes outlive the command, whose connections do not end by themselves.
const LAST_BYTES_OF_OTHERS: Duration = Duration::from_millis(500);
/// How long workers have to end once everything in them has been ended by force.
const FORCED: Duration = Duration::from_secs(2);
/// How long the ends of direct connections are waited for: the peer has a say in them.
const LAST_ENDS: Duration = Duration::from_millis(500);
/// How often the kernel is told that HNP lives.
const BEAT: Duration = Duration::from_secs(1);

/// What is at work while the command runs.
pub(super) struct Interception<'t> {
    /// Dropping it detaches the programs.
    interceptor: Option<Interceptor>,
    workers: Workers,
    reports: Reports<'t>,
}

/// The workers' threads.
struct Workers {
    phase: watch::Sender<Phase>,
    ends: mpsc::UnboundedReceiver<Ended>,
    running: usize,
    /// Connections that were ended by force.
    cut: usize,
}

/// What the kernel and the workers tell.
struct Reports<'t> {
    table: &'t mut Table,
    kernel: Events,
    ready: Ready,
    workers: broadcast::Receiver<Arc<Event>>,
    /// Direct connections under way, by destination and process.
    direct: HashMap<(SocketAddr, u32), u64>,
}

impl<'t> Interception<'t> {
    /// Serves the connections of who will be in `cgroup`, by what `config` says; must be called on the control thread's runtime.
    pub(super) fn begin(
        cgroup: &Cgroup,
        mut config: Config,
        metrics: &Arc<Metrics>,
        table: &'t mut Table,
    ) -> anyhow::Result<Interception<'t>> {
        // First what a user without privilege fails at.
        let programs = Programs::load()?;
        let intercept = config.intercept.get_or_insert_default().clone();
        let mechanism = mechanism(config.backend)?;
        let workers = metrics.workers();
        let health = Health::new(workers);
        let snapshot = Compiler::new(Handle::current()).compile(config.clone(), None)?;
        let rules = snapshot
            .intercepted
            .as_ref()
            .map(|one| Arc::clone(&one.rules));
        let rules = rules.context("[intercept] is not compiled, which is a defect of hnp")?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            limits: Limits::new(&config.limits),
            health,
        });
        let (phase, phases) = watch::channel(Phase::Running);
        let (ended, ends) = mpsc::unbounded_channel();
        let mut orders = Vec::new();
        for id in 0..workers {
            let (order, obeyed) = mpsc::unbounded_channel();
            orders.push(order);
            let start = Start {
                id,
                workers,
                mechanism,
                listeners: Vec::new(),
                shared: Arc::clone(&shared),
                metrics: metrics.worker(id),
                log: AccessLog::disabled(),
                heart: shared.health.heartbeat(id),
                phase: phases.clone(),
                orders: obeyed,
            };
            spawn_worker(start, ended.clone()).context("cannot start a worker's thread")?;
        }
        let observers = Observers::default();
        let told = observers.join();
        let settings = Settings::new(&intercept, rules, true);
        let mut interceptor = Interceptor::new(
            programs,
            orders,
            config.listener.backlog,
            (observers, Arc::default()),
            settings,
        )?;
        let kernel = interceptor.events()?;
        let ready = Ready::of(&kernel).context("cannot wait for the kernel's reports")?;
        interceptor.attach_here(cgroup.path(), "exec")?;
        Ok(Interception {
            interceptor: Some(interceptor),
            workers: Workers {
                phase,
                ends,
                running: workers,
                cut: 0,
            },
            reports: Reports {
                table,
                kernel,
                ready,
                workers: told,
                direct: HashMap::new(),
            },
        })
    }

    /// Takes reports and tells the kernel that HNP lives, for as long as it does. Ends with what went wrong: nothing is
    /// intercepted from then on.
    pub(super) async fn watch(&mut self) -> String {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                error = self.reports.take() => break error,
                _ = beats.tick() => {
                    if let Some(interceptor) = &mut self.interceptor {
                        interceptor.tick(true);
                    }
                }
                error = self.workers.fail() => break error,
            }
        };
        self.interceptor = None;
        why
    }

    /// Detaches, and lets arrive what the command has sent, unless a signal says that this takes too long. `others` are processes that
    /// outlive it. How many connections were cut.
    pub(super) async fn end(mut self, signals: &Signals, others: bool) -> usize {
        self.interceptor = None;
        let patience = match others {
            true => LAST_BYTES_OF_OTHERS,
            false => LAST_BYTES,
        };
        let (workers, reports) = (&mut self.workers, &mut self.reports);
        workers.phase.send_replace(Phase::Draining);
        let drained = async {
            tokio::select! {
                () = workers.end() => {}
                () = told_to_end(signals) => {}
            }
        };
        let _ = timeout(patience, reports.during(drained)).await;
        workers.phase.send_replace(Phase::Stopping);
        let _ = timeout(FORCED, reports.during(workers.end())).await;
        reports.last().await;
        workers.cut
    }
}

impl Workers {
    /// Waits until one ends, which none should. Why it has.
    async fn fail(&mut self) -> String {
        let ended = self.ends.recv().await;
        self.running -= 1;
        match ended.map(|ended| ended.outcome) {
            Some(Err(error)) => format!("a worker failed: {error}"),
            _ => "a worker ended".to_owned(),
        }
    }

    /// Waits until all have ended.
    async fn end(&mut self) {
        while self.running > 0 {
            let Some(ended) = self.ends.recv().await else {
                return;
            };
            self.running -= 1;
            match ended.outcome {
                Ok(cut) => self.cut += cut,
                Err(error) => tracing::warn!("a worker failed: {error}"),
            }
        }
    }
}

/// Waits for a signal that asks hnp to end.
async fn told_to_end(signals: &Signals) {
    loop {
        match signals.next().await.map(|sent| sent.signal) {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) | Err(_) => {
                return;
            }
            Ok(_) => {}
        }
    }
}

impl Reports<'_> {
    /// Takes what is told, for ever; ends with what went wrong.
    async fn take(&mut self) -> String {
        loop {
            tokio::select! {
                ready = self.ready.wait() => match ready {
                    Ok(()) => self.drain(),
                    Err(error) => return format!("the kernel's reports cannot be waited for: {error}"),
                },
                told = self.workers.recv() => match told {
                    Ok(event) => self.told(&event),
                    Err(RecvError::Lagged(lost)) => self.table.lost(lost),
                    Err(RecvError::Closed) => return "nobody reports any more".to_owned(),
                },
            }
        }
    }

    /// Takes what is told while something else goes on.
    async fn during(&mut self, other: impl Future<Output = ()>) {
        let mut other = std::pin::pin!(other);
        tokio::select! {
            () = &mut other => {}
            _ = self.take() => other.await,
        }
    }

    /// Takes what is left, and waits a little for direct connections to end.
    async fn last(&mut self) {
        self.drain();
        let ends = async {
            while !self.direct.is_empty() && self.ready.wait().await.is_ok() {
                self.drain();
            }
        };
        let _ = timeout(LAST_ENDS, ends).await;
        loop {
            match self.workers.try_recv() {
                Ok(event) => self.told(&event),
                Err(TryRecvError::Lagged(lost)) => self.table.lost(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        for ((destination, _), count) in std::mem::take(&mut self.direct) {
            for _ in 0..count {
                self.table.add(Seen {
                    note: Some("still open, or its end was not seen".to_owned()),
                    ..Seen::new(destination, "direct")
                });
            }
        }
    }

    fn drain(&mut self) {
        while let Some(observed) = self.kernel.try_next() {
            self.observed(&observed);
        }
    }

    /// What the kernel reports: all but the ends of what it redirected.
    fn observed(&mut self, observed: &Observed) {
        let key = (observed.destination, observed.pid);
        let seen = match observed.kind {
            // Told by the worker that serves it.
            EventKind::Relayed => return,
            // Their ends are told.
            EventKind::Direct | EventKind::FailedOpen => {
                *self.direct.entry(key).or_default() += 1;
                return;
            }
            EventKind::Closed | EventKind::NotMade => {
                if let Some(open) = self.direct.get_mut(&key) {
                    *open -= 1;
                    if *open == 0 {
                        self.direct.remove(&key);
                    }
                }
                let failed = observed.kind == EventKind::NotMade;
                Seen {
                    up: observed.sent,
                    down: observed.received,
                    duration: observed.duration,
                    failed,
                    note: failed.then(|| "refused, unreachable or timed out".to_owned()),
                    ..Seen::new(observed.destination, "direct")
                }
            }
            EventKind::Denied => Seen::new(observed.destination, "deny"),
            EventKind::QuicDenied => Seen {
                note: Some("QUIC".to_owned()),
                ..Seen::new(observed.destination, "deny")
            },
            EventKind::FailedClosed => Seen {
                failed: true,
                note: Some("HNP could not take it".to_owned()),
                ..Seen::new(observed.destination, "deny")
            },
        };
        self.table.add(seen);
    }

    /// The end of what a worker has served.
    fn told(&mut self, event: &Event) {
        let Some(end) = &event.end else { return };
        let (failed, note) = judge(end);
        self.table.add(Seen {
            name: event.name.clone(),
            up: end.bytes_up,
            down: end.bytes_down,
            duration: Duration::try_from_secs_f64(end.seconds).unwrap_or_default(),
            failed,
            note,
            ..Seen::new(event.destination, event.action.clone())
        });
    }
}

/// Whether a connection failed, and what people are to know of its end. That the client breaks off is its own affair.
fn judge(end: &End) -> (bool, Option<String>) {
    let by = end.by.as_deref();
    match end.reason.as_deref() {
        None | Some("eof") => (false, None),
        Some("denied") => (false, end.detail.clone()),
        Some("drain_deadline") => (true, Some("cut at the end".to_owned())),
        Some(_) if by == Some("client") => (false, None),
        Some(reason) => (
            true,
            Some(end.detail.clone().unwrap_or_else(|| reason.to_owned())),
        ),
    }
}

/// What the workers wait with. That io_uring is forbidden in many containers is no news to who runs a command.
fn mechanism(backend: Backend) -> anyhow::Result<Mechanism> {
    match (backend, uring::why_unavailable()) {
        (Backend::Auto | Backend::IoUring, None) => Ok(Mechanism::IoUring),
        (Backend::IoUring, Some(why)) => anyhow::bail!(
            "`io_uring` is asked for and not available: {why}; or use `--backend auto`"
        ),
        (Backend::Auto | Backend::Epoll, _) => Ok(Mechanism::Epoll),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_does_is_no_failure() {
        let end = |by: &str, reason: &str, detail: Option<&str>| End {
            by: Some(by.to_owned()),
            reason: Some(reason.to_owned()),
            detail: detail.map(str::to_owned),
            address: None,
            bytes_up: 0,
            bytes_down: 0,
            seconds: 0.0,
        };
        assert_eq!(judge(&end("upstream", "eof", None)), (false, None));
        assert_eq!(
            judge(&end("client", "reset", Some("it broke"))),
            (false, None)
        );
        let refused = end("upstream", "connect_refused", Some("connection refused"));
        assert_eq!(
            judge(&refused),
            (true, Some("connection refused".to_owned()))
        );
        assert_eq!(
            judge(&end("upstream", "reset", None)),
            (true, Some("reset".to_owned()))
        );
        let denied = end("hnp", "denied", Some("rule 1 denies it"));
        assert_eq!(judge(&denied), (false, Some("rule 1 denies it".to_owned())));
    }
}
