//! Reverse proxy: requests in origin-form, each sent to the configured upstream over a connection that the worker keeps.

use std::rc::Rc;
use std::sync::Arc;

use super::account::Account;
use super::relay::Tunnel;
use crate::origin::Route;
use crate::stream::Stream;
use crate::worker::{Snapshot, Worker};

/// What is known of a client before its first request, whatever version of HTTP it speaks.
#[derive(Debug)]
pub struct Peer {
    /// As the log says it: `reverse-proxy`, `end-to-end-mtls` or `endpoint`.
    pub mode: &'static str,
    /// What is served to it.
    pub route: Arc<Route>,
    /// Whether it came over TLS: `https` in `X-Forwarded-Proto`.
    pub over_tls: bool,
    /// The value of `x-forwarded-client-cert` for its verified certificate, if it showed one.
    pub client_certificate: Option<Arc<str>>,
}

/// What became of a connection.
pub enum Served {
    /// It is closed.
    Closed,
    /// A protocol was switched.
    Upgraded(Tunnel),
    /// The next request is not in origin-form: it belongs to the flow's first stage again.
    Other {
        /// Who asks.
        client: Stream,
        /// All that came of it.
        received: Vec<u8>,
    },
}

/// Serves this and the following requests of a connection. `received` is all that has come, from the first byte of a request's head.
pub async fn serve(
    _worker: &Rc<Worker>,
    _snapshot: &Arc<Snapshot>,
    _client: Stream,
    _received: Vec<u8>,
    _peer: &Peer,
    _account: &Account,
) -> Served {
    Served::Closed
}
