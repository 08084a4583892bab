//! Handshakes, driven on a worker's stream: a socket, or what another TLS stream carries (to a manager behind an `https://` parent
//! proxy). Time limits are the caller's.
//!
//! rustls does them, through its unbuffered API: a flight is one write, and the buffers are the thread's, lent for as long as the
//! handshake lasts.

pub(super) mod buffers;
pub(super) mod drive;
mod hello;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use thiserror::Error;

use super::TlsStream;
use crate::stream::Stream;
use buffers::Buffers;

pub(super) use drive::{PARTING, PARTING_BYTES};
pub use hello::{peek, refusal};

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
/// configuration, or the alert that refuses. A configuration must allow the extraction of secrets.
///
/// # Errors
/// The client broke TLS, showed a certificate that does not do, or left. It has been told then, and the connection is closed, which
/// takes up to a second if the client goes on sending.
pub async fn accept(
    lower: Stream,
    received: Vec<u8>,
    choose: impl FnOnce(&Hello) -> Result<Arc<ServerConfig>, AlertDescription>,
) -> Result<TlsStream, HandshakeError> {
    // In a box: a connection's future keeps room for the largest of what it awaits, for as long as it lives.
    Box::pin(accept_on(lower, received, choose)).await
}

async fn accept_on(
    lower: Stream,
    received: Vec<u8>,
    choose: impl FnOnce(&Hello) -> Result<Arc<ServerConfig>, AlertDescription>,
) -> Result<TlsStream, HandshakeError> {
    let mut buffers = Buffers::lend();
    buffers.incoming.extend(&received);
    drop(received);
    let accepted = async {
        let hello = hello::read(&lower, &mut buffers).await?;
        let config = match choose(&hello) {
            Ok(config) => config,
            Err(alert) => {
                buffers.outgoing.extend_from_slice(&refusal(alert));
                return Err(HandshakeError::UnknownName(hello.server_name));
            }
        };
        let mut connection = UnbufferedServerConnection::new(config)?;
        let early = drive::drive(&mut connection, &lower, &mut buffers).await?;
        Ok((connection, early, hello.server_name))
    };
    match accepted.await {
        Ok((connection, early, name)) => {
            let (session, records) = drive::finish(connection, &mut buffers, early, name)?;
            Ok(TlsStream::new(lower, session, records))
        }
        Err(error) => {
            drive::part(&lower, &mut buffers, &error).await;
            Err(error)
        }
    }
}

/// The client's side. The configuration must allow the extraction of secrets.
///
/// # Errors
/// The server broke TLS, showed a certificate that does not do, refused ours (TLS 1.3 servers do that later, and then the first
/// read tells), or left.
pub async fn connect(
    lower: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TlsStream, HandshakeError> {
    Box::pin(connect_on(lower, config, name)).await
}

async fn connect_on(
    lower: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TlsStream, HandshakeError> {
    let asked = match &name {
        ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase().into()),
        _ => None,
    };
    let mut buffers = Buffers::lend();
    let mut connection = UnbufferedClientConnection::new(config, name)?;
    let driven = drive::drive(&mut connection, &lower, &mut buffers).await;
    match driven {
        Ok(early) => {
            let (session, records) = drive::finish(connection, &mut buffers, early, asked)?;
            Ok(TlsStream::new(lower, session, records))
        }
        Err(error) => {
            drive::part(&lower, &mut buffers, &error).await;
            Err(error)
        }
    }
}
