//! What is counted of each pod whose connections are intercepted. A pod's counters go when the pod does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::Metrics;
use crate::config::model::InterceptAction;

/// What became of a pod's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It reached where it goes.
    Served,
    /// A rule or policy refused it.
    Denied,
    /// It did not get there: the upstream's fault, or the client left before.
    Failed,
}

const ACTIONS: [InterceptAction; 5] = [
    InterceptAction::Relay,
    InterceptAction::Tunnel,
    InterceptAction::Mtls,
    InterceptAction::Direct,
    InterceptAction::Deny,
];
const OUTCOMES: [&str; 3] = ["served", "denied", "failed"];

/// One worker's cells of a pod, a cache line apart from any other's.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Cells {
    up: AtomicU64,
    down: AtomicU64,
    misses: AtomicU64,
    connections: [[AtomicU64; OUTCOMES.len()]; ACTIONS.len()],
}

/// What is counted of one pod.
#[derive(Debug)]
pub struct PodCells {
    workers: Box<[Cells]>,
}

impl PodCells {
    /// A connection of the pod has ended.
    pub fn ended(&self, worker: usize, action: InterceptAction, outcome: Outcome) {
        let of_action = &self.workers[worker].connections[action as usize];
        of_action[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Bytes from the pod.
    pub fn bytes_up(&self, worker: usize, bytes: u64) {
        self.workers[worker].up.fetch_add(bytes, Relaxed);
    }

    /// Bytes to the pod.
    pub fn bytes_down(&self, worker: usize, bytes: u64) {
        self.workers[worker].down.fetch_add(bytes, Relaxed);
    }

    /// A connection came of which nobody knows where it was meant to go.
    pub fn missed(&self, worker: usize) {
        self.workers[worker].misses.fetch_add(1, Relaxed);
    }

    fn sum(&self, read: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.workers
            .iter()
            .map(|cells| read(cells).load(Relaxed))
            .sum()
    }
}

/// Reads what the kernel counted of the pod with this number, by name.
type Kernel = Box<dyn Fn(u32) -> Vec<(&'static str, u64)> + Send + Sync>;

/// A pod's name, and its cells.
type Named = (Arc<str>, Arc<PodCells>);

/// All pods.
#[derive(Default)]
pub struct Pods {
    by_number: RwLock<BTreeMap<u32, Named>>,
    kernel: OnceLock<Kernel>,
}

impl Pods {
    /// A pod is intercepted from now on.
    pub fn enter(&self, number: u32, label: Arc<str>, workers: usize) -> Arc<PodCells> {
        let cells = Arc::new(PodCells {
            workers: (0..workers).map(|_| Cells::default()).collect(),
        });
        let mut pods = self
            .by_number
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        pods.insert(number, (label, Arc::clone(&cells)));
        cells
    }

    /// It is no longer.
    pub fn leave(&self, number: u32) {
        let mut pods = self
            .by_number
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        pods.remove(&number);
    }

    /// How a scrape reads what the kernel counts. Only the first call counts.
    pub fn read_kernel_by(&self, kernel: Kernel) {
        let _ = self.kernel.set(kernel);
    }

    fn all(&self) -> Vec<(u32, Arc<str>, Arc<PodCells>)> {
        let pods = self
            .by_number
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        pods.iter()
            .map(|(number, (label, cells))| (*number, Arc::clone(label), Arc::clone(cells)))
            .collect()
    }

    /// Of all pods: the name, and what was counted.
    pub(super) fn counts(&self) -> Vec<Counts> {
        // The kernel's reader asks who may be entering a pod meanwhile: no lock is held here.
        self.all()
            .into_iter()
            .map(|(number, label, cells)| {
                let mut connections = Vec::new();
                for (index, action) in ACTIONS.iter().enumerate() {
                    for (place, outcome) in OUTCOMES.iter().enumerate() {
                        let count = cells.sum(|cells| &cells.connections[index][place]);
                        if count > 0 {
                            connections.push((action.as_str(), *outcome, count));
                        }
                    }
                }
                Counts {
                    pod: label.to_string(),
                    connections,
                    bytes: [cells.sum(|cells| &cells.up), cells.sum(|cells| &cells.down)],
                    misses: cells.sum(|cells| &cells.misses),
                    kernel: self.kernel.get().map_or_else(Vec::new, |read| read(number)),
                }
            })
            .collect()
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

/// What was counted of a pod.
pub(super) struct Counts {
    pub(super) pod: String,
    /// Action, outcome, how many; only those that there were.
    pub(super) connections: Vec<(&'static str, &'static str, u64)>,
    /// Up and down.
    pub(super) bytes: [u64; 2],
    pub(super) misses: u64,
    /// Decision, how many.
    pub(super) kernel: Vec<(&'static str, u64)>,
}

impl Metrics {
    /// What is counted of each pod.
    #[must_use]
    pub fn pods(&self) -> &Arc<Pods> {
        &self.shared.pods
    }
}
