//! What the programs report.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use hnp_common::{Event, EventKind};

use super::{NetnsCookie, destinations::comm, programs::monotonic};

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What happened.
    pub kind: EventKind,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The pod's number.
    pub pod: u32,
    /// The rule that decided, from 1; 0 is the default.
    pub rule: u32,
    /// The process that called `connect()`, as the host numbers it.
    pub pid: u32,
    /// The name of its thread, as it may have set it itself.
    pub comm: String,
    /// The pod's network namespace.
    pub netns: NetnsCookie,
    /// The address it connected from; `None` where that was not chosen yet.
    pub source: Option<SocketAddr>,
    /// The address it asked for.
    pub destination: SocketAddr,
    /// From `connect()` to the end of the connection; only at an end.
    pub duration: Duration,
    /// Bytes that the peer acknowledged; only at an end. Exact for connections that were closed in order.
    pub sent: u64,
    /// Bytes received; only at an end. As exact.
    pub received: u64,
}

impl Observed {
    /// How long ago it happened.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_nanos(monotonic().saturating_sub(self.time))
    }
}

/// The reader of the ring buffer. Its descriptor is readable when there is something to read.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// The next report, if there is one.
    pub fn try_next(&mut self) -> Option<Observed> {
        while let Some(item) = self.ring.next() {
            if let Some(observed) = decode(&item) {
                return Some(observed);
            }
        }
        None
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// `None` for what a newer version of the programs reports, after a take-over.
fn decode(bytes: &[u8]) -> Option<Observed> {
    let event = read(bytes)?;
    let address = |address, port| SocketAddr::new(IpAddr::from(address), port);
    Some(Observed {
        kind: EventKind::from_number(event.kind)?,
        time: event.time,
        pod: event.pod,
        rule: event.rule,
        pid: event.pid,
        comm: comm(&event.comm),
        netns: NetnsCookie(event.netns),
        source: (event.source_port != 0).then(|| address(event.source, event.source_port)),
        destination: address(event.destination, event.destination_port),
        duration: Duration::from_nanos(event.duration),
        sent: event.sent,
        received: event.received,
    })
}

#[expect(
    unsafe_code,
    reason = "reads a type of the ABI out of the kernel's bytes"
)]
fn read(bytes: &[u8]) -> Option<Event> {
    // SAFETY: as many bytes as the type has, all bit patterns of which are values; not aligned, perhaps.
    (bytes.len() == size_of::<Event>())
        .then(|| unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}
