//! Interception in a running HNP: the control socket, the kernel's reports, the beat that says HNP lives.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{MissedTickBehavior, interval};

use crate::access_log::AccessLog;
use crate::admin::health::{Health, WorkerState};
use crate::admin::metrics::Pods;
use crate::config::model::{Config, Intercept};
use crate::intercept::server::{Server, lock};
use crate::intercept::{Intercepted, Interceptor, Observers, Order, Settings};
use crate::redirect::{Events, Pins, Programs, RedirectError};

/// How often the kernel is told that HNP lives, and pods are looked after.
const TICK: Duration = Duration::from_secs(1);

/// What is needed before anything is served.
pub(super) struct Loaded {
    programs: Programs,
}

impl Loaded {
    /// Loads the programs and what is pinned; nothing is attached yet.
    pub(super) fn load(config: &Intercept) -> anyhow::Result<Loaded> {
        let pins = pins(config).context("[intercept]")?;
        let programs = Programs::load_pinned(pins).context("[intercept]")?;
        Ok(Loaded { programs })
    }
}

/// The directory for pins, in a BPF file system that is mounted if need be.
fn pins(config: &Intercept) -> Result<Pins, RedirectError> {
    match Pins::open(&config.pins) {
        Err(RedirectError::NoBpffs { .. } | RedirectError::Path { .. }) => {
            let usual = std::path::Path::new("/sys/fs/bpf");
            let mount = match config.pins.starts_with(usual) {
                true => usual,
                false => &config.pins,
            };
            Pins::mount(mount)?;
            tracing::info!("mounted a BPF file system on {}", mount.display());
            Pins::open(&config.pins)
        }
        opened => opened,
    }
}

/// Interception, as the control thread holds it.
pub(super) struct Interception {
    interceptor: Arc<Mutex<Interceptor>>,
    server: Option<Server>,
    events: Option<(Events, AccessLog)>,
}

impl Interception {
    /// Takes over the pods that an earlier HNP has left. Must run on the control thread's runtime.
    pub(super) fn start(
        loaded: Loaded,
        config: &Config,
        intercept: &Intercept,
        intercepted: &Intercepted,
        workers: Vec<UnboundedSender<Order>>,
        (books, log): (Arc<Pods>, AccessLog),
    ) -> anyhow::Result<Interception> {
        let server = Server::bind(&intercept.control).context("[intercept]")?;
        let settings = settings(config, intercept, intercepted);
        let backlog = config.listener.backlog;
        let observers = Observers::default();
        let interceptor = Interceptor::new(
            loaded.programs,
            workers,
            backlog,
            (observers, Arc::clone(&books)),
            settings,
        );
        let mut interceptor = interceptor.context("[intercept]")?;
        interceptor
            .take_over()
            .context("[intercept]: what an earlier hnp has left cannot be taken over")?;
        let events = interceptor.events()?;
        let interceptor = Arc::new(Mutex::new(interceptor));
        let counting = Arc::downgrade(&interceptor);
        books.read_kernel_by(Box::new(move |pod| match counting.upgrade() {
            Some(interceptor) => lock(&interceptor).counted(pod),
            None => Vec::new(),
        }));
        Ok(Interception {
            events: Some((events, log)),
            interceptor,
            server: Some(server),
        })
    }

    /// Begins to answer, to read what the kernel reports, and to beat.
    pub(super) fn spawn(&mut self, health: &Arc<Health>) {
        if let Some(server) = self.server.take() {
            tokio::spawn(server.serve(Arc::clone(&self.interceptor)));
        }
        if let Some((events, log)) = self.events.take() {
            let interceptor = Arc::clone(&self.interceptor);
            let reader = thread::Builder::new().name("hnp-events".to_owned());
            if let Err(error) = reader.spawn(move || read(events, &log, &interceptor)) {
                tracing::warn!("the kernel's reports cannot be read: {error}");
            }
        }
        tokio::spawn(tend(Arc::clone(&self.interceptor), Arc::clone(health)));
    }

    /// Another configuration is in force.
    pub(super) fn configure(
        &self,
        config: &Config,
        intercept: &Intercept,
        intercepted: &Intercepted,
    ) {
        let settings = settings(config, intercept, intercepted);
        if let Err(error) = lock(&self.interceptor).configure(settings) {
            tracing::error!("the kernel does not take the new rules for pods: {error}");
        }
    }
}

fn settings(config: &Config, intercept: &Intercept, intercepted: &Intercepted) -> Settings {
    Settings::new(intercept, Arc::clone(&intercepted.rules), config.log.access)
}

/// Says that HNP lives, as long as its workers do, and looks after pods.
async fn tend(interceptor: Arc<Mutex<Interceptor>>, health: Arc<Health>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let workers = health.report().workers;
        let alive = workers
            .iter()
            .all(|worker| matches!(worker.state, WorkerState::Ok | WorkerState::Starting));
        lock(&interceptor).tick(alive);
    }
}

/// Logs what the kernel reports and tells observers of it, on a thread of its own: to the end of the process.
fn read(mut events: Events, log: &AccessLog, interceptor: &Mutex<Interceptor>) {
    loop {
        while let Some(observed) = events.try_next() {
            let (event, observers) = {
                let interceptor = lock(interceptor);
                (
                    interceptor.event(&observed),
                    interceptor.observers().clone(),
                )
            };
            if let Some(entry) = event.entry() {
                log.write(&entry);
            }
            observers.tell(|| event);
        }
        log.flush();
        let mut readable = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        match poll(&mut readable, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => {
                tracing::warn!("the kernel's reports cannot be waited for: {error}");
                return;
            }
        }
    }
}
