//! Handshakes, driven on a worker's stream: a socket, or what another TLS stream carries (to a manager behind an `https://` parent
//! proxy). Time limits are the caller's.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use thiserror::Error;

use super::TlsStream;
use crate::stream::Stream;

/// What a client says before a configuration is chosen for it.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The name it asks for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The application protocols it offers.
    pub alpn: Vec<Box<[u8]>>,
}

/// Why a handshake failed. A TLS error has been told to the peer by an alert where that was possible.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The peer, or what it showed, does not do.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed in the midst.
    #[error("the connection was closed during the handshake")]
    Closed,
    /// Nothing is served under the name that was asked for.
    #[error("nothing is served here under the name {}", .0.as_deref().unwrap_or("(none)"))]
    UnknownName(Option<Box<str>>),
}

/// The server's side. `received` is what has been read already, from the first byte of the client's first record. `choose` picks the
/// configuration, or the alert that refuses.
///
/// # Errors
/// The client broke TLS, showed a certificate that does not do, or left.
pub async fn accept(
    _lower: Stream,
    _received: Vec<u8>,
    _choose: impl FnOnce(&Hello) -> Result<Arc<ServerConfig>, AlertDescription>,
) -> Result<TlsStream, HandshakeError> {
    Err(HandshakeError::Closed)
}

/// The client's side.
///
/// # Errors
/// The server broke TLS, showed a certificate that does not do, refused ours, or left.
pub async fn connect(
    _lower: Stream,
    _config: Arc<ClientConfig>,
    _name: ServerName<'static>,
) -> Result<TlsStream, HandshakeError> {
    Err(HandshakeError::Closed)
}
