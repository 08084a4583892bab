//! Names to addresses for all workers.
//!
//! Workers read a bounded cache without leaving their thread. A name that is not there is looked up once, on the control
//! thread's tokio runtime, however many connections wait for it; each gets the first family's addresses as they come.
//! Answers are kept for as long as their TTL says, within `dns.min-ttl` and `dns.max-ttl`, failures too.
//!
//! Name servers, search domains, `ndots` and `attempts` are those of `/etc/resolv.conf`, read at start; `dns.servers` replaces
//! the servers only. `/etc/hosts` comes first and its changes are noticed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::hosts::Hosts;
use super::lookup::{Answer, Failure, Sources};
use super::race::{Batch, Feed};
use crate::config::model::Config;

/// Locks, so that workers seldom meet.
const SHARDS: usize = 16;

/// Names looked up at once.
const MOST_FLIGHTS: usize = 1024;

/// The resolver, shared by all workers.
#[derive(Clone, Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
}

/// The resolver cannot start.
#[derive(Debug, Error)]
pub enum ResolverError {
    /// `/etc/resolv.conf` cannot be read or understood.
    #[error("/etc/resolv.conf: {0}: correct it, or name the servers in `dns.servers`")]
    SystemConfiguration(NetError),
    /// The DNS client cannot be made.
    #[error("the DNS client cannot start: {0}")]
    Client(NetError),
}

struct Shared {
    sources: Sources,
    control: Handle,
    timeout: Duration,
    ttl: (Duration, Duration),
    /// Entries of one shard.
    capacity: usize,
    flights: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Box<str>, Slot>>; SHARDS],
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("timeout", &self.timeout)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

enum Slot {
    Known { answer: Arc<Answer>, until: Instant },
    Flying(watch::Receiver<Progress>),
}

/// What a look-up has found so far.
#[derive(Debug, Clone, Default)]
struct Progress {
    v4: Option<Arc<[IpAddr]>>,
    v6: Option<Arc<[IpAddr]>>,
    done: Option<Arc<Answer>>,
}

/// A question's state.
pub(super) enum Lookup {
    /// It is in the cache.
    Known(Arc<Answer>),
    /// It is being looked up.
    Flying(Flight),
    /// Too many others are.
    Busy,
}

/// A look-up under way, as one of those who wait for it sees it.
#[derive(Debug)]
pub(super) struct Flight {
    progress: watch::Receiver<Progress>,
    told_v4: bool,
    told_v6: bool,
}

impl Resolver {
    /// Makes the resolver; look-ups run on `control`, which must have its I/O and time drivers enabled.
    ///
    /// # Errors
    /// The system's configuration is unreadable and `dns.servers` is empty.
    pub fn start(config: &Config, control: Handle) -> Result<Resolver, ResolverError> {
        let (mut system, options) = match system_conf::read_system_conf() {
            Ok(system) => system,
            // With no name server configured resolv.conf(5) means the one on this host.
            Err(_) if !config.dns.servers.is_empty() => (
                ResolverConfig::from_name_servers(Vec::new()),
                ResolverOpts::default(),
            ),
            Err(error) => {
                let empty = std::fs::read_to_string("/etc/resolv.conf")
                    .is_ok_and(|text| !text.contains("nameserver"));
                if !empty {
                    return Err(ResolverError::SystemConfiguration(error));
                }
                let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                (
                    ResolverConfig::from_name_servers(vec![local]),
                    ResolverOpts::default(),
                )
            }
        };
        if !config.dns.servers.is_empty() {
            system.name_servers = config
                .dns
                .servers
                .iter()
                .map(|server| name_server(*server))
                .collect();
        }
        Self::with(config, system, options, "/etc/hosts".into(), control)
    }

    /// Names in the cache, those being looked up included.
    #[must_use]
    pub fn entries(&self) -> usize {
        let shards = self.shared.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    pub(super) fn with(
        config: &Config,
        servers: ResolverConfig,
        mut options: ResolverOpts,
        hosts: PathBuf,
        control: Handle,
    ) -> Result<Resolver, ResolverError> {
        let timeout = config.timeouts.resolve.0;
        let ndots = options.ndots;
        let (domain, search, name_servers) = servers.into_parts();
        // `domain` is the host's own, and the search list of one that has none.
        let search = if search.is_empty() {
            domain.into_iter().collect()
        } else {
            search
        };
        // A lost datagram must leave time for another one.
        options.attempts = options.attempts.max(1);
        let attempts = u32::try_from(options.attempts)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        options.timeout = options.timeout.min(timeout / attempts);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.max_active_requests = MOST_FLIGHTS;
        let client = ResolverConfig::from_parts(None, Vec::new(), name_servers);
        // Building it may touch the runtime's drivers.
        let _context = control.enter();
        let servers = hickory_resolver::Resolver::builder_with_config(
            client,
            TokioRuntimeProvider::default(),
        )
        .with_options(options)
        .build()
        .map_err(ResolverError::Client)?;
        let min = config.dns.min_ttl.0;
        Ok(Resolver {
            shared: Arc::new(Shared {
                sources: Sources {
                    servers,
                    search,
                    ndots,
                    hosts: Hosts::at(hosts),
                },
                control: control.clone(),
                timeout,
                ttl: (min, config.dns.max_ttl.0.max(min)),
                capacity: config.dns.cache_size.div_ceil(SHARDS).max(1),
                flights: AtomicUsize::new(0),
                hasher: RandomState::new(),
                shards: std::array::from_fn(|_| Mutex::default()),
            }),
        })
    }

    /// Answers from the cache, joins the look-up that is under way, or starts one.
    pub(super) fn lookup(&self, name: &str) -> Lookup {
        let mut shard = self.shared.shard(name);
        match shard.get(name) {
            Some(Slot::Known { answer, until }) if *until > Instant::now() => {
                return Lookup::Known(Arc::clone(answer));
            }
            Some(Slot::Flying(progress)) => return Lookup::Flying(Flight::new(progress.clone())),
            _ => {}
        }
        if self.shared.flights.fetch_add(1, Ordering::Relaxed) >= MOST_FLIGHTS {
            self.shared.flights.fetch_sub(1, Ordering::Relaxed);
            return Lookup::Busy;
        }
        let (sender, progress) = watch::channel(Progress::default());
        make_room(&mut shard, self.shared.capacity);
        shard.insert(name.into(), Slot::Flying(progress.clone()));
        drop(shard);
        let landing = Landing {
            shared: Arc::clone(&self.shared),
            name: name.into(),
        };
        self.shared.control.spawn(fly(landing, sender));
        Lookup::Flying(Flight::new(progress))
    }

    /// How long a look-up may take.
    pub(super) fn timeout(&self) -> Duration {
        self.shared.timeout
    }
}

pub(super) fn name_server(address: SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(
        address.ip(),
        true,
        vec![
            connection(ProtocolConfig::Udp),
            connection(ProtocolConfig::Tcp),
        ],
    )
}

async fn fly(landing: Landing, sender: watch::Sender<Progress>) {
    let shared = &landing.shared;
    let early = |batch: Batch| {
        sender.send_modify(|progress| match batch {
            Batch::V4(addresses) => progress.v4 = Some(addresses),
            Batch::V6(addresses) => progress.v6 = Some(addresses),
        });
    };
    let resolved =
        tokio::time::timeout(shared.timeout, shared.sources.resolve(&landing.name, early)).await;
    let (answer, ttl) = resolved.unwrap_or_else(|_| {
        // One family may have answered: that is then all there is.
        let progress = sender.borrow();
        let answer = Answer {
            v4: progress.v4.clone().unwrap_or_default(),
            v6: progress.v6.clone().unwrap_or_default(),
            failure: None,
        };
        let none = answer.v4.is_empty() && answer.v6.is_empty();
        (
            if none {
                Answer::failed(Failure::Timeout)
            } else {
                answer
            },
            Duration::from_secs(1),
        )
    });
    let answer = Arc::new(answer);
    let until = Instant::now() + ttl.clamp(shared.ttl.0, shared.ttl.1);
    // First the cache, then those who wait: whoever asks in between finds one or the other.
    shared.shard(&landing.name).insert(
        landing.name.clone(),
        Slot::Known {
            answer: Arc::clone(&answer),
            until,
        },
    );
    sender.send_modify(|progress| progress.done = Some(answer));
}

/// Ends a flight, however it ends.
struct Landing {
    shared: Arc<Shared>,
    name: Box<str>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.shared.flights.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.shared.shard(&self.name);
        if matches!(shard.get(&self.name), Some(Slot::Flying(_))) {
            shard.remove(&self.name);
        }
    }
}

impl Shared {
    fn shard(&self, name: &str) -> MutexGuard<'_, HashMap<Box<str>, Slot>> {
        let at = (self.hasher.hash_one(name) >> 60) as usize % SHARDS;
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for one more: what has expired goes, else what expires first. Flights stay; their number is bounded.
fn make_room(shard: &mut HashMap<Box<str>, Slot>, capacity: usize) {
    if shard.len() < capacity {
        return;
    }
    let now = Instant::now();
    shard.retain(|_, slot| !matches!(slot, Slot::Known { until, .. } if *until <= now));
    if shard.len() < capacity {
        return;
    }
    let first = shard
        .iter()
        .filter_map(|(name, slot)| match slot {
            Slot::Known { until, .. } => Some((*until, name.clone())),
            Slot::Flying(_) => None,
        })
        .min();
    if let Some((_, name)) = first {
        shard.remove(&name);
    }
}

impl Flight {
    fn new(progress: watch::Receiver<Progress>) -> Flight {
        Flight {
            progress,
            told_v4: false,
            told_v6: false,
        }
    }

    /// What was found in the end; `None` if the look-up was given up (the control thread ended).
    pub(super) fn answer(&self) -> Option<Arc<Answer>> {
        self.progress.borrow().done.clone()
    }
}

impl Feed for Flight {
    async fn next(&mut self) -> Option<Batch> {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            let (v4, v6) = match &progress.done {
                Some(answer) => (Some(Arc::clone(&answer.v4)), Some(Arc::clone(&answer.v6))),
                None => (progress.v4, progress.v6),
            };
            if let (false, Some(addresses)) = (self.told_v6, v6) {
                self.told_v6 = true;
                return Some(Batch::V6(addresses));
            }
            if let (false, Some(addresses)) = (self.told_v4, v4) {
                self.told_v4 = true;
                return Some(Batch::V4(addresses));
            }
            if progress.done.is_some() || self.progress.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// An answer that is there already.
#[derive(Debug)]
pub(super) struct Whole {
    answer: Arc<Answer>,
    told: u8,
}

impl Whole {
    pub(super) fn new(answer: Arc<Answer>) -> Whole {
        Whole { answer, told: 0 }
    }
}

impl Feed for Whole {
    async fn next(&mut self) -> Option<Batch> {
        self.told += 1;
        match self.told {
            1 => Some(Batch::V6(Arc::clone(&self.answer.v6))),
            2 => Some(Batch::V4(Arc::clone(&self.answer.v4))),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
