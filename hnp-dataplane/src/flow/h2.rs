//! HTTP/2: each stream of a client's connection is a request with stages, an account and a log line of its own.

pub(super) mod reach;
mod session;
mod tunnel;

use std::rc::Rc;
use std::sync::Arc;

use h2::Reason;
use http::{Method, request};

use super::account::Account;
use super::connect::closer;
use super::reverse::Peer;
use crate::access_log::ClosedBy;
use crate::admin::metrics;
use crate::http::answer::Answer;
use crate::http::h2::content::Content;
use crate::http::h2::exchange::{self, Failure, Progress, Refused, upstream_failed};
use crate::http::h2::message::{Broken, Sink};
use crate::http::h2::server::{self, End, Incoming, Options};
use crate::http::h2::stream::{Client, Received};
use crate::http::h2::translate;
use crate::relay::Ledger as _;
use crate::stream::Stream;
use crate::uring;
use crate::worker::{Snapshot, Worker};
use session::Session;

/// How a client is served that speaks HTTP/2.
pub struct Access {
    /// Its requests for the manager, or why they are not served.
    pub requests: Result<Peer, Answer>,
    /// Whether it may have tunnels (CONNECT), or why not.
    pub tunnels: Result<(), Answer>,
}

/// Serves a connection of HTTP/2 to its end. `received` is what came over it already, from the first byte of the preface.
pub async fn serve(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    client: Stream,
    received: Vec<u8>,
    access: Access,
    account: &Account,
) {
    let timeouts = &snapshot.config.timeouts;
    let options = Options {
        limits: snapshot.head,
        head_timeout: timeouts.head.0,
        idle_timeout: timeouts.http_idle.0,
    };
    let session = Session::new(worker, snapshot, access, account.client().ip());
    let session = Rc::new(session);
    let handle = |incoming: Incoming| {
        uring::spawn(request(Rc::clone(&session), incoming, account.of_request()));
    };
    let (draining, stopping) = (&worker.draining, &worker.stopping);
    let end = server::serve(client, received, options, draining, stopping, handle).await;
    let (by, reason) = match &end {
        End::Client => (ClosedBy::Client, "eof"),
        End::Drained => (ClosedBy::Hnp, "drain"),
        End::Stopped => (ClosedBy::Hnp, "drain_deadline"),
        End::Idle => (ClosedBy::Hnp, "idle_timeout"),
        End::Outdated => (ClosedBy::Hnp, "reload"),
        End::Broken(_) => (ClosedBy::Client, "http_protocol_error"),
        End::Resets => (ClosedBy::Hnp, "too_many_resets"),
    };
    account.closed(by, reason);
    if let End::Broken(why) = end {
        account.detail(format!("the HTTP/2 connection broke: {why}"));
    }
}

/// One request, from its head to the end of its response.
async fn request(session: Rc<Session>, incoming: Incoming, account: Account) {
    let Incoming {
        request,
        respond,
        place,
    } = incoming;
    let (head, body) = request.into_parts();
    let mut client = Client::new(respond);
    let progress = Progress::new(&account);
    account.protocol("h2");
    let _open = session.worker.metrics.http2_stream(metrics::Side::Client);
    account.sent_up(exchange::size(&head.headers));
    let current = session.current(&place);
    let content = Content::new(Received::new(body));
    let outcome = if head.method == Method::CONNECT {
        current
            .tunnel(&session, &head, content, &mut client, &account, &progress)
            .await
    } else {
        current
            .exchange(&session, &head, content, &mut client, &account, &progress)
            .await
    };
    if progress.responded() {
        account.status(progress.status.get());
    }
    let refused = match outcome {
        Ok((by, reason)) => return account.closed(by, reason),
        Err(refused) => refused,
    };
    let idle = current.snapshot().config.timeouts.http_idle.0;
    let (answer, code) = match refused {
        Refused::Failure(Failure::Client(broken)) => {
            account.closed(ClosedBy::Client, "aborted");
            account.detail(format!("the client {broken}"));
            place.given_up();
            // Where the client is at fault, the library has told it so.
            return client.reset(Reason::CANCEL);
        }
        Refused::Answer(answer) => (answer, None),
        Refused::Failure(Failure::Idle(answer)) => {
            let code = progress.responded().then_some(Reason::CANCEL);
            (answer, code)
        }
        Refused::Failure(Failure::Upstream(broken)) => {
            let code = match broken {
                // It reaches the client as what it is: to gRPC the codes have meanings that HTTP's statuses have not.
                Broken::Reset(reason) if progress.responded() || is_grpc(&head) => Some(reason),
                _ => progress.responded().then_some(Reason::INTERNAL_ERROR),
            };
            (upstream_failed(&broken), code)
        }
    };
    account.closed(closer(answer.side()), answer.error_type().token());
    if let Some(code) = code {
        // The client must not take what it has for complete.
        account.detail(answer.why());
        return client.reset(code);
    }
    account.answered(&answer);
    let (head, body) = translate::answer(&answer, &head.method);
    // However it ends: there is nothing to be told but this.
    let _ = uring::timeout(idle, exchange::answer(&mut client, head, body, &progress)).await;
}

/// Waits for something on the way to the upstream, unless the client goes away meanwhile.
async fn unless_gone<T>(
    waited_for: impl Future<Output = Result<T, Answer>>,
    client: &mut impl Sink,
) -> Result<T, Refused> {
    tokio::select! {
        biased;
        done = waited_for => done.map_err(Refused::Answer),
        broken = client.broken() => Err(Refused::Failure(Failure::Client(broken))),
    }
}

fn is_grpc(head: &request::Parts) -> bool {
    head.headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests;
