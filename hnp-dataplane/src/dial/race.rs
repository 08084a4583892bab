//! Happy Eyeballs version 2 (RFC 8305): a race between the addresses of a name, started one by one.
//!
//! * Addresses come from a [`Feed`] as the answers arrive; IPv6 goes first, then the families alternate (section 4).
//! * If IPv4 answers come first, IPv6 gets the Resolution Delay to catch up (section 3).
//! * The next attempt starts when the last one has had the Connection Attempt Delay, or at once when it failed (section 5).
//! * The first connection wins, the other attempts are dropped, which closes them.
//! * Only addresses that the policy allows take part.
//!
//! The race knows neither sockets nor clocks, only a [`Network`], so that tests run it against a fake one.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::policy::{Decision, Reason};

/// How long IPv4 waits for IPv6 answers: RFC 8305 section 8, recommended.
pub(super) const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How long an attempt runs alone: RFC 8305 section 8, recommended.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What the race runs on.
pub(super) trait Network {
    /// A connection.
    type Stream;
    /// Connects; dropping the future gives the attempt up.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
    /// The clock that [`sleep`](Network::sleep) goes by.
    fn now(&self) -> Instant;
}

/// The answers for one family, empty when there are none.
#[derive(Debug, Clone)]
pub(super) enum Batch {
    V4(Arc<[IpAddr]>),
    V6(Arc<[IpAddr]>),
}

/// Where addresses come from.
pub(super) trait Feed {
    /// The next family's answers; `None` when no more will come. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Batch>>;
}

impl<F: Feed> Feed for &mut F {
    fn next(&mut self) -> impl Future<Output = Option<Batch>> {
        (**self).next()
    }
}

/// The winner.
#[derive(Debug)]
pub(super) struct Won<S> {
    pub(super) stream: S,
    pub(super) address: SocketAddr,
    /// What the policy said of the address.
    pub(super) decision: Decision,
    /// From the start to the first attempt.
    pub(super) resolve: Duration,
    /// From the first attempt to the connection.
    pub(super) connect: Duration,
}

/// Nobody won.
#[derive(Debug)]
pub(super) enum Lost {
    /// There was no address at all.
    NoAddress,
    /// No address was allowed; why the first was not.
    Refused(Reason),
    /// The time for connecting was up.
    TimedOut { tried: usize, last: SocketAddr },
    /// Every attempt failed; the most telling of the errors.
    Failed {
        tried: usize,
        address: SocketAddr,
        error: io::Error,
    },
}

/// Runs the race to `port`.
///
/// # Errors
/// See [`Lost`]. `limit` is for all attempts together, from the first on.
pub(super) async fn race<N: Network>(
    network: &N,
    port: u16,
    mut feed: impl Feed,
    limit: Duration,
    allowed: impl Fn(IpAddr) -> Decision,
) -> Result<Won<N::Stream>, Lost> {
    let begun = network.now();
    let mut field = Field::default();
    let mut running = Vec::new();
    let mut fed = false;
    // Set: no attempt starts before it fires.
    let mut hold = None;
    let mut deadline = None;
    let mut first = None;
    let mut tried = 0;
    let mut last = None;
    let mut failure: Option<(SocketAddr, io::Error)> = None;

    loop {
        if hold.is_none()
            && let Some((address, decision)) = field.pop()
        {
            let address = SocketAddr::new(address, port);
            running.push((address, decision, Box::pin(network.connect(address))));
            hold = Some(Box::pin(network.sleep(ATTEMPT_DELAY)));
            if deadline.is_none() {
                first = Some(network.now());
                deadline = Some(Box::pin(network.sleep(limit)));
            }
            tried += 1;
            last = Some(address);
        }
        if running.is_empty() && fed && field.is_empty() {
            return Err(match (failure, field.refused) {
                (Some((address, error)), _) => Lost::Failed {
                    tried,
                    address,
                    error,
                },
                (None, Some(reason)) => Lost::Refused(reason),
                (None, None) => Lost::NoAddress,
            });
        }

        tokio::select! {
            biased;
            (at, result) = first_done(&mut running), if !running.is_empty() => {
                let (address, decision, _) = running.swap_remove(at);
                match result {
                    Ok(stream) => {
                        let first = first.unwrap_or(begun);
                        return Ok(Won {
                            stream,
                            address,
                            decision,
                            resolve: first.saturating_duration_since(begun),
                            connect: network.now().saturating_duration_since(first),
                        });
                    }
                    Err(error) => {
                        if failure.as_ref().is_none_or(|(_, known)| telling(&error) > telling(known)) {
                            failure = Some((address, error));
                        }
                        hold = None;
                    }
                }
            }
            batch = feed.next(), if !fed => match batch {
                Some(batch) => {
                    field.add(&batch, &allowed);
                    if tried == 0 {
                        hold = field
                            .only_v4_yet()
                            .then(|| Box::pin(network.sleep(RESOLUTION_DELAY)));
                    }
                }
                None => {
                    fed = true;
                    if tried == 0 {
                        hold = None;
                    }
                }
            },
            () = fire(&mut hold), if hold.is_some() => hold = None,
            () = fire(&mut deadline), if deadline.is_some() => {
                // An attempt runs or has failed, so there is a last one.
                let last = last.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], port)));
                return Err(Lost::TimedOut { tried, last });
            }
        }
    }
}

async fn fire(timer: &mut Option<Pin<Box<impl Future<Output = ()>>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => pending().await,
    }
}

/// Waits for one of several attempts; its index and result.
async fn first_done<S>(
    running: &mut [(
        SocketAddr,
        Decision,
        Pin<Box<impl Future<Output = io::Result<S>>>>,
    )],
) -> (usize, io::Result<S>) {
    poll_fn(|cx| {
        for (at, (_, _, attempt)) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                return Poll::Ready((at, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// The more an error says of the target, the higher: an answer from there, a path that ends, silence, the rest.
fn telling(error: &io::Error) -> u8 {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => 3,
        Some(libc::ETIMEDOUT) => 2,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => 1,
        _ => 0,
    }
}

/// The allowed addresses that are still to be tried.
#[derive(Default)]
struct Field {
    v4: VecDeque<(IpAddr, Decision)>,
    v6: VecDeque<(IpAddr, Decision)>,
    heard_v6: bool,
    /// The last attempt was IPv6.
    was_v6: bool,
    refused: Option<Reason>,
}

impl Field {
    fn add(&mut self, batch: &Batch, allowed: impl Fn(IpAddr) -> Decision) {
        let (addresses, queue) = match batch {
            Batch::V4(addresses) => (addresses, &mut self.v4),
            Batch::V6(addresses) => {
                self.heard_v6 = true;
                (addresses, &mut self.v6)
            }
        };
        for address in addresses.iter() {
            let decision = allowed(*address);
            if !decision.allowed {
                self.refused.get_or_insert(decision.reason);
            } else if !queue.iter().any(|(known, _)| known == address) {
                queue.push_back((*address, decision));
            }
        }
    }

    fn only_v4_yet(&self) -> bool {
        !self.heard_v6 && !self.v4.is_empty()
    }

    fn pop(&mut self) -> Option<(IpAddr, Decision)> {
        let v6_next = !self.was_v6;
        let (queue, other) = if v6_next {
            (&mut self.v6, &mut self.v4)
        } else {
            (&mut self.v4, &mut self.v6)
        };
        let next = queue.pop_front().or_else(|| other.pop_front())?;
        self.was_v6 = next.0.is_ipv6();
        Some(next)
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

#[cfg(test)]
#[path = "race_tests.rs"]
mod tests;
