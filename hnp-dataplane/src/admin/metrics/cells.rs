//! The memory that one worker counts in.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Everything that one worker counts. Two cache lines of alignment keep the adjacent-line prefetcher of x86 from pulling
/// another worker's cells (and the reference count of the `Arc` around this) into the same transfer.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct WorkerCells {
    pub(super) bytes_up: AtomicU64,
    pub(super) bytes_down: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) tunnels: AtomicU64,
    pub(super) tasks: AtomicU64,
    pub(super) pipes_idle: AtomicU64,
    pub(super) pipes_in_use: AtomicU64,
    pub(super) buffers_idle: AtomicU64,
    pub(super) buffers_in_use: AtomicU64,
    pub(super) dns_hits: AtomicU64,
    pub(super) dns_misses: AtomicU64,
    pub(super) dns_failures: AtomicU64,
    pub(super) requests: LabelTable<(&'static str, u16)>,
    pub(super) decisions: LabelTable<(&'static str, &'static str)>,
    pub(super) closes: LabelTable<(&'static str, &'static str)>,
    pub(super) dial_errors: LabelTable<&'static str>,
    pub(super) resolve: Histogram<{ SHORT.len() }>,
    pub(super) dial: Histogram<{ SHORT.len() }>,
    pub(super) tunnel_seconds: Histogram<{ LONG.len() }>,
    pub(super) backend: OnceLock<&'static str>,
    /// With clients, with upstreams.
    pub(super) sides: [SideCells; 2],
    /// Side, result, version, whether resumed.
    pub(super) handshakes: LabelTable<(&'static str, &'static str, &'static str, bool)>,
    pub(super) upstream_idle: AtomicU64,
    pub(super) upstream_in_use: AtomicU64,
    pub(super) upstream_requests: [AtomicU64; 3],
}

/// What is counted apart for connections with clients and with upstreams.
#[derive(Default)]
pub(super) struct SideCells {
    pub(super) handshakes_active: AtomicU64,
    pub(super) handshake: Histogram<{ SHORT.len() }>,
    pub(super) streams: AtomicU64,
    pub(super) streams_active: AtomicU64,
}

/// Upper bounds in seconds for what takes a round trip or a few.
pub(super) const SHORT: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper bounds in seconds for lives of tunnels, from one request to a day.
pub(super) const LONG: [f64; 12] = [
    0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0,
];

/// Counters by labels that are few and known to the program, but not to this module. Lookup is a scan of what was seen so
/// far, most frequent kinds first in practice, without a lock or a hash.
pub(super) struct LabelTable<K> {
    slots: [Slot<K>; SLOTS],
    /// What came when all slots were taken; exposed under the label value `other`.
    overflow: AtomicU64,
}

struct Slot<K> {
    key: OnceLock<K>,
    count: AtomicU64,
}

/// Bounds memory (and a scrape) should a caller ever make labels from input.
const SLOTS: usize = 160;

/// Adds to a cell that one thread alone writes, its worker's: nothing is lost, and no bus is locked.
#[inline]
pub(super) fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(more), Relaxed);
}

impl<K: Copy + Eq> LabelTable<K> {
    pub(super) fn add(&self, key: K) {
        for slot in &self.slots {
            if *slot.key.get_or_init(|| key) == key {
                add(&slot.count, 1);
                return;
            }
        }
        add(&self.overflow, 1);
    }

    /// What was counted, in the order in which it was first seen.
    pub(super) fn counts(&self) -> impl Iterator<Item = (K, u64)> {
        self.slots
            .iter()
            .map_while(|slot| Some((*slot.key.get()?, slot.count.load(Relaxed))))
    }

    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Relaxed)
    }
}

impl<K> Default for LabelTable<K> {
    fn default() -> Self {
        LabelTable {
            slots: std::array::from_fn(|_| Slot {
                key: OnceLock::new(),
                count: AtomicU64::new(0),
            }),
            overflow: AtomicU64::new(0),
        }
    }
}

/// Observations by upper bound (not cumulative), the last implied bound being infinity.
pub(super) struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    beyond: AtomicU64,
    sum_nanoseconds: AtomicU64,
}

impl<const N: usize> Histogram<N>
where
    Histogram<N>: Bounds<N>,
{
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let index = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets
            .get(index)
            .unwrap_or(&self.beyond)
            .fetch_add(1, Relaxed);
        // 584 years of nanoseconds: an overflow takes a year of observation a second from 584 tunnels.
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// Adds what was observed to `total`.
    pub(super) fn add_to(&self, total: &mut HistogramTotal) {
        if total.buckets.is_empty() {
            total.buckets = Self::BOUNDS.iter().map(|bound| (*bound, 0)).collect();
            total.buckets.push((f64::INFINITY, 0));
        }
        for (cell, bucket) in self
            .buckets
            .iter()
            .chain([&self.beyond])
            .zip(&mut total.buckets)
        {
            let count = cell.load(Relaxed);
            bucket.1 += count;
            total.count += count;
        }
        total.sum += Duration::from_nanos(self.sum_nanoseconds.load(Relaxed)).as_secs_f64();
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            beyond: AtomicU64::new(0),
            sum_nanoseconds: AtomicU64::new(0),
        }
    }
}

/// The bounds that go with a size.
pub(super) trait Bounds<const N: usize> {
    const BOUNDS: [f64; N];
}

impl Bounds<{ SHORT.len() }> for Histogram<{ SHORT.len() }> {
    const BOUNDS: [f64; SHORT.len()] = SHORT;
}

impl Bounds<{ LONG.len() }> for Histogram<{ LONG.len() }> {
    const BOUNDS: [f64; LONG.len()] = LONG;
}

/// Histograms of all workers together, in the shape the encoder wants.
#[derive(Default)]
pub(super) struct HistogramTotal {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bound (the last is infinity) and observations, not cumulative.
    pub(super) buckets: Vec<(f64, u64)>,
}
