//! The stages of a connection, in traffic order. Every connection takes this path, whatever its mode.
//!
//! ```text
//!  listen ─▶ accept ─▶ secure ─▶ identify ─▶ authorize ─▶ connect ─▶ relay     a tunnel, an upgraded connection
//!  a socket   may it    TLS,      who asks    may it?      where,  └▶ reverse   HTTP/1.1 to the manager, from its pool
//!  a worker   come in?  if asked  for what?   Decision     TLS     └▶ h2        HTTP/2 to the manager
//!                 └──────────────────── account ────────────────────┘
//!                           one log line, metrics, limits
//! ```
//!
//! [`serve`] is the path in code. A connection is entered in the account before anything is decided about it, and the
//! account closes its books when it is dropped, so that a cancelled connection still has its log line.

pub mod accept;
pub mod account;
pub mod authorize;
pub mod captured;
pub mod connect;
pub mod first_bytes;
pub mod h2;
pub mod identify;
pub mod listen;
pub mod modes;
pub mod relay;
pub mod reverse;
pub mod secure;

use std::rc::Rc;
use std::sync::Arc;

use crate::access_log::ClosedBy;
use crate::http::answer::Answer;
use crate::stream::Stream;
use crate::target::Target;
use crate::worker::{Snapshot, Worker};
use account::Account;
use connect::Upstream;
use identify::{Asked, Begins, TunnelRequest};
use relay::Tunnel;
use reverse::Served;
use secure::Secured;

/// Serves one client connection from its first byte to its end. It is in the account already, so that a drain which begins
/// before this runs knows of it.
pub async fn serve(worker: Rc<Worker>, client: Stream, account: Account) {
    if let Some(tunnel) = negotiate(&worker, client, &account).await {
        relay::run(&worker, &tunnel, &account).await;
    }
}

/// Everything before the relay: what is asked for, whether it may be, and the connection to it. `None`: it has been answered.
///
/// What shakes hands, dials and forwards lives in boxes of its own, for as long as it takes: neither a client that has yet to ask
/// nor an idle tunnel pays for it.
async fn negotiate(worker: &Rc<Worker>, mut client: Stream, account: &Account) -> Option<Tunnel> {
    let mut received = Vec::new();
    let mut begins = Begins::Plaintext;
    let mut secured = None;
    loop {
        // The configuration of the moment, for this request and those that are forwarded after it.
        let snapshot = worker.shared.snapshot.load_full();
        let asked = identify::read(worker, &snapshot, &client, received, begins, account).await;
        let asked = match asked {
            Ok(Some(asked)) => asked,
            Ok(None) => return None,
            Err(answer) => return refuse(client, account, &answer).await,
        };
        let next = match asked {
            Asked::Tls(hello) => {
                let Some(server) = snapshot.tls.as_deref() else {
                    secure::refuse(client, account).await;
                    return None;
                };
                let accepted = secure::accept(worker, &snapshot, server, client, hello, account);
                let (stream, tls) = Box::pin(accepted).await?;
                if tls.http2 {
                    return http2(worker, &snapshot, stream, Vec::new(), Some(&tls), account).await;
                }
                secured = Some(tls);
                begins = Begins::Secured;
                client = stream;
                received = Vec::new();
                continue;
            }
            Asked::Http2(preface) => {
                return http2(
                    worker,
                    &snapshot,
                    client,
                    preface,
                    secured.as_ref(),
                    account,
                )
                .await;
            }
            Asked::Tunnel(request) => {
                if let Err(answer) = secure::tunnels(&snapshot, secured.as_ref()) {
                    return refuse(client, account, &answer.about(&request.target)).await;
                }
                return tunnel(worker, &snapshot, client, request, account).await;
            }
            Asked::Forward(request) => {
                if let Err(answer) = secure::tunnels(&snapshot, secured.as_ref()) {
                    return refuse(client, account, &answer).await;
                }
                let forwarded = connect::forward(worker, &snapshot, client, request, account);
                Box::pin(forwarded).await
            }
            Asked::Requests(request) => match secure::requests(&snapshot, secured.as_ref()) {
                Ok(peer) => {
                    let served = reverse::serve(worker, &snapshot, client, request, &peer, account);
                    Box::pin(served).await
                }
                Err(answer) => return refuse(client, account, &answer).await,
            },
        };
        match next {
            Served::Closed => return None,
            Served::Upgraded(tunnel) => return Some(tunnel),
            Served::Other {
                client: again,
                received: head,
            } => {
                client = again;
                received = head;
                begins = Begins::Request;
            }
        }
    }
}

/// Connects a tunnel. `None`: it has been answered.
async fn tunnel(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    client: Stream,
    request: TunnelRequest,
    account: &Account,
) -> Option<Tunnel> {
    let connected = tokio::select! {
        biased;
        connected = Box::pin(connect(worker, snapshot, account, &request.target)) => connected,
        // Nobody is left to connect for.
        error = client.broken() => {
            account.closed(ClosedBy::Client, "reset");
            account.detail(format!("the client was gone before its target was connected: {error}"));
            return None;
        }
    };
    match connected {
        Ok(upstream) => relay::open(snapshot, client, upstream, request.early, account).await,
        Err(answer) => refuse(client, account, &answer.about(&request.target)).await,
    }
}

/// Serves requests by HTTP/2, to the end of the connection.
async fn http2<T>(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    client: Stream,
    received: Vec<u8>,
    secured: Option<&Secured>,
    account: &Account,
) -> Option<T> {
    let access = h2::Access {
        requests: secure::requests(snapshot, secured),
        tunnels: secure::tunnels(snapshot, secured),
    };
    let served = h2::serve(worker, snapshot, client, received, access, account);
    Box::pin(served).await;
    None
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
