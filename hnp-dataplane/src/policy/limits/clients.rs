//! What each client address has open and how fast it comes, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::Rate;

/// Locks, so that workers seldom meet.
const SHARDS: usize = 16;

/// Nanoseconds between two sweeps of a full shard: a flood of new addresses must not pay for one each.
const SWEEP_EVERY: u64 = 100_000_000;

/// Addresses remembered beyond those with open connections.
const SPARE: usize = 65_536;

/// The table of clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// Off: the table is not touched.
    on: AtomicBool,
    /// Connections at once; `usize::MAX` for no limit.
    most: AtomicUsize,
    /// [`Rate::to_bits`].
    rate: AtomicU64,
    /// Addresses in one shard.
    capacity: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    table: HashMap<IpAddr, Client>,
    /// When a full table is next looked through for clients that can be forgotten.
    sweep_at: u64,
}

#[derive(Debug, Default)]
struct Client {
    open: usize,
    /// See [`Rate::take`].
    full_at: u64,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It has as many connections as it may have.
    Open { most: usize },
    /// It came too fast.
    Rate { wait: u64 },
    /// No room to remember one more address.
    Table,
}

impl Clients {
    pub(super) fn new() -> Clients {
        Clients {
            on: AtomicBool::new(false),
            most: AtomicUsize::new(usize::MAX),
            rate: AtomicU64::new(0),
            capacity: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// `all` is the limit on connections of all clients, which bounds how many addresses can be in use.
    pub(super) fn set(&self, most: Option<usize>, rate: Option<Rate>, all: usize) {
        self.most
            .store(most.unwrap_or(usize::MAX), Ordering::Relaxed);
        self.rate.store(Rate::to_bits(rate), Ordering::Relaxed);
        // Addresses do not fall evenly into shards: twice the even share.
        self.capacity
            .store(all.saturating_add(SPARE) / SHARDS * 2, Ordering::Relaxed);
        self.on
            .store(most.is_some() || rate.is_some(), Ordering::Relaxed);
    }

    /// Lets `client` in; `true` if [`leave`](Clients::leave) has to be called for it.
    pub(super) fn enter(&self, client: IpAddr, now: u64) -> Result<bool, Full> {
        if !self.on.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut shard = self.shard(client);
        let capacity = self.capacity.load(Ordering::Relaxed);
        if shard.table.len() >= capacity && !shard.table.contains_key(&client) {
            if now >= shard.sweep_at {
                shard
                    .table
                    .retain(|_, client| client.open > 0 || client.full_at > now);
                shard.sweep_at = now + SWEEP_EVERY;
            }
            if shard.table.len() >= capacity {
                return Err(Full::Table);
            }
        }
        let most = self.most.load(Ordering::Relaxed);
        let known = shard.table.entry(client).or_default();
        if known.open >= most {
            return Err(Full::Open { most });
        }
        if let Some(rate) = Rate::from_bits(self.rate.load(Ordering::Relaxed)) {
            known.full_at = rate
                .take(known.full_at, now)
                .map_err(|wait| Full::Rate { wait })?;
        }
        known.open += 1;
        Ok(true)
    }

    pub(super) fn leave(&self, client: IpAddr, now: u64) {
        let mut shard = self.shard(client);
        if let Entry::Occupied(mut entry) = shard.table.entry(client) {
            let client = entry.get_mut();
            client.open = client.open.saturating_sub(1);
            if client.open == 0 && client.full_at <= now {
                entry.remove();
            }
        }
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Shard> {
        // The high bits: the table inside uses another hasher, but these are free of any pattern anyway.
        let at = (self.hasher.hash_one(client) >> 60) as usize % SHARDS;
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap().table.len())
            .sum()
    }
}
