//! From a target to a connected socket: resolution, Happy Eyeballs, parent proxy.
//!
//! ```text
//!            ┌─ literal address ──────────────────────────── policy ─ connect ─────────────┐
//!  target ───┼─ name ─ cache or control thread ─ addresses ─ policy ─ race (RFC 8305) ─────┼─ socket
//!            └─ parent proxy: its own address ─ connect ─ CONNECT target ─ its answer ─────┘
//! ```
//!
//! Every address is shown to the policy before it is dialled, and only those it allows are. Through a parent proxy it is the
//! parent that resolves the name: there the policy has judged the name (and literal addresses) only, and what the parent may
//! reach is for the parent's own policy. The parent itself is where the operator said; the policy is not asked about it.

#[cfg(test)]
mod dns_server;
pub mod error;
mod hosts;
mod intercepted;
mod lookup;
pub mod no_proxy;
mod parent;
mod race;
pub mod resolver;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::error::{Cause, DialError, ParentFailure, Side};
pub use self::parent::ParentError;
pub use self::resolver::{Resolver, ResolverError};

use self::lookup::{Answer, Failure};
use self::parent::Parent;
use self::race::{Feed, Lost, Network, Won, race};
use self::resolver::{Lookup, Whole};
use crate::admin::metrics::WorkerMetrics;
use crate::config::model::Config;
use crate::policy::{Decision, Reason};
use crate::redirect::NetNs;
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::tls::Client;
use crate::uring::{self, Socket};

/// Makes connections to targets. One configuration's worth: a new configuration gets a new one.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    /// `timeouts.connect`.
    connect: Duration,
    parent: Option<Parent>,
}

/// A connection to a target.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: Stream,
    /// Its other end: the target's address, or the parent's.
    pub address: SocketAddr,
    /// Whether the other end is the parent proxy.
    pub via_parent: bool,
    /// What the policy said of the address; `None` through a parent, where it was not asked.
    pub decision: Option<Decision>,
    /// What the target sent along with the parent's answer: the first bytes for the client.
    pub early: Vec<u8>,
    /// Time for name resolution.
    pub resolve: Duration,
    /// Time for connecting, the parent's answer included.
    pub connect: Duration,
}

impl Dialer {
    /// For `upstream.parent` and `timeouts` of `config`; `parent_tls` is how TLS to a parent with an `https` url is made.
    ///
    /// # Errors
    /// The parent's configuration cannot be used.
    pub fn new(
        config: &Config,
        resolver: Resolver,
        parent_tls: Option<Arc<Client>>,
    ) -> Result<Dialer, ParentError> {
        let parent = config
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.parent.as_ref());
        Ok(Dialer {
            resolver,
            connect: config.timeouts.connect.0,
            parent: parent
                .map(|parent| Parent::new(parent, parent_tls))
                .transpose()?,
        })
    }

    /// Whether connections to `target` go through the parent proxy.
    #[must_use]
    pub fn via_parent(&self, target: &Target) -> bool {
        self.parent
            .as_ref()
            .is_some_and(|parent| !parent.direct.matches(&target.host))
    }

    /// Connects to `target`. `allowed` is asked about every address before it is dialled, and may be asked more than once. Handshakes
    /// with a parent proxy are entered in `metrics`.
    ///
    /// Must run on a worker (see [`uring`]); dropping the future closes what it has begun.
    ///
    /// # Errors
    /// See [`Cause`]; what the client is told is in [`DialError::status`], [`DialError::error_type`] and its text.
    pub async fn dial(
        &self,
        metrics: &WorkerMetrics,
        target: &Target,
        allowed: impl Fn(IpAddr) -> Decision,
    ) -> Result<Dialled, DialError> {
        let dialled = match &self.parent {
            Some(parent) if !parent.direct.matches(&target.host) => {
                self.through(metrics, parent, target).await
            }
            _ => self.reach(target, allowed).await.map(|won| Dialled {
                stream: won.stream.into(),
                address: won.address,
                via_parent: false,
                decision: Some(won.decision),
                early: Vec::new(),
                resolve: won.resolve,
                connect: won.connect,
            }),
        };
        dialled.map_err(|cause| DialError {
            target: target.clone(),
            cause,
        })
    }

    async fn through(
        &self,
        metrics: &WorkerMetrics,
        parent: &Parent,
        target: &Target,
    ) -> Result<Dialled, Cause> {
        let failed = |failure| Cause::Parent {
            parent: parent.name.clone(),
            failure,
        };
        let operator = |_| Decision {
            allowed: true,
            reported: false,
            reason: Reason::Upstream,
        };
        let won = self
            .reach(&parent.target, operator)
            .await
            .map_err(|cause| failed(ParentFailure::Unreachable(Box::new(cause))))?;
        let connected = uring::now();
        let left = self.connect.saturating_sub(won.connect);
        let tunnel = async {
            let stream = parent.secured(metrics, won.stream, left).await?;
            let early = parent.tunnel(&stream, target).await?;
            Ok((stream, early))
        };
        let (stream, early) = match uring::timeout(left, Box::pin(tunnel)).await {
            Ok(Ok(tunnel)) => tunnel,
            Ok(Err(ParentFailure::Silent(_))) | Err(_) => {
                return Err(failed(ParentFailure::Silent(self.connect)));
            }
            Ok(Err(failure)) => return Err(failed(failure)),
        };
        Ok(Dialled {
            stream,
            address: won.address,
            via_parent: true,
            decision: None,
            early,
            resolve: won.resolve,
            connect: won.connect + uring::now().saturating_duration_since(connected),
        })
    }

    /// A connection to `target` itself.
    async fn reach(
        &self,
        target: &Target,
        allowed: impl Fn(IpAddr) -> Decision,
    ) -> Result<Won<Socket>, Cause> {
        match &target.host {
            Host::Address(address) => self.one(*address, target.port, None, allowed).await,
            Host::Name(name) => match self.resolver.lookup(name) {
                Lookup::Known(answer) => match only(&answer) {
                    // Most names have one address: no race then, and nothing allocated for it.
                    Some(address) => self.one(address, target.port, None, allowed).await,
                    None => {
                        let feed = Whole::new(answer.clone());
                        self.all(target.port, feed, None, allowed, |_| Some(answer))
                            .await
                    }
                },
                Lookup::Flying(mut flight) => {
                    self.all(target.port, &mut flight, None, allowed, |flight| {
                        flight.answer()
                    })
                    .await
                }
                Lookup::Busy => Err(Cause::ResolverBusy),
            },
        }
    }

    /// A connection to the one address there is.
    async fn one(
        &self,
        address: IpAddr,
        port: u16,
        netns: Option<&NetNs>,
        allowed: impl Fn(IpAddr) -> Decision,
    ) -> Result<Won<Socket>, Cause> {
        let decision = allowed(address);
        if !decision.allowed {
            return Err(Cause::Policy(decision.reason));
        }
        let begun = uring::now();
        let address = SocketAddr::new(address.to_canonical(), port);
        match uring::timeout(self.connect, Socket::connect_inside(address, netns)).await {
            Ok(Ok(stream)) => Ok(Won {
                stream,
                address,
                decision,
                resolve: Duration::ZERO,
                connect: uring::now().saturating_duration_since(begun),
            }),
            Ok(Err(error)) => Err(Cause::connect(address, 1, error)),
            Err(_) => Err(Cause::ConnectTimeout {
                address,
                tried: 1,
                after: self.connect,
            }),
        }
    }

    /// A connection to whichever of several addresses is there first.
    async fn all<F: Feed>(
        &self,
        port: u16,
        mut feed: F,
        netns: Option<&NetNs>,
        allowed: impl Fn(IpAddr) -> Decision,
        answer: impl FnOnce(&F) -> Option<Arc<Answer>>,
    ) -> Result<Won<Socket>, Cause> {
        let lost = match race(&Reactor(netns), port, &mut feed, self.connect, allowed).await {
            Ok(won) => return Ok(won),
            Err(lost) => lost,
        };
        Err(match lost {
            Lost::Refused(reason) => Cause::Policy(reason),
            Lost::TimedOut { tried, last } => Cause::ConnectTimeout {
                address: last,
                tried,
                after: self.connect,
            },
            Lost::Failed {
                tried,
                address,
                error,
            } => Cause::connect(address, tried, error),
            Lost::NoAddress => match answer(&feed).map(|answer| answer.failure.clone()) {
                Some(Some(Failure::NoName)) => Cause::NoSuchName,
                Some(Some(Failure::NoAddress) | None) => Cause::NoAddress,
                Some(Some(Failure::Timeout)) => Cause::DnsTimeout(self.resolver.timeout()),
                Some(Some(Failure::Server(what))) => Cause::Dns(what),
                None => Cause::Dns("HNP is ending".to_owned()),
            },
        })
    }
}

/// The address of an answer that has no other.
fn only(answer: &Answer) -> Option<IpAddr> {
    match (&*answer.v4, &*answer.v6) {
        ([address], []) | ([], [address]) => Some(*address),
        _ => None,
    }
}

/// The worker's own reactor as the race's network: sockets are made in this network namespace, HNP's own where there is none.
struct Reactor<'a>(Option<&'a NetNs>);

impl Network for Reactor<'_> {
    type Stream = Socket;

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Socket>> {
        Socket::connect_inside(address, self.0)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        uring::sleep(duration)
    }

    fn now(&self) -> Instant {
        uring::now()
    }
}

#[cfg(test)]
mod tests;
