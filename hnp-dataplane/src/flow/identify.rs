//! Identifying: what the first bytes ask for, and who asks.

use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::account::Account;
use super::first_bytes::{self, Protocol};
use crate::access_log::ClosedBy;
use crate::http::answer::Answer;
use crate::http::head::{HeadError, RequestHead, RequestParser, RequestTarget};
use crate::stream::Stream;
use crate::target::Target;
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// How long HNP waits, when it drains, for a client that is connected and has sent nothing.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// What a client asks for.
pub enum Asked {
    /// CONNECT.
    Tunnel(TunnelRequest),
    /// A request for a web server, in absolute form.
    Forward(ForwardRequest),
    /// A request for the manager, in origin form. What has come begins with its head, which is complete and valid.
    Requests(Vec<u8>),
    /// HTTP/2. What has come begins with its preface.
    Http2(Vec<u8>),
    /// TLS. What has come begins with the client's first record.
    Tls(Vec<u8>),
}

/// CONNECT.
pub struct TunnelRequest {
    /// Where to.
    pub target: Target,
    /// What came after the head.
    pub early: Vec<u8>,
}

/// A request for a web server, in absolute form.
pub struct ForwardRequest {
    /// All that has come, from the first byte of the head, which is complete and valid.
    pub received: Vec<u8>,
}

/// A head with what must outlive the buffer that it was read in.
struct Read {
    asked: Asked,
    credentials: Option<Vec<u8>>,
}

/// What may begin where a head is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// The connection, which TLS may still be put around.
    Plaintext,
    /// What TLS carries.
    Secured,
    /// Another request.
    Request,
    /// A captured connection, which is to carry plaintext requests.
    Captured,
}

impl Begins {
    /// What is spoken, where that is not HTTP/1; `None` while it may be one or the other.
    fn detect(self, bytes: &[u8]) -> Option<Protocol> {
        match (self, first_bytes::detect(bytes)) {
            (Begins::Request, _) | (Begins::Secured, Some(Protocol::Tls)) => Some(Protocol::Http1),
            (_, detected) => detected,
        }
    }
}

/// Reads the head of the connection's first request and finds out who asks. `None`: the client left before it had asked for
/// anything, and the account says how.
///
/// # Errors
/// The answer to a head that is refused, that does not come in time, or whose credentials do not do.
pub async fn read(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    client: &Stream,
    received: Vec<u8>,
    begins: Begins,
    account: &Account,
) -> Result<Option<Asked>, Answer> {
    let limit = snapshot.config.timeouts.head.0;
    let head = head(worker, snapshot, client, received, begins, account);
    let Ok(read) = uring::timeout(limit, head).await else {
        account.closed(ClosedBy::Hnp, "head_timeout");
        return Err(Answer::head_timeout(limit));
    };
    let Some(Read { asked, credentials }) = read? else {
        return Ok(None);
    };
    // Forwarded requests are each identified by themselves.
    if let Asked::Tunnel(_) = asked {
        self::client(snapshot, credentials.as_deref(), account).await?;
    }
    Ok(Some(asked))
}

/// Finds out who asks, where that is asked for.
///
/// # Errors
/// 407 without credentials that do; 503 when there are too many to check.
pub async fn client(
    snapshot: &Snapshot,
    credentials: Option<&[u8]>,
    account: &Account,
) -> Result<(), Answer> {
    if let Some(auth) = &snapshot.auth {
        account.identified(auth.check(credentials).await.map_err(Answer::from)?);
    }
    Ok(())
}

async fn head(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    client: &Stream,
    mut received: Vec<u8>,
    begins: Begins,
    account: &Account,
) -> Result<Option<Read>, Answer> {
    let mut parser = RequestParser::new();
    if let Some(read) = look(&mut parser, &received, snapshot, begins, account)? {
        return Ok(Some(read));
    }
    loop {
        // As a rule the whole head comes at once: then it is parsed where it was read, and nothing is kept of it but what
        // it says.
        let step = worker.pools.with_scratch(|scratch| {
            let got = match client.try_read(scratch) {
                Ok(0) => return Ok(Step::Left("eof", None)),
                Ok(got) => got,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Wait),
                Err(e) => return Ok(Step::Left("reset", Some(e))),
            };
            account.begun();
            let bytes = if received.is_empty() {
                &scratch[..got]
            } else {
                received.extend_from_slice(&scratch[..got]);
                &received[..]
            };
            match look(&mut parser, bytes, snapshot, begins, account) {
                Ok(Some(read)) => Ok(Step::Done(read)),
                Ok(None) => {
                    if received.is_empty() {
                        received.extend_from_slice(&scratch[..got]);
                    }
                    Ok(Step::Wait)
                }
                Err(error) => Err(error),
            }
        });
        match step.map_err(Answer::from)? {
            Step::Done(read) => return Ok(Some(read)),
            Step::Wait if account.has_begun() => {
                if let Err(error) = client.readable().await {
                    left(account, "error", Some(&error));
                    return Ok(None);
                }
            }
            Step::Wait => match first_byte(worker, client).await {
                Ok(true) => {}
                Ok(false) => {
                    account.closed(ClosedBy::Hnp, "drain");
                    return Ok(None);
                }
                Err(error) => {
                    left(account, "error", Some(&error));
                    return Ok(None);
                }
            },
            Step::Left(reason, error) => {
                left(account, reason, error.as_ref());
                return Ok(None);
            }
        }
    }
}

/// Looks at all that has come. `None`: it is not enough to tell.
fn look(
    parser: &mut RequestParser,
    bytes: &[u8],
    snapshot: &Snapshot,
    begins: Begins,
    account: &Account,
) -> Result<Option<Read>, HeadError> {
    let whole = |asked| {
        let credentials = None;
        Ok(Some(Read { asked, credentials }))
    };
    match begins.detect(bytes) {
        None => Ok(None),
        Some(Protocol::Tls) => whole(Asked::Tls(bytes.to_vec())),
        Some(Protocol::Http2) if begins == Begins::Captured || snapshot.modes.any_requests() => {
            whole(Asked::Http2(bytes.to_vec()))
        }
        Some(_) => match parser.parse(bytes, &snapshot.head)? {
            Some((head, length)) => understood(&head, bytes, length, account).map(Some),
            None => Ok(None),
        },
    }
}

/// Waits for something to read from a client that has asked for nothing yet. `false`: HNP drains, and will not wait for it.
async fn first_byte(worker: &Worker, client: &Stream) -> std::io::Result<bool> {
    let mut readable = pin!(client.readable());
    tokio::select! {
        biased;
        ready = &mut readable => return ready.map(|()| true),
        () = worker.draining.wait() => {}
    }
    // What was sent before the listener closed may still be on its way.
    match uring::timeout(DRAIN_GRACE, readable).await {
        Ok(ready) => ready.map(|()| true),
        Err(_) => Ok(false),
    }
}

enum Step {
    Done(Read),
    Wait,
    Left(&'static str, Option<std::io::Error>),
}

fn left(account: &Account, reason: &'static str, error: Option<&std::io::Error>) {
    account.closed(ClosedBy::Client, reason);
    let when = if account.has_begun() {
        "in the middle of"
    } else {
        "before"
    };
    match error {
        Some(error) => account.detail(format!("the client left {when} a request: {error}")),
        None => account.detail(format!("the client left {when} a request")),
    }
}

fn understood(
    head: &RequestHead<'_>,
    bytes: &[u8],
    length: usize,
    account: &Account,
) -> Result<Read, HeadError> {
    let asked = match &head.target {
        RequestTarget::Authority(target) => {
            account.asked("tunnel", head.method, Some(target), None);
            Asked::Tunnel(TunnelRequest {
                target: target.clone(),
                early: bytes[length..].to_vec(),
            })
        }
        RequestTarget::Absolute { target, .. } => {
            account.asked(
                "forward",
                head.method,
                Some(target),
                Some(head.target.path()),
            );
            Asked::Forward(ForwardRequest {
                received: bytes.to_vec(),
            })
        }
        RequestTarget::Origin(_) | RequestTarget::Asterisk => Asked::Requests(bytes.to_vec()),
    };
    Ok(Read {
        asked,
        credentials: head.proxy_authorization().map(<[u8]>::to_vec),
    })
}
