//! Securing: TLS, where the client begins with it. The name that it asks for chooses the endpoint; the certificate that it shows
//! says who it is.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;

use super::accept;
use super::account::Account;
use super::modes::Access;
use super::reverse::Peer;
use crate::access_log::ClosedBy;
use crate::admin::metrics;
use crate::http::answer::Answer;
use crate::http::proxy_status::{ErrorType, Side};
use crate::stream::Stream;
use crate::tls::verify::explain;
use crate::tls::{self, Endpoint, HandshakeError, Identity, Server};
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// What TLS says of a client.
pub struct Secured {
    /// Whom it asked for.
    pub endpoint: Arc<Endpoint>,
    /// Who it is, by its certificate.
    pub identity: Option<Arc<Identity>>,
    /// Whether HTTP/2 was agreed on (RFC 7301).
    pub http2: bool,
}

/// Makes the connection a TLS one, as the client's first record, with which `received` begins, asks for. `None`: it did not come to
/// that, and the account says why.
pub async fn accept(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    server: &Server,
    client: Stream,
    received: Vec<u8>,
    account: &Account,
) -> Option<(Stream, Secured)> {
    let books = worker.metrics.handshake(metrics::Side::Client);
    let mut chosen = None;
    let handshake = tls::accept(client, received, |hello| {
        let name = hello.server_name.as_deref();
        let endpoint = server
            .choose(hello)
            .inspect_err(|_| account.asks_for(name, None))?;
        account.asks_for(name, endpoint.name.as_deref());
        chosen = Some(Arc::clone(endpoint));
        Ok(Arc::clone(&endpoint.config))
    });
    let stream = match bounded(worker, snapshot, account, handshake).await {
        Ok(stream) => stream,
        Err(failure) => {
            books.failed(failure.code());
            failure.note(account);
            return None;
        }
    };
    let endpoint = chosen?;
    let session = stream.session();
    let identity = match server.verify_identity(session) {
        Ok(identity) => identity,
        Err(error) => {
            let alert = tls::alert(&error);
            let failure = Failure::Handshake(error.into());
            books.failed(failure.code());
            failure.note(account);
            stream.refuse(alert).await;
            return None;
        }
    };
    books.done(session.version_name(), session.resumed);
    let name = endpoint.name.as_deref();
    let certificate = identity.as_ref().map(|identity| identity.name().into());
    let (client, shown) = (account.client().ip(), certificate.is_some());
    worker.metrics.endpoints().connected(name, client, shown);
    account.secured(session, name, certificate);
    let http2 = session.alpn.as_deref() == Some(b"h2");
    let secured = Secured {
        endpoint,
        identity,
        http2,
    };
    Some((stream.into(), secured))
}

/// Refuses a client that begins TLS where there is none. It is told so in its own language.
pub async fn refuse(client: Stream, account: &Account) {
    account.closed(ClosedBy::Hnp, "tls_unsupported");
    account.detail(
        "the client begins with TLS, and this listener has none: set [listener.tls], or let the client use http://"
            .to_owned(),
    );
    accept::answer_and_close(client, &tls::refusal(AlertDescription::HandshakeFailure)).await;
}

/// A handshake within its time, and within the number of them that there may be.
async fn bounded<T>(
    worker: &Worker,
    snapshot: &Snapshot,
    account: &Account,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, Failure> {
    let most = snapshot.config.limits.handshakes.div_ceil(worker.count());
    let limit = snapshot.config.timeouts.handshake.0;
    let ticket = worker.handshakes.begin(account.client().ip(), most);
    tokio::select! {
        biased;
        outcome = uring::timeout(limit, handshake) => match outcome {
            Ok(outcome) => outcome.map_err(Failure::Handshake),
            Err(_) => Err(Failure::Slow(limit)),
        },
        () = ticket.evicted() => Err(Failure::Evicted(most)),
    }
}

/// Why there is no TLS.
enum Failure {
    Handshake(HandshakeError),
    Slow(Duration),
    Evicted(usize),
}

impl Failure {
    /// As the metric has it.
    fn code(&self) -> &'static str {
        match self {
            Failure::Handshake(error) => error.code(),
            Failure::Slow(_) => "timeout",
            Failure::Evicted(_) => "limit",
        }
    }

    fn note(&self, account: &Account) {
        let (by, reason) = match self {
            Failure::Handshake(HandshakeError::Closed | HandshakeError::Io(_)) => {
                (ClosedBy::Client, "tls_aborted")
            }
            Failure::Handshake(HandshakeError::Tls(rustls::Error::AlertReceived(_))) => {
                (ClosedBy::Client, "tls_refused")
            }
            Failure::Handshake(_) => (ClosedBy::Hnp, "tls_failed"),
            Failure::Slow(_) => (ClosedBy::Hnp, "tls_timeout"),
            Failure::Evicted(_) => (ClosedBy::Hnp, "tls_limit"),
        };
        account.closed(by, reason);
        account.detail(match self {
            Failure::Handshake(HandshakeError::Tls(error)) => {
                format!("the TLS handshake failed: {}", explain::client(error))
            }
            Failure::Handshake(error) => format!("the TLS handshake failed: {error}"),
            Failure::Slow(limit) => {
                format!("the TLS handshake was not complete within {limit:?} (timeouts.handshake)")
            }
            Failure::Evicted(most) => format!(
                "this TLS handshake was the oldest of more than {most} under way (limits.handshakes)"
            ),
        });
    }
}

/// How requests for the manager are served to this client.
///
/// # Errors
/// The answer where they are not.
pub fn requests(snapshot: &Snapshot, secured: Option<&Secured>) -> Result<Peer, Answer> {
    let identity = secured.and_then(|secured| secured.identity.as_ref());
    let (mode, route) = match secured.and_then(|secured| secured.endpoint.name.as_deref()) {
        Some(name) => ("endpoint", snapshot.endpoints.get(name)),
        None => {
            let access = match secured {
                None => Access::Plaintext,
                Some(_) => Access::Tls {
                    certificate: identity.is_some(),
                },
            };
            (snapshot.modes.requests(access)?, snapshot.route.as_ref())
        }
    };
    let Some(route) = route else {
        return Err(Answer::new(
            503,
            ErrorType::ProxyConfigurationError,
            Side::Configuration,
            "HNP has no upstream to send requests to: set upstream.url or PROXY_URL",
        ));
    };
    let forwards_certificate = route.client_certificate_header;
    Ok(Peer {
        mode,
        route: Arc::clone(route),
        over_tls: secured.is_some(),
        client_certificate: identity
            .filter(|_| forwards_certificate)
            .map(|identity| identity.xfcc().into()),
    })
}

/// Whether this client may ask for tunnels.
///
/// # Errors
/// The answer where it may not.
pub fn tunnels(snapshot: &Snapshot, secured: Option<&Secured>) -> Result<(), Answer> {
    if secured.is_some_and(|secured| secured.endpoint.name.is_some()) {
        return Err(Answer::new(
            403,
            ErrorType::HttpRequestDenied,
            Side::Client,
            "this name is an endpoint's, which serves requests in origin form (GET /path) and no tunnels",
        ));
    }
    snapshot.modes.tunnel()
}
