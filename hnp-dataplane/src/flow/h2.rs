//! HTTP/2.
use super::account::Account;
use super::reverse::Peer;
use crate::stream::Stream;
use crate::worker::{Snapshot, Worker};
use std::rc::Rc;
use std::sync::Arc;
/// Placeholder.
pub async fn serve(
    _worker: &Rc<Worker>,
    _snapshot: &Arc<Snapshot>,
    _client: Stream,
    _received: Vec<u8>,
    _peer: &Peer,
    _account: &Account,
) {
}
