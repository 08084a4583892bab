//! Closing so that the last response arrives.

use std::time::Duration;

use crate::stream::Stream;
use crate::uring;

/// Bytes of a request that are thrown away before the connection is cut.
const DISCARD_LIMIT: usize = 1 << 20;

/// Ends the stream, then reads and throws away what the peer still sends, until it closes too: at most `limit` and a MiB.
///
/// A socket closed with unread bytes answers with a reset, which can destroy the response on its way to the peer (RFC 9112
/// section 9.6).
pub async fn close(socket: Stream, limit: Duration) {
    if socket.shutdown_write().is_err() {
        return;
    }
    let drained = async {
        let mut discarded = 0;
        let mut buffer = vec![0; 4096];
        while discarded < DISCARD_LIMIT {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => discarded += n,
            }
        }
    };
    // When the time is up there is nothing left to do but to close.
    let _ = uring::timeout(limit, drained).await;
}
