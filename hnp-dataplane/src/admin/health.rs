//! Whether HNP is alive, and whether it is ready.
//!
//! Workers and the listener's owner tell; a request to `/healthz` or `/readyz` asks.

mod report;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use report::{ListenerReport, Report, UpstreamReport, WorkerReport, WorkerState};

/// How often a worker's timer task beats.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A loop that has not turned for this long is stalled. Far above what a loaded machine costs, far below what users accept.
pub const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What is known about workers, listeners and the upstream.
pub struct Health {
    started: Instant,
    beats: Box<[AtomicU64]>,
    draining: AtomicBool,
    listeners: Mutex<Vec<ListenerState>>,
    upstream: Mutex<Option<UpstreamState>>,
}

/// Value of a beat of a worker that never beat.
const NEVER: u64 = u64::MAX;
/// Value of a beat of a worker that ended.
const ENDED: u64 = u64::MAX - 1;

struct ListenerState {
    address: SocketAddr,
    /// By worker.
    bound: Box<[bool]>,
}

#[derive(Clone)]
struct UpstreamState {
    name: String,
    last: Option<Probed>,
    /// Since when it is as `last` says.
    since: SystemTime,
}

/// What a probe of the upstream found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// A connection was established in that time.
    Reachable(Duration),
    /// None was, and why.
    Unreachable(String),
}

impl Health {
    /// Of a process with that many workers, none of which has started.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Health> {
        Arc::new(Health {
            started: Instant::now(),
            beats: (0..workers).map(|_| AtomicU64::new(NEVER)).collect(),
            draining: AtomicBool::new(false),
            listeners: Mutex::default(),
            upstream: Mutex::default(),
        })
    }

    /// The pulse of one worker, counted from 0. When it goes, the worker counts as ended.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn heartbeat(self: &Arc<Self>, worker: usize) -> Heartbeat {
        assert!(worker < self.beats.len(), "no worker {worker}");
        Heartbeat {
            health: Arc::clone(self),
            worker,
        }
    }

    /// All workers are to listen there: not ready before each of them does.
    pub fn expect_listener(&self, address: SocketAddr) {
        self.listener(address, |_| {});
    }

    /// A worker listens there. A worker that does not exist is ignored.
    pub fn listener_bound(&self, worker: usize, address: SocketAddr) {
        self.listener(address, |listener| set(&mut listener.bound, worker, true));
    }

    /// A worker listens there no more.
    pub fn listener_closed(&self, worker: usize, address: SocketAddr) {
        self.listener(address, |listener| set(&mut listener.bound, worker, false));
    }

    fn listener(&self, address: SocketAddr, change: impl FnOnce(&mut ListenerState)) {
        let mut listeners = lock(&self.listeners);
        let known = listeners
            .iter()
            .position(|listener| listener.address == address);
        let index = known.unwrap_or_else(|| {
            listeners.push(ListenerState {
                address,
                bound: vec![false; self.beats.len()].into(),
            });
            listeners.len() - 1
        });
        change(&mut listeners[index]);
    }

    /// From now on: not ready, and workers may end.
    pub fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether HNP drains.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// There is this upstream from now on, not yet probed; or none. Its name must hold no credentials.
    pub fn expect_upstream(&self, name: Option<&str>) {
        let mut upstream = lock(&self.upstream);
        if upstream.as_ref().map(|upstream| upstream.name.as_str()) != name {
            *upstream = name.map(|name| UpstreamState {
                name: name.to_owned(),
                last: None,
                since: SystemTime::now(),
            });
        }
    }

    /// What a probe of the upstream found. True if that is news: the first finding, or another than the last.
    pub fn upstream_probed(&self, found: Probed) -> bool {
        let mut upstream = lock(&self.upstream);
        let Some(upstream) = upstream.as_mut() else {
            return false;
        };
        let news = !matches!(
            (&upstream.last, &found),
            (Some(Probed::Reachable(_)), Probed::Reachable(_))
                | (Some(Probed::Unreachable(_)), Probed::Unreachable(_))
        );
        if news {
            upstream.since = SystemTime::now();
        }
        upstream.last = Some(found);
        news
    }

    /// How things stand.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            draining: self.draining(),
            workers: self
                .beats
                .iter()
                .map(|beat| self.worker_report(beat.load(Relaxed)))
                .collect(),
            listeners: lock(&self.listeners)
                .iter()
                .map(ListenerState::report)
                .collect(),
            upstream: lock(&self.upstream).clone().map(UpstreamState::report),
        }
    }

    fn worker_report(&self, beat: u64) -> WorkerReport {
        let uptime = self.started.elapsed();
        let state_after = |age: Duration| match age > STALLED_AFTER {
            true => WorkerState::Stalled,
            false => WorkerState::Ok,
        };
        match beat {
            // A worker that does not even start is as dead as one that stalls.
            NEVER if uptime > STALLED_AFTER => {
                WorkerReport::new(WorkerState::Stalled, None, uptime)
            }
            NEVER => WorkerReport::new(WorkerState::Starting, None, uptime),
            ENDED => WorkerReport::new(WorkerState::Ended, None, Duration::ZERO),
            beat => {
                let age = uptime.saturating_sub(Duration::from_millis(beat));
                WorkerReport::new(state_after(age), Some(age), age)
            }
        }
    }

    fn beat(&self, worker: usize) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(ENDED - 1);
        self.beats[worker].store(now, Relaxed);
    }
}

impl ListenerState {
    fn report(&self) -> ListenerReport {
        let bound = self.bound.iter().filter(|bound| **bound).count();
        ListenerReport {
            address: self.address,
            bound_by: bound,
            workers: self.bound.len(),
        }
    }
}

impl UpstreamState {
    fn report(self) -> UpstreamReport {
        let (reachable, connect, error) = match self.last {
            None => (None, None, None),
            Some(Probed::Reachable(took)) => (Some(true), Some(took), None),
            Some(Probed::Unreachable(error)) => (Some(false), None, Some(error)),
        };
        UpstreamReport::new(self.name, reachable, connect, error, self.since)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

/// The pulse of one worker.
#[derive(Debug)]
#[must_use = "the worker counts as ended when this goes"]
pub struct Heartbeat {
    health: Arc<Health>,
    worker: usize,
}

impl Heartbeat {
    /// The worker's loop turned. To be called from a task of that loop, each [`BEAT_EVERY`].
    pub fn beat(&self) {
        self.health.beat(self.worker);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.beats[self.worker].store(ENDED, Relaxed);
    }
}

fn set(flags: &mut [bool], index: usize, value: bool) {
    if let Some(flag) = flags.get_mut(index) {
        *flag = value;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each state is written in one go: a panic elsewhere leaves none half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
