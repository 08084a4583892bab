//! Where intercepted connections go: to the address that the application asked for, from the network namespace that it asked in;
//! or through the parent proxy, because a rule says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::error::{Cause, DialError};
use super::lookup::Answer;
use super::race::{Feed as _, Won};
use super::resolver::{Lookup, Whole};
use super::{Dialer, Dialled};
use crate::admin::metrics::WorkerMetrics;
use crate::policy::Decision;
use crate::redirect::NetNs;
use crate::target::{Host, Target};
use crate::uring::{self, Socket};

impl Dialer {
    /// Connects to `original`, from inside `netns` where one is given. A `target` with a name is what the client says of itself: it
    /// gets `original` if that is one of the name's addresses, else one of these. A lie gains nothing that way.
    ///
    /// # Errors
    /// See [`Cause`]; [`Cause::NoSuchName`] and its like for a name that cannot be checked.
    pub async fn dial_original(
        &self,
        target: &Target,
        original: SocketAddr,
        netns: Option<&NetNs>,
        allowed: impl Fn(IpAddr) -> Decision,
    ) -> Result<Dialled, DialError> {
        let reached = match &target.host {
            Host::Address(_) => {
                self.one(original.ip(), original.port(), netns, allowed)
                    .await
            }
            Host::Name(name) => self.checked(name, original, netns, allowed).await,
        };
        reached.map(dialled).map_err(|cause| DialError {
            target: target.clone(),
            cause,
        })
    }

    /// Connects to `target` through the parent proxy, whatever its `no-proxy` says.
    ///
    /// # Errors
    /// See [`Cause`].
    pub async fn dial_parent(
        &self,
        metrics: &WorkerMetrics,
        target: &Target,
    ) -> Result<Dialled, DialError> {
        let through = match &self.parent {
            Some(parent) => self.through(metrics, parent, target).await,
            None => Err(Cause::NoParent),
        };
        through.map_err(|cause| DialError {
            target: target.clone(),
            cause,
        })
    }

    async fn checked(
        &self,
        name: &str,
        original: SocketAddr,
        netns: Option<&NetNs>,
        allowed: impl Fn(IpAddr) -> Decision,
    ) -> Result<Won<Socket>, Cause> {
        let begun = uring::now();
        let answer = self.whole(name).await?;
        let resolve = uring::now().saturating_duration_since(begun);
        let address = original.ip().to_canonical();
        let won = if answer.v4.contains(&address) || answer.v6.contains(&address) {
            self.one(address, original.port(), netns, allowed).await?
        } else {
            let feed = Whole::new(Arc::clone(&answer));
            self.all(original.port(), feed, netns, allowed, |_| Some(answer))
                .await?
        };
        Ok(Won {
            resolve: won.resolve.max(resolve),
            ..won
        })
    }

    /// All addresses of a name.
    async fn whole(&self, name: &str) -> Result<Arc<Answer>, Cause> {
        match self.resolver.lookup(name) {
            Lookup::Known(answer) => Ok(answer),
            Lookup::Flying(mut flight) => {
                while flight.next().await.is_some() {}
                flight
                    .answer()
                    .ok_or_else(|| Cause::Dns("HNP is ending".to_owned()))
            }
            Lookup::Busy => Err(Cause::ResolverBusy),
        }
    }
}

fn dialled(won: Won<Socket>) -> Dialled {
    Dialled {
        stream: won.stream.into(),
        address: won.address,
        via_parent: false,
        decision: Some(won.decision),
        early: Vec::new(),
        resolve: won.resolve,
        connect: won.connect,
    }
}
