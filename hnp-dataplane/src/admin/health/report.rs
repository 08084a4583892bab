//! How things stand, for people and for machines.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::access_log::Clock;

/// How things stand at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// HNP drains: it is not ready any more, and its workers may have ended.
    pub draining: bool,
    /// By worker.
    pub workers: Vec<WorkerReport>,
    /// In the order in which they were announced.
    pub listeners: Vec<ListenerReport>,
    /// The manager (by way of the parent proxy, if there is one), if one is configured.
    pub upstream: Option<UpstreamReport>,
}

/// One worker.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerReport {
    /// In a word.
    pub state: WorkerState,
    /// Milliseconds since its loop turned last.
    pub loop_age_ms: Option<u64>,
    /// Since when it is stalled: the last time it showed life.
    pub since: Option<String>,
}

/// A worker's state in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Its loop has not turned yet, which is fine for a moment.
    Starting,
    /// Its loop turns.
    Ok,
    /// Its loop has not turned for longer than [`STALLED_AFTER`](super::STALLED_AFTER).
    Stalled,
    /// It ended, which is fine while draining.
    Ended,
}

/// One address that clients connect to.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerReport {
    /// The address.
    pub address: SocketAddr,
    /// How many workers listen there.
    pub bound_by: usize,
    /// How many workers should.
    pub workers: usize,
}

/// The upstream. It decides nothing: a manager that is away is no reason to restart HNP, or to send clients elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamReport {
    /// Scheme, host and port, and the parent proxy's.
    pub name: String,
    /// What the last probe found; absent before the first.
    pub reachable: Option<bool>,
    /// Milliseconds that the last probe's connection took.
    pub connect_ms: Option<f64>,
    /// Why the last probe failed.
    pub error: Option<String>,
    /// Since when it is so.
    pub since: String,
}

impl Report {
    /// Whether the process should go on: each worker's loop turns (or ended in a drain).
    #[must_use]
    pub fn alive(&self) -> bool {
        self.workers.iter().all(|worker| match worker.state {
            WorkerState::Starting | WorkerState::Ok => true,
            WorkerState::Stalled => false,
            WorkerState::Ended => self.draining,
        })
    }

    /// Whether clients should be sent here: each worker's loop turns, each listener is bound by all of them, no drain.
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.draining
            && self
                .workers
                .iter()
                .all(|worker| worker.state == WorkerState::Ok)
            && !self.listeners.is_empty()
            && self.listeners.iter().all(ListenerReport::bound)
    }

    /// The workers' lines.
    pub(in crate::admin) fn workers_text(&self) -> String {
        let lines = self.workers.iter().enumerate();
        lines
            .map(|(index, worker)| format!("worker {index}: {worker}\n"))
            .collect()
    }

    /// All lines.
    pub(in crate::admin) fn text(&self) -> String {
        let mut text = self.workers_text();
        if self.listeners.is_empty() {
            text.push_str("listener: none yet\n");
        }
        text.extend(
            self.listeners
                .iter()
                .map(|listener| format!("listener {listener}\n")),
        );
        if let Some(upstream) = &self.upstream {
            text.push_str(&format!("upstream {upstream}\n"));
        }
        if self.draining {
            text.push_str("draining: new connections are refused\n");
        }
        text
    }
}

impl WorkerReport {
    /// `quiet`: how long ago it last showed life.
    pub(super) fn new(
        state: WorkerState,
        loop_age: Option<Duration>,
        quiet: Duration,
    ) -> WorkerReport {
        WorkerReport {
            state,
            loop_age_ms: loop_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            since: (state == WorkerState::Stalled).then(|| {
                rfc3339(
                    SystemTime::now()
                        .checked_sub(quiet)
                        .unwrap_or(SystemTime::UNIX_EPOCH),
                )
            }),
        }
    }
}

impl ListenerReport {
    /// Whether every worker listens there.
    #[must_use]
    pub fn bound(&self) -> bool {
        self.bound_by == self.workers
    }
}

impl UpstreamReport {
    pub(super) fn new(
        name: String,
        reachable: Option<bool>,
        connect: Option<Duration>,
        error: Option<String>,
        since: SystemTime,
    ) -> UpstreamReport {
        let connect_ms = connect.map(|took| took.as_micros() as f64 / 1000.0);
        UpstreamReport {
            name,
            reachable,
            connect_ms,
            error,
            since: rfc3339(since),
        }
    }
}

impl fmt::Display for WorkerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.loop_age_ms, &self.since) {
            (WorkerState::Ok, Some(age), _) => write!(f, "ok (loop {age} ms ago)"),
            (WorkerState::Stalled, Some(age), Some(since)) => {
                write!(f, "stalled since {since} (loop {age} ms ago)")
            }
            (WorkerState::Stalled, None, Some(since)) => {
                write!(f, "did not start (expected since {since})")
            }
            (WorkerState::Ended, ..) => f.write_str("ended"),
            _ => f.write_str("starting"),
        }
    }
}

impl fmt::Display for ListenerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenerReport {
            address,
            bound_by,
            workers,
        } = self;
        match bound_by {
            _ if self.bound() => write!(f, "{address}: bound"),
            0 => write!(f, "{address}: not bound"),
            _ => write!(f, "{address}: bound by {bound_by} of {workers} workers"),
        }
    }
}

impl fmt::Display for UpstreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UpstreamReport { name, since, .. } = self;
        match (self.reachable, self.connect_ms, &self.error) {
            (Some(true), Some(took), _) => write!(f, "{name}: reachable ({took} ms)"),
            (Some(false), _, Some(error)) => {
                write!(f, "{name}: unreachable since {since} ({error})")
            }
            _ => write!(f, "{name}: not probed yet"),
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    String::from_utf8_lossy(&Clock::new().format(time)).into_owned()
}
