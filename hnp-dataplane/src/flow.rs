//! The stages of a connection, in traffic order. Every connection takes this path, whatever its mode.
//!
//! ```text
//!  listen ─▶ accept ─▶ identify ─▶ authorize ─▶ connect ─▶ relay
//!  a socket   may it    who asks    may it?      where,     bytes
//!  a worker   come in?  for what?   Decision     by whom
//!                 └───────────────── account ─────────────────┘
//!                        one log line, metrics, limits
//! ```
//!
//! [`serve`] is the path in code. A connection is entered in the account before anything is decided about it, and the
//! account closes its books when it is dropped, so that a cancelled connection still has its log line.

pub mod accept;
pub mod account;
pub mod authorize;
pub mod connect;
pub mod identify;
pub mod listen;
pub mod relay;
pub mod reverse;

use std::rc::Rc;

use crate::access_log::ClosedBy;
use crate::http::answer::Answer;
use crate::stream::Stream;
use crate::target::Target;
use crate::worker::{Snapshot, Worker};
use account::Account;
use connect::{Forwarded, Upstream};
use identify::Asked;
use relay::Tunnel;

/// Serves one client connection from its first byte to its end. It is in the account already, so that a drain which begins
/// before this runs knows of it.
pub async fn serve(worker: Rc<Worker>, client: Stream, account: Account) {
    if let Some(tunnel) = negotiate(&worker, client, &account).await {
        relay::run(&worker, &tunnel, &account).await;
    }
}

/// Everything before the relay: what is asked for, whether it may be, and the connection to it. `None`: it has been answered.
///
/// What dials and forwards lives in boxes of its own, for as long as it takes: neither a client that has yet to ask nor an
/// idle tunnel pays for it.
async fn negotiate(worker: &Rc<Worker>, mut client: Stream, account: &Account) -> Option<Tunnel> {
    let mut received = Vec::new();
    loop {
        // The configuration of the moment, for this request and those that are forwarded after it.
        let snapshot = worker.shared.snapshot.load_full();
        let asked = match identify::read(worker, &snapshot, &client, received, account).await {
            Ok(Some(asked)) => asked,
            Ok(None) => return None,
            Err(answer) => return refuse(client, account, &answer).await,
        };
        match asked {
            Asked::Tunnel(request) => {
                let connected = tokio::select! {
                    biased;
                    connected = Box::pin(connect(worker, &snapshot, account, &request.target)) => connected,
                    // Nobody is left to connect for.
                    error = client.broken() => {
                        account.closed(ClosedBy::Client, "reset");
                        account.detail(format!("the client was gone before its target was connected: {error}"));
                        return None;
                    }
                };
                return match connected {
                    Ok(upstream) => {
                        relay::open(&snapshot, client, upstream, request.early, account).await
                    }
                    Err(answer) => refuse(client, account, &answer.about(&request.target)).await,
                };
            }
            Asked::Forward(request) => match Box::pin(connect::forward(
                worker, &snapshot, client, request, account,
            ))
            .await
            {
                Forwarded::Closed => return None,
                Forwarded::Upgraded(tunnel) => return Some(tunnel),
                Forwarded::Connect {
                    client: again,
                    received: head,
                } => {
                    client = again;
                    received = head;
                }
            },
        }
    }
}

async fn connect(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    account: &Account,
    target: &Target,
) -> Result<Upstream, Answer> {
    authorize::target(snapshot, account, target)?;
    connect::dial(worker, snapshot, account, target).await
}

/// Tells the client why not, and closes so that the answer arrives.
async fn refuse<T>(client: Stream, account: &Account, answer: &Answer) -> Option<T> {
    account.answered(answer);
    account.closed(ClosedBy::Hnp, answer.error_type().token());
    accept::answer_and_close(client, &answer.to_bytes()).await;
    None
}
