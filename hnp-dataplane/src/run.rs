//! `hnp run`: everything that lives as long as the process.
//!
//! N workers, each a thread with a reactor and listeners of its own, carry the traffic. The main thread is the control thread
//! (plain tokio): it resolves names, serves the admin address, watches files and signals, and hands the workers new
//! snapshots of the configuration.

mod certificates;
mod control;
mod intercept;
pub(crate) mod limits;
pub(crate) mod snapshot;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::access_log::{AccessLog, LogWriter};
use crate::admin::health::Health;
use crate::admin::metrics::Metrics;
use crate::admin::server::AdminServer;
use crate::config::model::{Backend, Config, Ktls};
use crate::config::{Loaded, Sources};
use crate::flow::listen;
use crate::policy::limits::Limits;
use crate::telemetry::Telemetry;
use crate::tls;
use crate::uring::{self, Mechanism};
use crate::worker::{self, Phase, Shared, Start};
use control::Control;
pub(crate) use control::Ended;
use intercept::Interception;
use snapshot::Compiler;

/// How long the logs' readers have at the end to take what is left.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Serves until it is told to end. 0: everything finished; 1: something failed, or had to be ended by force.
#[must_use]
pub fn run(loaded: Loaded, sources: Sources) -> ExitCode {
    let metrics = Metrics::new(worker_count(&loaded.config));
    let telemetry = match Telemetry::init(&loaded.config.log, Arc::clone(&metrics)) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = serve(loaded, sources, metrics, &telemetry).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    });
    if let Err(unwritten) = telemetry.close(LAST_LINES) {
        eprintln!("{unwritten}");
    }
    code
}

fn serve(
    loaded: Loaded,
    sources: Sources,
    metrics: Arc<Metrics>,
    telemetry: &Telemetry,
) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.line());
    }
    let config = &loaded.config;
    let mechanism = mechanism(config.backend)?;
    let workers = metrics.workers();
    limits::raise_open_files(config);
    kernel_tls(config);
    // Whoever is not allowed to intercept learns of it before anything is served.
    let loaded_programs = config.intercept.as_ref().map(intercept::Loaded::load);
    let loaded_programs = loaded_programs.transpose()?;

    let listeners = listen::bind(&config.listener, workers)?;
    let admin = config.admin.address.map(AdminServer::bind).transpose()?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread's runtime")?;
    let compiler = Compiler::new(runtime.handle().clone());
    let health = Health::new(workers);
    for (address, _) in listeners.iter().flatten() {
        health.expect_listener(*address);
    }
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(compiler.compile(config.clone(), None)?),
        limits: Limits::new(&config.limits),
        health,
    });
    // Before the first connection, which is to be counted.
    certificates::in_force(&shared.snapshot.load(), &metrics);
    let writer = LogWriter::stdout(Arc::clone(&metrics))
        .context("cannot start the thread that writes the access log")?;
    let (phase, phases) = watch::channel(Phase::Running);
    let (ended, ends) = mpsc::unbounded_channel();
    let access_log = || match config.log.access {
        true => writer.sink(config.log.format),
        false => AccessLog::disabled(),
    };
    let mut orders = Vec::new();
    for (id, listeners) in listeners.into_iter().enumerate() {
        let (order, obeyed) = mpsc::unbounded_channel();
        orders.push(order);
        let start = Start {
            id,
            workers,
            mechanism,
            listeners,
            shared: Arc::clone(&shared),
            metrics: metrics.worker(id),
            log: access_log(),
            heart: shared.health.heartbeat(id),
            phase: phases.clone(),
            orders: obeyed,
        };
        spawn_worker(start, ended.clone()).context("cannot start a worker's thread")?;
    }
    drop((phases, ended));
    let interception = {
        let _context = runtime.enter();
        let snapshot = shared.snapshot.load();
        match (loaded_programs, &config.intercept, &snapshot.intercepted) {
            (Some(programs), Some(intercept), Some(intercepted)) => Some(Interception::start(
                programs,
                config,
                intercept,
                intercepted,
                orders,
                (Arc::clone(metrics.pods()), access_log()),
            )?),
            _ => None,
        }
    };
    say_ready(config, workers, mechanism);

    let control = Control {
        compiler,
        shared,
        metrics,
        telemetry,
        phase,
        sources,
        started_with: config.clone(),
        loaded: Arc::new(RwLock::new(Arc::new(loaded))),
        interception,
    };
    let code = runtime.block_on(control.run(admin, ends));
    // Look-ups and password checks that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    if let Err(unwritten) = writer.close(LAST_LINES) {
        tracing::warn!("{unwritten}");
    }
    code
}

/// Who makes the records of streams whose handshake ends from now on.
fn kernel_tls(config: &Config) {
    tls::ktls::set_enabled(config.ktls == Ktls::Auto);
}

/// What the workers wait with: as configured, or as the kernel allows, and then it is said why.
fn mechanism(backend: Backend) -> anyhow::Result<Mechanism> {
    if backend == Backend::Epoll {
        return Ok(Mechanism::Epoll);
    }
    match (uring::why_unavailable(), backend) {
        (None, _) => Ok(Mechanism::IoUring),
        (Some(why), Backend::IoUring) => {
            anyhow::bail!(
                "`backend = \"io_uring\"`, but io_uring is not available: {why}; or set `backend = \"auto\"`"
            )
        }
        (Some(why), _) => {
            tracing::warn!(
                "io_uring is not available: {why}. Serving through epoll instead, at a little more CPU time"
            );
            Ok(Mechanism::Epoll)
        }
    }
}

fn worker_count(config: &Config) -> usize {
    match config.workers {
        Some(workers) => workers.get(),
        None => thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Starts a worker's thread, which tells of its end.
pub(crate) fn spawn_worker(start: Start, ended: mpsc::UnboundedSender<Ended>) -> io::Result<()> {
    let id = start.id;
    thread::Builder::new()
        .name(format!("hnp-worker-{id}"))
        .spawn(move || {
            // Tells of the end also when the worker panics.
            let mut end = EndNotice {
                ended,
                end: Some(Ended {
                    worker: id,
                    outcome: Err("it panicked".to_owned()),
                }),
            };
            let outcome = worker::run(start).map_err(|error| error.to_string());
            end.end = Some(Ended {
                worker: id,
                outcome,
            });
        })?;
    Ok(())
}

struct EndNotice {
    ended: mpsc::UnboundedSender<Ended>,
    end: Option<Ended>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // Nobody listens any more only when the process is ending.
            let _ = self.ended.send(end);
        }
    }
}

fn say_ready(config: &Config, workers: usize, mechanism: Mechanism) {
    let addresses: Vec<String> = config
        .listener
        .address
        .iter()
        .map(ToString::to_string)
        .collect();
    let upstream = config
        .upstream
        .as_ref()
        .and_then(|upstream| upstream.url.host_str());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listening = addresses.join(","),
        workers,
        backend = mechanism.name(),
        upstream = upstream.unwrap_or("none"),
        admin = config
            .admin
            .address
            .map(|address| address.to_string())
            .unwrap_or_else(|| "off".to_owned()),
        "HNP is ready"
    );
}
