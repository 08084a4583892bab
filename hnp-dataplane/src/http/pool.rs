//! A worker's idle connections to upstreams, for whichever of its clients asks next.
//!
//! The one used last is taken first, so that those which are too many grow old. Each is looked at before it is used: one that has
//! ended, or that speaks unasked, is closed. A janitor does so too, once a second while any idles, and closes what has idled too
//! long, and what leads to an origin that the configuration knows no more.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::forward::Upstream;
use crate::origin::Origin;
use crate::signal::Signal;
use crate::uring;

/// Idle connections to one origin; one more is closed.
const MOST: usize = 64;
/// Between two rounds of the janitor.
const ROUND: Duration = Duration::from_secs(1);

/// Idle connections, by origin.
#[derive(Debug, Default)]
pub struct Pool {
    origins: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    /// Gone when no configuration that is in use has it.
    origin: Weak<Origin>,
    id: u64,
    /// The one used last is the last.
    connections: Vec<Upstream>,
}

/// What keeping a connection calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tending {
    /// Nothing.
    Tended,
    /// The pool was empty: somebody has to [`tend`](Pool::tend) it from now on.
    Untended,
}

impl Pool {
    /// Takes the idle connection to `origin` that was used last. Whether it still lives is for the taker to see.
    #[must_use]
    pub fn take(&self, origin: &Origin) -> Option<Upstream> {
        let mut origins = self.origins.borrow_mut();
        let idle = origins.iter_mut().find(|idle| idle.id == origin.id())?;
        idle.connections.pop()
    }

    /// Keeps a connection that can carry another request.
    #[must_use]
    pub fn keep(&self, origin: &Arc<Origin>, upstream: Upstream) -> Tending {
        let mut origins = self.origins.borrow_mut();
        let untended = origins.is_empty();
        let at = match origins.iter().position(|idle| idle.id == origin.id()) {
            Some(at) => at,
            None => {
                origins.push(Idle {
                    origin: Arc::downgrade(origin),
                    id: origin.id(),
                    connections: Vec::new(),
                });
                origins.len() - 1
            }
        };
        if origins[at].connections.len() < MOST {
            origins[at].connections.push(upstream);
        } else {
            drop(origins);
            upstream.close();
        }
        if untended {
            Tending::Untended
        } else {
            Tending::Tended
        }
    }

    /// Connections that idle.
    #[must_use]
    pub fn len(&self) -> usize {
        let origins = self.origins.borrow();
        origins.iter().map(|idle| idle.connections.len()).sum()
    }

    /// Whether none idles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes, from now on, what has idled for `limit`, what has ended and what leads nowhere any more; ends when nothing idles, or, with
    /// everything closed, when `draining` fires.
    pub async fn tend(&self, limit: impl Fn() -> Duration, draining: &Signal) {
        loop {
            let drains = tokio::select! {
                biased;
                () = draining.wait() => true,
                () = uring::sleep(ROUND) => false,
            };
            let limit = if drains { Duration::ZERO } else { limit() };
            for upstream in self.sweep(limit) {
                upstream.close();
            }
            // No origin is left without connections, so none left is nothing left.
            if self.origins.borrow().is_empty() {
                return;
            }
        }
    }

    fn sweep(&self, limit: Duration) -> Vec<Upstream> {
        let mut closed = Vec::new();
        self.origins.borrow_mut().retain_mut(|idle| {
            let gone = idle.origin.strong_count() == 0;
            let ended = idle.connections.extract_if(.., |upstream| {
                gone || upstream.idle() >= limit || !upstream.is_usable(false)
            });
            closed.extend(ended);
            !idle.connections.is_empty()
        });
        closed
    }
}
