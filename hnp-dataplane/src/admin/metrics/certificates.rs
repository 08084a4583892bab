//! The certificates in force: until when each is valid, and how their reloads went.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::unix_seconds;

/// A certificate, or a revocation list, that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it is used for: `server`, `client`, `client-ca`, `upstream-ca`, `crl`.
    pub role: &'static str,
    /// The part of the configuration that names it.
    pub part: String,
    /// The file.
    pub file: String,
    /// Whose it is.
    pub subject: String,
    /// Its end, in seconds since 1970.
    pub not_after: i64,
}

/// Beyond, the ones that end first are shown: a bundle may hold any number.
const MOST: usize = 1000;

/// Role, part, file, subject.
pub(super) type Labels = [String; 4];

#[derive(Default)]
pub(super) struct Certificates {
    /// Ends, in seconds since 1970.
    ends: Mutex<BTreeMap<Labels, i64>>,
    pub(super) reloads_ok: AtomicU64,
    pub(super) reloads_failed: AtomicU64,
    /// Unix time in seconds; 0: nothing was ever loaded.
    pub(super) last_reload: AtomicU64,
}

impl Certificates {
    pub(super) fn set(&self, in_force: impl IntoIterator<Item = Certificate>) {
        let mut ends: BTreeMap<Labels, i64> = BTreeMap::new();
        for one in in_force {
            let labels = [one.role.to_owned(), one.part, one.file, one.subject];
            // Two of one subject in one file, as during a change of authorities: what ends first is what matters.
            let end = ends.entry(labels).or_insert(one.not_after);
            *end = one.not_after.min(*end);
        }
        if ends.len() > MOST {
            let mut by_end: Vec<_> = ends.into_iter().collect();
            by_end.sort_by_key(|(_, end)| *end);
            by_end.truncate(MOST);
            ends = by_end.into_iter().collect();
        }
        if !ends.is_empty() && self.last_reload.load(Relaxed) == 0 {
            self.loaded_now();
        }
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    pub(super) fn reloaded(&self, ok: bool) {
        if ok {
            self.reloads_ok.fetch_add(1, Relaxed);
            self.loaded_now();
        } else {
            self.reloads_failed.fetch_add(1, Relaxed);
        }
    }

    fn loaded_now(&self) {
        self.last_reload
            .store(unix_seconds(SystemTime::now()), Relaxed);
    }

    /// Labels and seconds left, the same in every scrape's order.
    pub(super) fn seconds_left(&self) -> Vec<(Labels, i64)> {
        let now = i64::try_from(unix_seconds(SystemTime::now())).unwrap_or(i64::MAX);
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter()
            .map(|(labels, end)| (labels.clone(), end.saturating_sub(now)))
            .collect()
    }
}
