//! Captured connections: what pods connect to, redirected here by eBPF. The stages are those of every connection; only that nobody
//! asks for anything: where the connection was meant to go, the kernel says.
//!
//! ```text
//!  accept ─▶ where to? ─▶ which name? ─▶ which action? ─▶ relay    to where it was meant to go
//!  in the     the kernel   SNI, Host,     the rules       tunnel   through the parent proxy
//!  pod        knows        if it matters                  mtls     requests to the manager
//!                                                         deny     a reset
//! ```
//!
//! To the application it is connected already: what goes wrong here is a reset.

mod books;
mod detect;
mod onward;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc::UnboundedReceiver;

use super::accept;
use super::account::Account;
use super::relay;
use crate::access_log::ClosedBy;
use crate::config::model::InterceptAction;
use crate::intercept::{Order, Pod};

use crate::redirect::{Destinations, OriginalDestination};
use crate::signal::Signal;
use crate::stream::Stream;
use crate::uring::{self, Listener};
use crate::worker::Worker;
pub use books::{Captured, Part};

/// A pod, as one worker serves it.
struct Served {
    pod: Arc<Pod>,
    /// It is no more, or no longer HNP's.
    ended: Signal,
}

/// Serves the pods that orders name, to the end of the worker.
pub async fn obey(worker: Rc<Worker>, mut orders: UnboundedReceiver<Order>) {
    let mut pods: HashMap<u32, Rc<Served>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Destinations(destinations) => {
                *worker.destinations.borrow_mut() = Some(destinations);
            }
            Order::Serve { pod, listeners } => {
                let number = pod.number;
                let served = Rc::new(Served {
                    pod,
                    ended: Signal::default(),
                });
                for listener in listeners {
                    uring::spawn(run(Rc::clone(&worker), Rc::clone(&served), listener));
                }
                pods.insert(number, served);
            }
            Order::Stop(number) => {
                if let Some(served) = pods.remove(&number) {
                    served.ended.fire();
                }
            }
        }
    }
}

/// Accepts in a pod until that ends or the worker drains.
async fn run(worker: Rc<Worker>, served: Rc<Served>, listener: OwnedFd) {
    let listener = match Listener::from_fd(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(pod = &*served.pod.label, "cannot serve the pod: {error}");
            return;
        }
    };
    let stopped = || served.ended.fired() || worker.draining.fired();
    let mut ended = pin!(served.ended.wait());
    let mut draining = pin!(worker.draining.wait());
    let stop = std::future::poll_fn(|cx| {
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        draining.as_mut().poll(cx)
    });
    accept::each(&listener, stopped, stop, |client, peer| {
        admit(&worker, &served, client, peer);
    })
    .await;
}

fn admit(worker: &Rc<Worker>, served: &Rc<Served>, client: Stream, peer: SocketAddr) {
    let address = served.pod.client(peer);
    let original = match find(worker, &served.pod, peer) {
        Ok(Some(original)) => original,
        Ok(None) => return lost(worker, &served.pod, client, address, None),
        Err(error) => return lost(worker, &served.pod, client, address, Some(&error)),
    };
    let captured = Captured::new(worker.id, Arc::clone(&served.pod), original, address);
    let captured = Rc::new(captured);
    match worker.shared.limits.try_admit(address.ip()) {
        Ok(permit) => {
            let account = Account::open(worker, address, permit);
            account.captured(Rc::clone(&captured));
            let connection = Connection {
                worker: Rc::clone(worker),
                client,
                account,
                captured,
            };
            uring::spawn(serve(Rc::clone(served), connection));
        }
        Err(refusal) => {
            let account = Account::refused(worker, address);
            account.captured(captured);
            account.closed(ClosedBy::Hnp, refusal.code());
            account.detail(refusal.to_string());
            client.reset();
        }
    }
}

fn find(worker: &Worker, pod: &Pod, peer: SocketAddr) -> io::Result<Option<OriginalDestination>> {
    let mut destinations = worker.destinations.borrow_mut();
    let destinations: &mut Destinations = destinations
        .as_mut()
        .ok_or_else(|| io::Error::other("the worker has no map of destinations"))?;
    destinations
        .take(pod.cookie, peer)
        .map_err(io::Error::other)
}

/// Where it was meant to go is not known, and nothing is guessed.
fn lost(
    worker: &Rc<Worker>,
    pod: &Pod,
    client: Stream,
    address: SocketAddr,
    error: Option<&io::Error>,
) {
    pod.books.missed(worker.id);
    let account = Account::refused(worker, address);
    account.closed(ClosedBy::Hnp, "no_destination");
    let label = &pod.label;
    account.detail(match error {
        Some(error) => format!(
            "pod {label}: where this connection was meant to go cannot be looked up: {error}"
        ),
        None => format!(
            "pod {label}: nobody knows where this connection was meant to go: it was not redirected, or too long ago"
        ),
    });
    client.reset();
}

/// A connection that was let in.
struct Connection {
    worker: Rc<Worker>,
    client: Stream,
    account: Account,
    captured: Rc<Captured>,
}

/// Serves a captured connection to its end, or its pod's.
async fn serve(served: Rc<Served>, connection: Connection) {
    let Connection {
        worker,
        client,
        account,
        captured,
    } = connection;
    let mut ended = pin!(served.ended.wait());
    tokio::select! {
        biased;
        () = Box::pin(steps(&worker, client, &account, &captured)) => {}
        () = &mut ended => account.closed(ClosedBy::Hnp, "pod_ended"),
    }
}

async fn steps(worker: &Rc<Worker>, client: Stream, account: &Account, captured: &Captured) {
    // The configuration of the moment.
    let snapshot = worker.shared.snapshot.load_full();
    let Some(intercepted) = &snapshot.intercepted else {
        return refuse(
            client,
            account,
            ClosedBy::Hnp,
            "not_intercepted",
            "interception was configured away".to_owned(),
        );
    };
    let original = captured.original.address;
    let mut early = Vec::new();
    let mut name = None;
    if intercepted.rules.needs_name(original) {
        let limit = intercepted.detect_timeout;
        match detect::name(&client, &snapshot.head, limit).await {
            Ok(seen) => {
                early = seen.received;
                name = seen.name;
            }
            Err(error) => {
                account.closed(ClosedBy::Client, "reset");
                return account.detail(format!(
                    "the client was gone before it said anything: {error}"
                ));
            }
        }
    }
    let verdict = intercepted.rules.decide(original, name.as_deref());
    captured.judged(verdict, name);
    let onward = onward::Onward {
        worker,
        snapshot: &snapshot,
        account,
        intercepted,
        captured,
        verdict,
    };
    let tunnel = match verdict.action {
        // The kernel lets `direct` pass by itself, where it can tell without a name.
        InterceptAction::Relay | InterceptAction::Direct => onward.relay(client, early).await,
        InterceptAction::Tunnel => onward.tunnel(client, early).await,
        InterceptAction::Mtls => onward.requests(client, early).await,
        InterceptAction::Deny => {
            let why = format!("rule {} of [[intercept.rules]] denies it", verdict.rule);
            return refuse(client, account, ClosedBy::Hnp, "denied", why);
        }
    };
    if let Some(tunnel) = tunnel {
        relay::run(worker, &tunnel, account).await;
    }
}

/// Resets the connection.
fn refuse(client: Stream, account: &Account, by: ClosedBy, reason: &'static str, why: String) {
    account.closed(by, reason);
    account.detail(why);
    client.reset();
}
