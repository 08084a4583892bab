//! What observers are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::access_log::{CapturedEntry, Entry};

/// Events that an observer may be behind before it loses some.
const BACKLOG: usize = 4096;

/// Something that became of a pod's connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: Kind,
    /// Unix time in seconds.
    pub time: f64,
    /// The pod's name.
    pub pod: String,
    /// The process that connected, by the name of its thread.
    pub process: String,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// Where it connected from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// The name it asked for there, where that was looked for and found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The rule that decided, from 1; 0 where none matched.
    pub rule: u32,
    /// What was done: `relay`, `tunnel`, `mtls`, `direct` or `deny`.
    pub action: String,
    /// How the connection ended; only at an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A connection was redirected to HNP, which will tell of its end.
    Redirected,
    /// A connection passes directly, by a rule; its end will be told.
    Direct,
    /// A connection passes directly because HNP cannot have it; its end will be told.
    FailedOpen,
    /// A connection was refused because HNP cannot have it.
    FailedClosed,
    /// A connection was refused by a rule.
    Denied,
    /// QUIC was refused.
    QuicDenied,
    /// A connection has ended.
    Ended,
    /// A direct connection was not made: refused by the peer, unreachable, timed out.
    NotMade,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The side that ended it: `client`, `upstream` or `hnp`; unknown of direct connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Code of why it ended; unknown of direct connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people: what failed, on what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where it went, where that is not its destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Bytes from the pod.
    pub bytes_up: u64,
    /// Bytes to the pod.
    pub bytes_down: u64,
    /// Seconds from its beginning.
    pub seconds: f64,
}

impl Event {
    /// The log line of a connection that the kernel has dealt with, once that is over.
    #[must_use]
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        let reason = match self.event {
            Kind::Denied => "denied",
            Kind::FailedClosed => "hnp_away",
            Kind::NotMade => "not_made",
            Kind::Ended => "direct",
            // What ends later, or is no connection.
            Kind::Redirected | Kind::Direct | Kind::FailedOpen | Kind::QuicDenied => return None,
        };
        let captured = CapturedEntry {
            pod: &self.pod,
            process: &self.process,
            pid: self.pid,
            original: self.destination,
            name: None,
            rule: self.rule,
            action: Some(&self.action),
        };
        let end = self.end.as_ref();
        Some(Entry {
            bytes_up: end.map_or(0, |end| end.bytes_up),
            bytes_down: end.map_or(0, |end| end.bytes_down),
            duration: end.map_or(Duration::ZERO, |end| {
                Duration::try_from_secs_f64(end.seconds).unwrap_or_default()
            }),
            close_reason: reason,
            ..Entry::of_kernel(captured, self.client)
        })
    }
}

/// Everyone who observes. Nobody, mostly, and then nothing is sent.
#[derive(Debug, Clone)]
pub struct Observers(broadcast::Sender<Arc<Event>>);

impl Default for Observers {
    fn default() -> Observers {
        Observers(broadcast::Sender::new(BACKLOG))
    }
}

impl Observers {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.receiver_count()
    }

    /// Tells them, if there are any, what `event` makes.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if self.count() > 0 {
            // The last may have gone meanwhile.
            let _ = self.0.send(Arc::new(event()));
        }
    }

    /// One more.
    #[must_use]
    pub fn join(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
}

/// Unix time in seconds, so long ago.
#[must_use]
pub fn unix_time(ago: Duration) -> f64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(ago).as_secs_f64()
}
