//! What rustls keeps of a connection after its handshake: the secrets that later keys come from.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ProtocolVersion, SupportedCipherSuite};

use super::fault::broke;
use super::{Key, RecordError};

/// The rest of a rustls connection. TLS 1.2 has neither new keys nor late tickets, and keeps none.
pub(crate) enum Keeper {
    /// Of a TLS 1.3 client.
    Client(Box<KernelConnection<ClientConnectionData>>),
    /// Of a TLS 1.3 server.
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// Of TLS 1.2, either side.
    Tls12Client,
    /// Of TLS 1.2.
    Tls12Server,
}

impl Keeper {
    /// The key for what is sent from now on.
    pub(super) fn next_send_key(&mut self) -> Result<Key, RecordError> {
        let (version, suite) = self.agreed()?;
        let secrets = match self {
            Keeper::Client(connection) => connection.update_tx_secret(),
            Keeper::Server(connection) => connection.update_tx_secret(),
            Keeper::Tls12Client | Keeper::Tls12Server => return Err(RecordError::Exhausted),
        };
        Key::new(secrets.map_err(|_| no_key())?, version, suite)
    }

    /// The key for what the peer sends from now on.
    pub(super) fn next_receive_key(&mut self) -> Result<Key, RecordError> {
        let (version, suite) = self.agreed()?;
        let secrets = match self {
            Keeper::Client(connection) => connection.update_rx_secret(),
            Keeper::Server(connection) => connection.update_rx_secret(),
            Keeper::Tls12Client | Keeper::Tls12Server => return Err(RecordError::Exhausted),
        };
        Key::new(secrets.map_err(|_| no_key())?, version, suite)
    }

    /// Stores a session ticket that a TLS 1.3 server sent.
    pub(super) fn store_ticket(&mut self, payload: &[u8]) -> Result<(), RecordError> {
        match self {
            Keeper::Client(connection) => {
                connection.handle_new_session_ticket(payload).map_err(|_| {
                    broke(
                        AlertDescription::IllegalParameter,
                        "a session ticket that does not do",
                    )
                })
            }
            _ => Err(broke(
                AlertDescription::UnexpectedMessage,
                "a session ticket from a client",
            )),
        }
    }

    /// Whether HNP is the client.
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Keeper::Client(_) | Keeper::Tls12Client)
    }

    fn agreed(&self) -> Result<(ProtocolVersion, SupportedCipherSuite), RecordError> {
        match self {
            Keeper::Client(c) => Ok((c.protocol_version(), c.negotiated_cipher_suite())),
            Keeper::Server(c) => Ok((c.protocol_version(), c.negotiated_cipher_suite())),
            Keeper::Tls12Client | Keeper::Tls12Server => Err(RecordError::Exhausted),
        }
    }
}

fn no_key() -> RecordError {
    RecordError::Internal("no next traffic key")
}
