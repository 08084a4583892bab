//! Accepting: the loop of each listener, and what keeps a connection out.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::account::Account;
use crate::access_log::ClosedBy;
use crate::http::answer::Answer;
use crate::http::linger;
use crate::http::proxy_status::{ErrorType, Side};
use crate::policy::limits::Refusal;
use crate::stream::Stream;
use crate::uring::{self, Listener};
use crate::worker::Worker;

/// Connections accepted before every other task has its turn.
const BURST: usize = 64;
/// Pause when the process is out of descriptors or memory: accepting cannot go on until something closes.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take for its answer, and how long it may still send after that.
const LINGER: Duration = Duration::from_secs(1);
/// Clients over a limit that are told so at once; more are reset without a word.
const MOST_REFUSALS: usize = 512;

/// Accepts until the worker drains, then closes the listener, so that the kernel refuses whoever comes.
pub async fn run(worker: Rc<Worker>, listener: Listener, address: SocketAddr) {
    worker.shared.health.listener_bound(worker.id, address);
    let stopped = || worker.draining.fired();
    each(
        &listener,
        stopped,
        worker.draining.wait(),
        |client, address| admit(&worker, client, address),
    )
    .await;
    worker.shared.health.listener_closed(worker.id, address);
}

/// Accepts until it is `stopped`, for which `stop` waits.
pub(super) async fn each(
    listener: &Listener,
    stopped: impl Fn() -> bool,
    stop: impl Future<Output = ()>,
    mut admit: impl FnMut(Stream, SocketAddr),
) {
    let mut stop = pin!(stop);
    let mut burst = 0;
    while !stopped() {
        match listener.try_accept() {
            Ok((client, address)) => {
                admit(client.into(), address);
                burst += 1;
                if burst % BURST == 0 {
                    uring::yield_now().await;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut readable = pin!(listener.readable());
                std::future::poll_fn(|cx| {
                    if stop.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    // An error of the wait itself comes again from the next accept, which tells it.
                    readable.as_mut().poll(cx).map(drop)
                })
                .await;
            }
            Err(error) => exhausted(&error).await,
        }
    }
    // Whoever is in the queue has been told by the kernel that it is connected.
    while let Ok((client, address)) = listener.try_accept() {
        admit(client.into(), address);
    }
}

fn admit(worker: &Rc<Worker>, client: Stream, address: SocketAddr) {
    match worker.shared.limits.try_admit(address.ip()) {
        Ok(permit) => {
            let account = Account::open(worker, address, permit);
            uring::spawn(super::serve(Rc::clone(worker), client, account));
        }
        Err(refusal) => turn_away(worker, client, address, &refusal),
    }
}

/// Answers a client that is over a limit, without reading what it asks for.
fn turn_away(worker: &Rc<Worker>, client: Stream, address: SocketAddr, refusal: &Refusal) {
    let answer = over_limit(refusal);
    let account = Account::refused(worker, address);
    account.answered(&answer);
    account.closed(ClosedBy::Hnp, refusal.code());
    if worker.refusals.get() >= MOST_REFUSALS {
        client.reset();
        return;
    }
    worker.refusals.set(worker.refusals.get() + 1);
    let worker = Rc::clone(worker);
    uring::spawn(async move {
        answer_and_close(client, &answer.to_bytes()).await;
        worker.refusals.set(worker.refusals.get() - 1);
    });
}

fn over_limit(refusal: &Refusal) -> Answer {
    let side = if refusal.status == 429 {
        Side::Client
    } else {
        Side::Hnp
    };
    Answer::new(
        refusal.status,
        ErrorType::ConnectionLimitReached,
        side,
        refusal.to_string(),
    )
    .retry_after(Duration::from_secs(refusal.retry_after.into()))
}

/// Writes an answer, ends the stream and reads what still comes for a while: closing with unread bytes would make the kernel
/// reset the connection, and the client might never see the answer (RFC 9112 section 9.6).
pub async fn answer_and_close(client: Stream, answer: &[u8]) {
    // However it ends, the connection closes now.
    let _: Result<io::Result<()>, uring::Elapsed> =
        uring::timeout(LINGER, client.write_all(answer)).await;
    linger::close(client, LINGER).await;
}

async fn exhausted(error: &io::Error) {
    let remedy = match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "raise the limit of open files (LimitNOFILE=, ulimit -n) or lower limits.connections"
        }
        Some(libc::ENFILE) => "raise fs.file-max",
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "the kernel is out of memory for sockets: see net.ipv4.tcp_mem"
        }
        _ => "unexpected: trying again",
    };
    tracing::error!(%error, remedy, "HNP cannot accept connections for now; clients wait in the kernel's queue");
    uring::sleep(EXHAUSTED_PAUSE).await;
}
