//! How many connections at once and how many new ones a second, of all clients and of each.
//!
//! On the accept path of every worker: two atomic operations, and a short lock on a part of a table only when a limit per
//! client is configured. A client is its address, an IPv4-mapped one the IPv4 address; IPv6 addresses are not put
//! together by prefix, because the pods of a whole node share one.

mod bucket;
mod clients;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::bucket::{Rate, SharedBucket};
use self::clients::{Clients, Full};
use crate::config::model;

/// The running counts and their limits, shared by all workers.
#[derive(Debug)]
pub struct Limits {
    start: Instant,
    open: AtomicUsize,
    most: AtomicUsize,
    /// [`Rate::to_bits`].
    rate: AtomicU64,
    arrivals: SharedBucket,
    clients: Clients,
}

/// A connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    limits: Arc<Limits>,
    /// Set when the client's own count was raised.
    client: Option<IpAddr>,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 429 when the client is what is over its limit, else 503.
    pub status: u16,
    /// Seconds, for `Retry-After`.
    pub retry_after: u32,
    /// Which limit.
    pub limit: Limit,
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.connections`.
    Connections(usize),
    /// `limits.connections-per-client`.
    ConnectionsPerClient(usize),
    /// `limits.connections-per-second`.
    Rate,
    /// `limits.connections-per-second-per-client`.
    RatePerClient,
    /// There is no room to remember one more client address.
    Clients,
}

impl Limits {
    /// With nothing open.
    #[must_use]
    pub fn new(config: &model::Limits) -> Arc<Limits> {
        let limits = Limits {
            start: Instant::now(),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            rate: AtomicU64::new(0),
            arrivals: SharedBucket::default(),
            clients: Clients::new(),
        };
        limits.update(config);
        Arc::new(limits)
    }

    /// Takes over new limits and keeps the running counts. Connections from before a limit per client was first
    /// configured are not counted for their client.
    pub fn update(&self, config: &model::Limits) {
        self.most.store(config.connections, Ordering::Relaxed);
        self.rate.store(
            Rate::to_bits(config.connections_per_second.map(Rate::per_second)),
            Ordering::Relaxed,
        );
        self.clients.set(
            config.connections_per_client,
            config
                .connections_per_second_per_client
                .map(Rate::per_second),
            config.connections,
        );
    }

    /// Lets a new connection in, or says which limit keeps it out.
    ///
    /// # Errors
    /// The limit that is reached, with the status and the `Retry-After` to answer with.
    pub fn try_admit(self: &Arc<Self>, client: IpAddr) -> Result<Permit, Refusal> {
        self.admit(client, Instant::now())
    }

    /// Connections let in and not yet gone.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admit(self: &Arc<Self>, client: IpAddr, now: Instant) -> Result<Permit, Refusal> {
        let most = self.most.load(Ordering::Relaxed);
        // From here on the permit's drop undoes what was counted.
        let mut permit = Permit {
            limits: Arc::clone(self),
            client: None,
        };
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(Refusal {
                status: 503,
                retry_after: 1,
                limit: Limit::Connections(most),
            });
        }
        let client = client.to_canonical();
        let now = self.nanoseconds(now);
        match self.clients.enter(client, now) {
            Ok(counted) => permit.client = counted.then_some(client),
            Err(full) => return Err(full.into()),
        }
        // Last, so that a client over its own limit does not use up what all share.
        if let Some(rate) = Rate::from_bits(self.rate.load(Ordering::Relaxed)) {
            self.arrivals.take(rate, now).map_err(|wait| Refusal {
                status: 503,
                retry_after: seconds(wait),
                limit: Limit::Rate,
            })?;
        }
        Ok(permit)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            self.limits
                .clients
                .leave(client, self.limits.nanoseconds(Instant::now()));
        }
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Refusal {
        match full {
            Full::Open { most } => Refusal {
                status: 429,
                retry_after: 1,
                limit: Limit::ConnectionsPerClient(most),
            },
            Full::Rate { wait } => Refusal {
                status: 429,
                retry_after: seconds(wait),
                limit: Limit::RatePerClient,
            },
            Full::Table => Refusal {
                status: 503,
                retry_after: 1,
                limit: Limit::Clients,
            },
        }
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(nanoseconds: u64) -> u32 {
    let duration = Duration::from_nanos(nanoseconds);
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

impl Refusal {
    /// Metric label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.limit {
            Limit::Connections(_) => "connections",
            Limit::ConnectionsPerClient(_) => "connections_per_client",
            Limit::Rate => "connections_per_second",
            Limit::RatePerClient => "connections_per_second_per_client",
            Limit::Clients => "clients",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Limit::Connections(most) => write!(f, "all {most} connections of limits.connections are in use"),
            Limit::ConnectionsPerClient(most) => {
                write!(f, "this client has all {most} connections of limits.connections-per-client open")
            }
            Limit::Rate => f.write_str("more new connections than limits.connections-per-second"),
            Limit::RatePerClient => {
                f.write_str("more new connections from this client than limits.connections-per-second-per-client")
            }
            Limit::Clients => f.write_str("too many client addresses at once to count each"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn config() -> model::Limits {
        model::Limits {
            connections: 3,
            ..model::Limits::default()
        }
    }

    #[test]
    fn places_come_back() {
        let limits = Limits::new(&config());
        let permits: Vec<_> = (0..3).map(|_| limits.try_admit(A).unwrap()).collect();
        let refusal = limits.try_admit(B).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code(), refusal.retry_after),
            (503, "connections", 1)
        );
        assert_eq!(limits.open(), 3);
        drop(permits);
        assert_eq!(limits.open(), 0);
        assert!(limits.try_admit(B).is_ok());
    }

    #[test]
    fn a_client_does_not_take_another_s_place() {
        let limits = Limits::new(&model::Limits {
            connections_per_client: Some(1),
            ..config()
        });
        let one = limits.try_admit(A).unwrap();
        let refusal = limits
            .try_admit("::ffff:10.0.0.1".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code()),
            (429, "connections_per_client")
        );
        let other = limits.try_admit(B).unwrap();
        assert_eq!(
            limits.open(),
            2,
            "a refused connection gives its place back"
        );
        drop(one);
        assert!(limits.try_admit(A).is_ok());
        drop(other);
        assert_eq!(
            limits.clients.remembered(),
            0,
            "clients without connections are forgotten"
        );
    }

    #[test]
    fn rates_refuse_and_say_when_to_come_back() {
        let limits = Limits::new(&model::Limits {
            connections: 100,
            connections_per_second: Some(5),
            connections_per_second_per_client: Some(2),
            ..model::Limits::default()
        });
        let now = limits.start + Duration::from_secs(10);
        assert!(limits.admit(A, now).is_ok());
        assert!(limits.admit(A, now).is_ok());
        let refusal = limits.admit(A, now).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code(), refusal.retry_after),
            (429, "connections_per_second_per_client", 1)
        );
        // What A was refused was not taken from the others.
        let others: Vec<_> = (2..10)
            .map(|n| limits.admit(IpAddr::from([10, 0, 0, n]), now))
            .collect();
        assert_eq!(others.iter().filter(|other| other.is_ok()).count(), 3);
        assert_eq!(
            others[3].as_ref().unwrap_err().code(),
            "connections_per_second"
        );
        assert!(limits.admit(A, now + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn the_table_of_clients_is_bounded_and_forgets_the_idle() {
        let limits = Limits::new(&model::Limits {
            connections: 0,
            connections_per_second_per_client: Some(1),
            ..model::Limits::default()
        });
        limits.most.store(usize::MAX, Ordering::Relaxed);
        let now = limits.start + Duration::from_secs(10);
        let many = |now| {
            (0..300_000u32)
                .filter(|n| {
                    limits
                        .admit(IpAddr::from((0x0b00_0000 + n).to_be_bytes()), now)
                        .is_ok()
                })
                .count()
        };
        let admitted = many(now);
        assert!((65_536..=131_072).contains(&admitted), "{admitted}");
        assert_eq!(limits.clients.remembered(), admitted);
        assert_eq!(limits.admit(A, now).unwrap_err().code(), "clients");
        assert!(limits.admit(A, now + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn new_limits_keep_the_counts() {
        let limits = Limits::new(&config());
        let _two = (limits.try_admit(A).unwrap(), limits.try_admit(A).unwrap());
        limits.update(&model::Limits {
            connections: 2,
            ..config()
        });
        assert!(limits.try_admit(A).is_err());
        limits.update(&model::Limits {
            connections: 3,
            connections_per_client: Some(1),
            ..config()
        });
        let _third = limits.try_admit(A).unwrap();
        assert_eq!(limits.try_admit(B).unwrap_err().code(), "connections");
    }
}
