//! Relaying: the client is told that it is connected, and bytes pass until both sides are done.

use std::rc::Rc;
use std::time::Duration;

use super::account::Account;
use super::connect::Upstream;
use crate::access_log::ClosedBy;
use crate::http::answer::CONNECTION_ESTABLISHED;
use crate::relay::{self, Bounds, End, Leg, Side};
use crate::stream::Stream;
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// Two connected sockets and what goes over them first.
pub struct Tunnel {
    /// Who asked.
    pub client: Leg,
    /// What was asked for.
    pub upstream: Leg,
    /// Longest silence.
    pub idle: Duration,
    /// Longest life.
    pub lifetime: Option<Duration>,
}

/// Tells the client that its tunnel is there. `None`: the client is gone.
pub async fn open(
    snapshot: &Snapshot,
    client: Stream,
    upstream: Upstream,
    early_up: Vec<u8>,
    account: &Account,
) -> Option<Tunnel> {
    account.status(200);
    if let Err(error) = client.write_all(CONNECTION_ESTABLISHED).await {
        account.closed(ClosedBy::Client, "reset");
        account.detail(format!(
            "the client was gone before it could be told that it is connected: {error}"
        ));
        return None;
    }
    let timeouts = &snapshot.config.timeouts;
    Some(Tunnel {
        client: Leg::new(client, early_up),
        upstream: Leg::new(upstream.stream, upstream.early),
        idle: timeouts.tunnel_idle.0,
        lifetime: timeouts.tunnel_lifetime.map(|lifetime| lifetime.0),
    })
}

/// Relays to the end, and notes who ended it and why.
pub async fn run(worker: &Rc<Worker>, tunnel: &Tunnel, account: &Account) {
    let _open = worker.metrics.tunnel();
    let bounds = Bounds {
        idle: tunnel.idle,
        until: tunnel.lifetime.map(|lifetime| uring::now() + lifetime),
        stop: &worker.stopping,
    };
    let end = relay::relay(
        &tunnel.client,
        &tunnel.upstream,
        &bounds,
        &worker.pools,
        account,
    )
    .await;
    let (by, reason) = match end {
        End::Finished { first } => (closed_by(first), "eof"),
        End::Broken { side, error } => {
            account.detail(format!("the connection to the {side} broke: {error}"));
            (
                closed_by(side),
                if is_reset(&error) { "reset" } else { "error" },
            )
        }
        End::Idle => (ClosedBy::Hnp, "idle_timeout"),
        End::Expired => (ClosedBy::Hnp, "lifetime"),
        End::Stopped => (ClosedBy::Hnp, "drain_deadline"),
    };
    account.closed(by, reason);
}

fn closed_by(side: Side) -> ClosedBy {
    match side {
        Side::Client => ClosedBy::Client,
        Side::Upstream => ClosedBy::Upstream,
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE))
}
