//! The control thread: signals, reloads and the way out.

use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::certificates;
use super::intercept::Interception;
use super::snapshot::Compiler;
use crate::admin::metrics::Metrics;
use crate::admin::probe::{self, ProbeTarget};
use crate::admin::server::{AdminServer, State};
use crate::config::model::Config;
use crate::config::{self, Fingerprint, Loaded, Sources};
use crate::control::watch::Watcher;
use crate::telemetry::Telemetry;
use crate::worker::{Phase, Shared};

/// How long workers have to end once everything in them has been ended by force.
const FORCED: Duration = Duration::from_secs(5);
/// How often the size of the DNS cache is noted.
const CACHE_NOTED: Duration = Duration::from_secs(5);
/// How long an answer under way on the admin address may take at the end.
const ADMIN_END: Duration = Duration::from_secs(3);

/// A worker's thread has ended.
pub(crate) struct Ended {
    pub(crate) worker: usize,
    /// Connections that were ended by force, or what went wrong.
    pub(crate) outcome: Result<usize, String>,
}

/// What the control thread holds.
pub(super) struct Control<'a> {
    pub(super) compiler: Compiler,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) telemetry: &'a Telemetry,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) sources: Sources,
    /// What cannot be changed by a reload is as it was at the start.
    pub(super) started_with: Config,
    /// In force; the admin address shows it.
    pub(super) loaded: Arc<RwLock<Arc<Loaded>>>,
    /// Where pods are intercepted.
    pub(super) interception: Option<Interception>,
}

/// The signals that `hnp run` heeds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
enum Asked {
    End(&'static str),
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("SIGTERM"),
            _ = self.interrupt.recv() => Asked::End("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

impl Control<'_> {
    /// Serves until the end. Gives the exit code: 0 when everything finished, 1 when something had to be ended by force or
    /// failed.
    pub(super) async fn run(
        mut self,
        admin: Option<AdminServer>,
        mut ends: mpsc::UnboundedReceiver<Ended>,
    ) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new().context("cannot handle signals")?;
        let (probed, target) = watch::channel(self.probe_target());
        tokio::spawn(probe::run(
            Arc::clone(&self.shared.health),
            Arc::clone(&self.metrics),
            target,
            probe::system_resolver,
        ));
        tokio::spawn(note_cache(
            Arc::clone(&self.shared),
            Arc::clone(&self.metrics),
        ));
        if let Some(interception) = &mut self.interception {
            interception.spawn(&self.shared.health);
        }
        // The admin address answers to the very end, so that a drain can be watched.
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let admin = admin.map(|admin| {
            let stop = async {
                let _ = admin_stopped.await;
            };
            tokio::spawn(admin.serve(self.admin_state(), stop))
        });
        let watcher = self.watch();
        let mut daily = tokio::time::interval(certificates::LOOKED_AT);
        daily.reset();
        let code = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End(name) => break self.drain(name, &mut signals, &mut ends).await,
                    Asked::Reload => self.reload("SIGHUP", watcher.as_ref(), &probed),
                },
                () = changed(watcher.as_ref()) => self.reload("a file changed", watcher.as_ref(), &probed),
                _ = daily.tick() => certificates::warn_of_ends(&self.shared.snapshot.load()),
                Some(ended) = ends.recv() => {
                    let why = ended.outcome.err().unwrap_or_else(|| "it ended by itself".to_owned());
                    tracing::error!(worker = ended.worker, "a worker has ended ({why}): HNP ends as well, to be started anew");
                    break ExitCode::FAILURE;
                }
            }
        };
        drop(stop_admin);
        if let Some(admin) = admin {
            let _ = timeout(ADMIN_END, admin).await;
        }
        Ok(code)
    }

    fn admin_state(&self) -> Arc<State> {
        let loaded = Arc::clone(&self.loaded);
        Arc::new(State {
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.shared.health),
            config: Box::new(move || {
                Arc::clone(&loaded.read().unwrap_or_else(PoisonError::into_inner))
            }),
        })
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first hop to the upstream.
    fn probe_target(&self) -> Option<ProbeTarget> {
        let snapshot = self.shared.snapshot.load();
        let direct = snapshot
            .upstream
            .as_ref()
            .is_some_and(|upstream| !snapshot.dialer.via_parent(upstream));
        ProbeTarget::of(&snapshot.config, direct)
    }

    fn watch(&self) -> Option<Watcher> {
        match Watcher::start(self.loaded().fingerprint.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    /// Loads the sources again. What is wrong with them is said and changes nothing.
    fn reload(
        &mut self,
        cause: &str,
        watcher: Option<&Watcher>,
        probed: &watch::Sender<Option<ProbeTarget>>,
    ) {
        let in_force = self.loaded();
        let (fingerprint, outcome) = self.load_again();
        let certificates = fingerprint.tls_differs(&in_force.fingerprint);
        // Also what was refused is not refused again before it has changed.
        if let Some(watcher) = watcher {
            watcher.watch(fingerprint);
        }
        self.metrics.reloaded(outcome.is_ok());
        if certificates {
            self.metrics.certificates_reloaded(outcome.is_ok());
        }
        match outcome {
            Ok(()) => {
                certificates::in_force(&self.shared.snapshot.load(), &self.metrics);
                probed.send_replace(self.probe_target());
                tracing::info!(
                    cause,
                    "configuration reloaded; it applies to new connections"
                );
            }
            Err(error) => {
                tracing::error!(
                    cause,
                    "the new configuration is not used, the old one stays: {error:#}"
                );
            }
        }
    }

    fn load_again(&mut self) -> (Fingerprint, anyhow::Result<()>) {
        let mut loaded = match config::load(&self.sources) {
            Ok(loaded) => loaded,
            Err(error) => return (error.fingerprint(), Err(anyhow::anyhow!(error.summary()))),
        };
        let fingerprint = loaded.fingerprint.clone();
        let old = self.shared.snapshot.load_full();
        let ignored = keep_until_restart(&self.started_with, &mut loaded.config);
        match self.compiler.compile(loaded.config.clone(), Some(&old)) {
            Ok(snapshot) => self.shared.snapshot.store(Arc::new(snapshot)),
            Err(error) => return (fingerprint, Err(error)),
        }
        let snapshot = self.shared.snapshot.load();
        if let (Some(interception), Some(intercept), Some(intercepted)) = (
            &self.interception,
            &loaded.config.intercept,
            &snapshot.intercepted,
        ) {
            interception.configure(&loaded.config, intercept, intercepted);
        }
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.line());
        }
        if !ignored.is_empty() {
            tracing::warn!(
                "these changes take effect only at the next start: {}",
                ignored.join(", ")
            );
        }
        self.shared.limits.update(&loaded.config.limits);
        super::kernel_tls(&loaded.config);
        if let Err(error) = self.telemetry.reload(&loaded.config.log) {
            tracing::warn!("the log level stays as it was: {error}");
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        (fingerprint, Ok(()))
    }

    /// Refuses what is new, lets finish what is there until the deadline or a second signal, then ends the rest by force.
    async fn drain(
        &self,
        cause: &str,
        signals: &mut Signals,
        ends: &mut mpsc::UnboundedReceiver<Ended>,
    ) -> ExitCode {
        let limit = self.shared.snapshot.load().config.timeouts.drain.0;
        tracing::info!(
            cause,
            open = self.shared.limits.open(),
            "draining for at most {limit:?}; another signal ends it at once"
        );
        self.shared.health.set_draining();
        self.metrics.draining(true);
        self.phase.send_replace(Phase::Draining);
        let mut outcome = Outcome::default();
        let deadline = Instant::now() + limit;
        while outcome.ended < self.metrics.workers() {
            tokio::select! {
                ended = ends.recv() => outcome.take(ended),
                () = sleep_until(deadline) => break,
                asked = signals.next() => if let Asked::End(name) = asked {
                    tracing::info!(cause = name, "no longer waiting for connections to finish");
                    break;
                },
            }
        }
        self.phase.send_replace(Phase::Stopping);
        let rest = async {
            while outcome.ended < self.metrics.workers() {
                let ended = ends.recv().await;
                outcome.take(ended);
            }
        };
        if timeout(FORCED, rest).await.is_err() {
            tracing::error!("a worker does not end: giving up on it");
            outcome.failed = true;
        }
        if outcome.forced > 0 {
            tracing::warn!(
                connections = outcome.forced,
                "drained, but these had to be ended by force"
            );
        } else {
            tracing::info!("drained: every connection finished");
        }
        ExitCode::from(u8::from(outcome.failed || outcome.forced > 0))
    }
}

#[derive(Default)]
struct Outcome {
    ended: usize,
    forced: usize,
    failed: bool,
}

impl Outcome {
    fn take(&mut self, ended: Option<Ended>) {
        self.ended += 1;
        match ended.map(|ended| (ended.worker, ended.outcome)) {
            Some((_, Ok(forced))) => self.forced += forced,
            Some((worker, Err(error))) => {
                self.failed = true;
                tracing::error!(worker, "a worker failed: {error}");
            }
            None => self.ended = usize::MAX,
        }
    }
}

/// Keeps the gauge of the DNS cache up to date.
async fn note_cache(shared: Arc<Shared>, metrics: Arc<Metrics>) {
    loop {
        metrics.dns_cache_entries(shared.snapshot.load().resolver.entries());
        sleep(CACHE_NOTED).await;
    }
}

async fn changed(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// Puts back what a reload cannot change. Gives the keys that differ.
fn keep_until_restart(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut ignored = Vec::new();
    let mut keep = |key, differs: bool| {
        if differs {
            ignored.push(key);
        }
    };
    keep(
        "listener.address",
        old.listener.address != new.listener.address,
    );
    keep(
        "listener.backlog",
        old.listener.backlog != new.listener.backlog,
    );
    keep("workers", old.workers != new.workers);
    keep("backend", old.backend != new.backend);
    keep("admin", old.admin != new.admin);
    keep("log.format", old.log.format != new.log.format);
    keep("log.access", old.log.access != new.log.access);
    match (&old.intercept, &mut new.intercept) {
        (Some(old), Some(new)) => {
            keep("intercept.control", old.control != new.control);
            keep("intercept.pins", old.pins != new.pins);
            new.control.clone_from(&old.control);
            new.pins.clone_from(&old.pins);
        }
        (old, new) => {
            keep("intercept", old.is_some() != new.is_some());
            new.clone_from(old);
        }
    }
    new.listener.address = old.listener.address.clone();
    new.listener.backlog = old.listener.backlog;
    new.workers = old.workers;
    new.backend = old.backend;
    new.admin = old.admin.clone();
    new.log.format = old.log.format;
    new.log.access = old.log.access;
    ignored
}
