//! What goes wrong between peers after the handshake.

use std::io;

use rustls::AlertDescription;
use thiserror::Error;

/// Why a TLS stream broke, inside of the [`io::Error`] that a read or a write gave.
#[derive(Debug, Clone, Error)]
pub enum RecordError {
    /// The peer ended the connection by an alert.
    #[error("the peer broke the TLS connection off: alert {0:?}")]
    Alert(AlertDescription),
    /// The peer sent what TLS does not allow; it has been told by this alert where that was possible.
    #[error("the peer broke TLS: {what} (alert {alert:?})")]
    Peer {
        /// What it was told.
        alert: AlertDescription,
        /// What it did.
        what: &'static str,
    },
    /// The connection ended without `close_notify`: what came may be cut short (RFC 8446 section 6.1).
    #[error("the connection ended without TLS having ended (no close_notify)")]
    Truncated,
    /// The keys are used up and TLS 1.2 has no way to renew them.
    #[error("the keys of this TLS 1.2 connection are used up")]
    Exhausted,
    /// The kernel does TLS here, and cannot renew a key.
    #[error(
        "a key of this TLS connection is to be renewed, which a kernel before Linux 6.14 cannot do (kTLS)"
    )]
    KeyUpdate,
    /// Nothing can be written any more: it was ended, or broke.
    #[error("the TLS stream has been ended already")]
    Closed,
    /// A fault of HNP's own.
    #[error("TLS: {0}")]
    Internal(&'static str),
}

impl RecordError {
    /// The kind that an [`io::Error`] made of this has.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            RecordError::Alert(_) => io::ErrorKind::ConnectionReset,
            RecordError::Peer { .. } => io::ErrorKind::InvalidData,
            RecordError::Truncated => io::ErrorKind::UnexpectedEof,
            RecordError::Closed => io::ErrorKind::BrokenPipe,
            RecordError::Exhausted | RecordError::KeyUpdate | RecordError::Internal(_) => {
                io::ErrorKind::Other
            }
        }
    }
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// The peer broke TLS.
pub(super) fn broke(alert: AlertDescription, what: &'static str) -> RecordError {
    RecordError::Peer { alert, what }
}
