//! Handshakes, kept connections and HTTP/2 streams of a worker.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::WorkerMetrics;
use super::cells::add;

/// With whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client of HNP's.
    Client,
    /// The manager, an endpoint's upstream or the parent proxy.
    Upstream,
}

impl Side {
    /// As the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Upstream => "upstream",
        }
    }
}

/// What a request to an upstream goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// A new connection.
    New,
    /// One that was kept from an earlier request.
    Kept,
    /// A new connection, because the kept one had died: the request is sent again.
    Again,
}

impl WorkerMetrics {
    /// A TLS handshake has begun: it counts as under way until the guard goes.
    pub fn handshake(&self, side: Side) -> HandshakeGuard {
        self.0.sides[side as usize]
            .handshakes_active
            .fetch_add(1, Relaxed);
        HandshakeGuard {
            metrics: self.clone(),
            side,
            begun: Instant::now(),
            outcome: ("aborted", NO_VERSION, false),
        }
    }

    /// Connections to upstreams of the reverse proxy that are idle in the worker's pool.
    pub fn upstream_idle(&self, idle: usize) {
        self.0.upstream_idle.store(idle as u64, Relaxed);
    }

    /// A request goes to an upstream of the reverse proxy: its connection counts as in use until the guard goes.
    pub fn upstream_request(&self, connection: Connection) -> UpstreamGuard {
        add(&self.0.upstream_requests[connection as usize], 1);
        add(&self.0.upstream_in_use, 1);
        UpstreamGuard(self.clone())
    }

    /// An HTTP/2 stream was opened: it counts as open until the guard goes.
    pub fn http2_stream(&self, side: Side) -> StreamGuard {
        let cells = &self.0.sides[side as usize];
        cells.streams.fetch_add(1, Relaxed);
        cells.streams_active.fetch_add(1, Relaxed);
        StreamGuard {
            metrics: self.clone(),
            side,
        }
    }
}

/// The version of a handshake that came to none.
const NO_VERSION: &str = "none";

/// A TLS handshake under way. Its `Drop` closes the books: without an outcome it counts as failed, `result="aborted"`.
#[must_use = "the handshake counts as under way while this lives"]
pub struct HandshakeGuard {
    metrics: WorkerMetrics,
    side: Side,
    begun: Instant,
    /// Result, version, whether resumed.
    outcome: (&'static str, &'static str, bool),
}

impl HandshakeGuard {
    /// It is complete. `version` is `1.2` or `1.3`.
    pub fn done(mut self, version: &'static str, resumed: bool) {
        self.outcome = ("ok", version, resumed);
        let cells = &self.metrics.0.sides[self.side as usize];
        cells.handshake.observe(self.begun.elapsed());
    }

    /// It failed; `code` is a short one of the program's own.
    pub fn failed(mut self, code: &'static str) {
        self.outcome = (code, NO_VERSION, false);
    }
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        let (result, version, resumed) = self.outcome;
        let cells = &self.metrics.0;
        cells
            .handshakes
            .add((self.side.as_str(), result, version, resumed));
        cells.sides[self.side as usize]
            .handshakes_active
            .fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for HandshakeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeGuard")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// A connection to an upstream, in use. Its `Drop` closes the books.
#[derive(Debug)]
#[must_use = "the connection counts as in use while this lives"]
pub struct UpstreamGuard(WorkerMetrics);

impl Drop for UpstreamGuard {
    fn drop(&mut self) {
        add(&self.0.0.upstream_in_use, 1_u64.wrapping_neg());
    }
}

/// An open HTTP/2 stream. Its `Drop` closes the books.
#[derive(Debug)]
#[must_use = "the stream counts as open while this lives"]
pub struct StreamGuard {
    metrics: WorkerMetrics,
    side: Side,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.metrics.0.sides[self.side as usize]
            .streams_active
            .fetch_sub(1, Relaxed);
    }
}
