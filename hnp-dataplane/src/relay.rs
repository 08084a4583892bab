//! Bytes from one socket to another: read and write while exchanges are small, splice through a pipe once they are not.
//!
//! Each direction tries first and waits only for `EAGAIN`. A direction that waits for bytes holds no buffer and no pipe, so
//! an idle tunnel costs its two sockets and the state of this future. A direction that waits for room holds what it could
//! not hand on yet, and reads nothing more: that is the backpressure.
//!
//! Half-closes pass on as half-closes, resets as resets.

mod half;
mod pools;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

pub use pools::{PoolCounts, Pools};

use crate::signal::Signal;
use crate::stream::Stream;
use crate::uring;
use half::{Half, HalfEnd, Shared};

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who connected to HNP.
    Client,
    /// Who HNP connected to.
    Upstream,
}

impl Side {
    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Upstream => "upstream",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a relay counts while it runs, so that whoever looks at a long tunnel, or cancels it, knows what has passed.
pub trait Ledger {
    /// `bytes` have been handed to the kernel towards the upstream.
    fn sent_up(&self, bytes: usize);
    /// `bytes` have been handed to the kernel towards the client.
    fn sent_down(&self, bytes: usize);
}

/// When a relay ends by itself.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Longest time with no byte in either direction.
    pub idle: Duration,
    /// End of the longest life.
    pub until: Option<Instant>,
    /// Ends it by force.
    pub stop: &'a Signal,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both directions came to their end; this side's came first.
    Finished {
        /// Whose end of stream came first.
        first: Side,
    },
    /// This side reset the connection, or could not be reached any more.
    Broken {
        /// Whose connection broke.
        side: Side,
        /// What the kernel said of it.
        error: io::Error,
    },
    /// No byte passed for [`Bounds::idle`].
    Idle,
    /// [`Bounds::until`] came.
    Expired,
    /// [`Bounds::stop`] fired.
    Stopped,
}

/// One of the two connections of a relay.
pub struct Leg {
    /// The connection.
    pub stream: Stream,
    /// What was read from it already; passed on first.
    pub early: Cell<Vec<u8>>,
}

impl Leg {
    /// A connection from which `early` was read already.
    #[must_use]
    pub fn new(stream: Stream, early: Vec<u8>) -> Leg {
        let early = Cell::new(early);
        Leg { stream, early }
    }
}

/// Relays until both directions have ended. What did not end in order leaves both connections to be closed by a reset.
pub async fn relay<L: Ledger>(
    client: &Leg,
    upstream: &Leg,
    bounds: &Bounds<'_>,
    pools: &Pools,
    ledger: &L,
) -> End {
    let shared = Shared {
        active: Cell::new(uring::now()),
        broken: Cell::new(false),
        ended: Cell::new(false),
    };
    let up = Half {
        from: (client, Side::Client),
        to: (upstream, Side::Upstream),
        shared: &shared,
        pools,
        count: |bytes| ledger.sent_up(bytes),
    };
    let down = Half {
        from: (upstream, Side::Upstream),
        to: (client, Side::Client),
        shared: &shared,
        pools,
        count: |bytes| ledger.sent_down(bytes),
    };
    // Pinned and borrowed rather than passed on: a future keeps each argument of another twice.
    let up = pin!(up.run());
    let down = pin!(down.run());
    let end = both(up, down, &shared.active, bounds).await;
    match &end {
        End::Finished { .. } => {}
        // A reset must arrive as a reset, and what ends by force must not look complete to either side.
        End::Broken { .. } | End::Idle | End::Expired | End::Stopped => {
            client.stream.reset_on_close();
            upstream.stream.reset_on_close();
        }
    }
    end
}

/// Runs both directions to their ends: joined, not try-joined, for what one side sent before it broke still has to arrive.
async fn both(
    mut up: Pin<&mut impl Future<Output = HalfEnd>>,
    mut down: Pin<&mut impl Future<Output = HalfEnd>>,
    active: &Cell<Instant>,
    bounds: &Bounds<'_>,
) -> End {
    let mut up_end = None;
    let mut down_end = None;
    let mut first = None;
    let until = |active: Instant| {
        let idle = active + bounds.idle;
        bounds.until.map_or(idle, |until| until.min(idle))
    };
    let mut timer = uring::sleep_until(until(active.get()));
    let mut stop = pin!(bounds.stop.wait());
    let mut waiting = false;
    std::future::poll_fn(|cx| {
        if up_end.is_none()
            && let Poll::Ready(end) = up.as_mut().poll(cx)
        {
            up_end = Some(end);
            first.get_or_insert(Side::Client);
        }
        if down_end.is_none()
            && let Poll::Ready(end) = down.as_mut().poll(cx)
        {
            down_end = Some(end);
            first.get_or_insert(Side::Upstream);
        }
        // A side that cannot be read any more has nothing to say, and one that cannot be written has nobody to listen.
        let broken = |end: &Option<HalfEnd>, read: Side| match end {
            Some(Err((side, _))) => *side == read,
            _ => false,
        };
        let over = up_end.is_some() && down_end.is_some()
            || broken(&up_end, Side::Client)
            || broken(&down_end, Side::Upstream);
        if over {
            let error = [up_end.take(), down_end.take()]
                .into_iter()
                .flatten()
                .find_map(Result::err);
            return Poll::Ready(match (error, first) {
                (Some((side, error)), _) => End::Broken { side, error },
                (None, Some(first)) => End::Finished { first },
                (None, None) => unreachable!("over only when a direction has ended"),
            });
        }
        // Bytes only note the time; the timer looks at the note when it fires and goes on from there.
        // Timer and stop signal know this task from the first poll on: polling them again for each byte would only cost.
        if waiting && uring::now() < timer.deadline() && !bounds.stop.fired() {
            return Poll::Pending;
        }
        waiting = true;
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Stopped);
        }
        while Pin::new(&mut timer).poll(cx).is_ready() {
            if bounds.until.is_some_and(|until| until <= uring::now()) {
                return Poll::Ready(End::Expired);
            }
            if active.get() + bounds.idle <= uring::now() {
                return Poll::Ready(End::Idle);
            }
            timer.reset(until(active.get()));
        }
        Poll::Pending
    })
    .await
}
