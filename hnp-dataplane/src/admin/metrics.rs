//! Counters that workers write and a scrape reads.
//!
//! Each worker has cells of its own, a cache line apart from any other's, so that counting a byte is one uncontended add.
//! What has many labels is counted per worker as well and summed by the scrape.

mod cells;
mod certificates;
mod endpoints;
mod export;
mod pods;
mod process;
mod tls;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;

use crate::access_log::{ClosedBy, Verdict};
use cells::{WorkerCells, add};

pub use certificates::Certificate;
pub use endpoints::{Client, EndpointReport, Endpoints, MOST_CLIENTS};
pub use export::Format;
pub use pods::{Outcome, PodCells, Pods};
pub use tls::{Connection, HandshakeGuard, Side, StreamGuard, UpstreamGuard};

/// Everything that is counted, of all workers and of the process.
pub struct Metrics {
    shared: Arc<Shared>,
    registry: Registry,
}

/// What the registry's collector reads.
struct Shared {
    workers: Box<[WorkerMetrics]>,
    process: ProcessCells,
    certificates: certificates::Certificates,
    endpoints: Arc<Endpoints>,
    pods: Arc<Pods>,
}

/// What is counted once for the process, off the byte path.
struct ProcessCells {
    started: SystemTime,
    dns_cache_entries: AtomicU64,
    access_lines_dropped: AtomicU64,
    operational_lines_dropped: AtomicU64,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    /// Unix time in seconds.
    last_reload: AtomicU64,
    /// -1 unknown, else 0 or 1.
    upstream_reachable: AtomicI64,
    draining: AtomicU64,
}

impl Metrics {
    /// The cells of a process with that many workers, all zero. The configuration in force counts as loaded now.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Metrics> {
        let now = SystemTime::now();
        let endpoints = Arc::new(Endpoints::default());
        let worker = |_| {
            WorkerMetrics(Arc::new(Cells {
                counted: WorkerCells::default(),
                endpoints: Arc::clone(&endpoints),
            }))
        };
        let shared = Arc::new(Shared {
            workers: (0..workers).map(worker).collect(),
            certificates: certificates::Certificates::default(),
            endpoints: Arc::clone(&endpoints),
            pods: Arc::default(),
            process: ProcessCells {
                started: now,
                dns_cache_entries: AtomicU64::new(0),
                access_lines_dropped: AtomicU64::new(0),
                operational_lines_dropped: AtomicU64::new(0),
                reloads_ok: AtomicU64::new(0),
                reloads_failed: AtomicU64::new(0),
                last_reload: AtomicU64::new(unix_seconds(now)),
                upstream_reachable: AtomicI64::new(-1),
                draining: AtomicU64::new(0),
            },
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(export::Exporter(Arc::clone(&shared))));
        Arc::new(Metrics { shared, registry })
    }

    /// The cells of one worker, counted from 0.
    ///
    /// # Panics
    /// When there is no such worker.
    #[must_use]
    pub fn worker(&self, worker: usize) -> WorkerMetrics {
        self.shared.workers[worker].clone()
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    /// The whole exposition, as one text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        export::render(&self.registry, format)
    }

    /// A configuration was loaded again, or refused and the old one kept.
    pub fn reloaded(&self, ok: bool) {
        let process = &self.shared.process;
        if ok {
            process.reloads_ok.fetch_add(1, Relaxed);
            process
                .last_reload
                .store(unix_seconds(SystemTime::now()), Relaxed);
        } else {
            process.reloads_failed.fetch_add(1, Relaxed);
        }
    }

    /// The certificates in force, after a start or a reload.
    pub fn certificates(&self, in_force: impl IntoIterator<Item = Certificate>) {
        self.shared.certificates.set(in_force);
    }

    /// Certificates, keys, authorities or revocation lists had changed: they were loaded, or refused and the old ones kept.
    pub fn certificates_reloaded(&self, ok: bool) {
        self.shared.certificates.reloaded(ok);
    }

    /// Who came to which endpoint with and without a certificate.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.shared.endpoints
    }

    /// Names in the DNS cache.
    pub fn dns_cache_entries(&self, entries: usize) {
        self.shared
            .process
            .dns_cache_entries
            .store(entries as u64, Relaxed);
    }

    /// What the last probe of the upstream found; `None` when there is no upstream (any more).
    pub fn upstream_reachable(&self, reachable: Option<bool>) {
        self.shared
            .process
            .upstream_reachable
            .store(reachable.map_or(-1, i64::from), Relaxed);
    }

    /// Whether HNP drains.
    pub fn draining(&self, draining: bool) {
        self.shared.process.draining.store(draining.into(), Relaxed);
    }

    /// Access log lines that nobody will see.
    pub fn access_lines_dropped(&self, lines: u64) {
        self.shared
            .process
            .access_lines_dropped
            .fetch_add(lines, Relaxed);
    }

    /// Operational log lines that nobody will see.
    pub fn operational_lines_dropped(&self, lines: u64) {
        self.shared
            .process
            .operational_lines_dropped
            .fetch_add(lines, Relaxed);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// What became of a name lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsLookup {
    /// Answered from the cache.
    Hit,
    /// Asked of a name server, answered.
    Miss,
    /// Asked of a name server, no usable answer.
    Failed,
}

/// The cells of one worker. A clone is one reference count that no other worker touches.
#[derive(Clone)]
pub struct WorkerMetrics(Arc<Cells>);

/// A worker's own, and what it shares with the others.
struct Cells {
    counted: WorkerCells,
    endpoints: Arc<Endpoints>,
}

impl std::ops::Deref for Cells {
    type Target = WorkerCells;

    fn deref(&self) -> &WorkerCells {
        &self.counted
    }
}

impl WorkerMetrics {
    /// A client connection was accepted: counted as open until the guard goes.
    pub fn accepted(&self) -> ActiveGuard {
        self.0.accepted.fetch_add(1, Relaxed);
        self.0.active.fetch_add(1, Relaxed);
        ActiveGuard {
            metrics: self.clone(),
            closed: None,
        }
    }

    /// A tunnel was opened: counted as open until the guard goes, its duration observed then.
    pub fn tunnel(&self) -> TunnelGuard {
        self.0.tunnels.fetch_add(1, Relaxed);
        TunnelGuard {
            metrics: self.clone(),
            opened: Instant::now(),
        }
    }

    /// Payload bytes written to the target.
    #[inline]
    pub fn bytes_up(&self, bytes: u64) {
        add(&self.0.bytes_up, bytes);
    }

    /// Payload bytes written to the client.
    #[inline]
    pub fn bytes_down(&self, bytes: u64) {
        add(&self.0.bytes_down, bytes);
    }

    /// A request was answered: `mode` as in the log line, `status` as sent to the client.
    pub fn request(&self, mode: &'static str, status: u16) {
        self.0.requests.add((mode, status));
    }

    /// Policy decided; `reason` is a short code.
    pub fn decision(&self, verdict: Verdict, reason: &'static str) {
        self.0.decisions.add((verdict.as_str(), reason));
    }

    /// A connection ended. [`ActiveGuard`] does this for client connections: call it for what has no guard.
    pub fn closed(&self, by: ClosedBy, reason: &'static str) {
        self.0.closes.add((by.as_str(), reason));
    }

    /// A name was resolved (or not) in that time.
    pub fn resolved(&self, lookup: DnsLookup, took: Duration) {
        let counter = match lookup {
            DnsLookup::Hit => &self.0.dns_hits,
            DnsLookup::Miss => &self.0.dns_misses,
            DnsLookup::Failed => &self.0.dns_failures,
        };
        counter.fetch_add(1, Relaxed);
        self.0.resolve.observe(took);
    }

    /// A target (or the parent proxy) was connected in that time.
    pub fn dialled(&self, took: Duration) {
        self.0.dial.observe(took);
    }

    /// A target was not reached; `error` is a type of RFC 9209, section 2.3.
    pub fn dial_error(&self, error: &'static str) {
        self.0.dial_errors.add(error);
    }

    /// Tasks alive on the executor.
    pub fn tasks(&self, tasks: usize) {
        self.0.tasks.store(tasks as u64, Relaxed);
    }

    /// Pipes open: idle in the pool, and in use.
    pub fn pipes(&self, idle: usize, in_use: usize) {
        self.0.pipes_idle.store(idle as u64, Relaxed);
        self.0.pipes_in_use.store(in_use as u64, Relaxed);
    }

    /// Relay buffers: idle in the pool, and in use.
    pub fn buffers(&self, idle: usize, in_use: usize) {
        self.0.buffers_idle.store(idle as u64, Relaxed);
        self.0.buffers_in_use.store(in_use as u64, Relaxed);
    }

    /// What the worker waits with (`io_uring` or `epoll`). Only the first call counts.
    pub fn backend(&self, backend: &'static str) {
        let _: &&str = OnceLock::get_or_init(&self.0.backend, || backend);
    }

    /// Client connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.0.active.load(Relaxed)
    }

    /// Tunnels open now.
    #[must_use]
    pub fn tunnels(&self) -> u64 {
        self.0.tunnels.load(Relaxed)
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics")
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

/// An open client connection. Its `Drop` closes the books, also of a task that was cancelled or panicked.
#[derive(Debug)]
#[must_use = "the connection counts as open while this lives"]
pub struct ActiveGuard {
    metrics: WorkerMetrics,
    closed: Option<(ClosedBy, &'static str)>,
}

impl ActiveGuard {
    /// Who ended the connection and why, to be counted when this goes. The last call wins; without one it is
    /// `by="hnp", reason="aborted"`.
    pub fn closed(&mut self, by: ClosedBy, reason: &'static str) {
        self.closed = Some((by, reason));
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        let (by, reason) = self.closed.unwrap_or((ClosedBy::Hnp, "aborted"));
        self.metrics.closed(by, reason);
        self.metrics.0.active.fetch_sub(1, Relaxed);
    }
}

/// An open tunnel. Its `Drop` closes the books.
#[derive(Debug)]
#[must_use = "the tunnel counts as open while this lives"]
pub struct TunnelGuard {
    metrics: WorkerMetrics,
    opened: Instant,
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.metrics.0.tunnel_seconds.observe(self.opened.elapsed());
        self.metrics.0.tunnels.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
