//! What both sides of a handshake share.

use std::io;
use std::ops::Deref;
use std::time::Duration;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, ExtractedSecrets, HandshakeKind, ProtocolVersion};

use super::HandshakeError;
use super::buffers::Buffers;
use crate::stream::Stream;
use crate::tls::Session;
use crate::tls::record::{Keeper, Key, Records};
use crate::uring;

/// How long, and for how many bytes, a peer that was refused may go on sending before it is cut off.
pub(in crate::tls) const PARTING: Duration = Duration::from_secs(1);
pub(in crate::tls) const PARTING_BYTES: usize = 256 << 10;

/// A rustls connection of either side.
pub(in crate::tls) trait Connection:
    Deref<Target = UnbufferedConnectionCommon<Self::Data>>
{
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// The keys, and what makes the next ones.
    fn into_secrets(self) -> Result<(ExtractedSecrets, Keeper), rustls::Error>;
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Keeper), rustls::Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        let keeper = match connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => Keeper::Client(Box::new(connection)),
            _ => Keeper::Tls12Client,
        };
        Ok((secrets, keeper))
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Keeper), rustls::Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        let keeper = match connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => Keeper::Server(Box::new(connection)),
            _ => Keeper::Tls12Server,
        };
        Ok((secrets, keeper))
    }
}

/// What came along with the end of the handshake.
#[derive(Default)]
pub(in crate::tls) struct Early {
    /// Data, decrypted by rustls.
    opened: Vec<u8>,
    /// The peer has ended its direction already.
    closed: bool,
}

/// What is to be done next.
pub(in crate::tls) enum Next {
    Go,
    Receive,
    Done,
}

/// Runs the handshake to its end. rustls sees one record at a time, so that what the peer sent behind its last flight is left to
/// our own records, and nothing half read stays behind in rustls. What it has to say is sent, but for the alert that goes with an
/// error: that lies in the buffer.
pub(super) async fn drive<C: Connection>(
    connection: &mut C,
    lower: &Stream,
    buffers: &mut Buffers,
) -> Result<Early, HandshakeError> {
    let mut early = Early::default();
    loop {
        match step(connection, buffers, &mut early)? {
            Next::Go => {}
            Next::Receive => {
                buffers.flush(lower).await?;
                if buffers.incoming.receive(lower).await? == 0 {
                    return Err(HandshakeError::Closed);
                }
            }
            Next::Done => {
                buffers.flush(lower).await?;
                return Ok(early);
            }
        }
    }
}

pub(in crate::tls) fn step<C: Connection>(
    connection: &mut C,
    buffers: &mut Buffers,
    early: &mut Early,
) -> Result<Next, HandshakeError> {
    let UnbufferedStatus { discard, state } = connection.process(buffers.incoming.shown_mut());
    let mut blocked = false;
    match state {
        Err(error) => {
            buffers.incoming.discard(discard);
            collect_alert(connection, buffers);
            return Err(error.into());
        }
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut buffers.outgoing)?,
        // It goes with the rest of the flight.
        Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
        Ok(ConnectionState::ReadTraffic(mut data)) => {
            while let Some(record) = data.next_record() {
                early.opened.extend_from_slice(record?.payload);
            }
        }
        Ok(ConnectionState::PeerClosed) => early.closed = true,
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => blocked = true,
        Ok(state) => {
            let what = format!("an unexpected state of the handshake: {state:?}");
            return Err(rustls::Error::General(what).into());
        }
    }
    buffers.incoming.discard(discard);
    Ok(if !blocked {
        Next::Go
    } else if !connection.is_handshaking() && buffers.incoming.is_used_up() {
        Next::Done
    } else if buffers.incoming.show_record() {
        Next::Go
    } else {
        Next::Receive
    })
}

/// Adds what rustls wants to send to the flight.
fn encode<Data>(
    mut data: EncodeTlsData<'_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let EncodeError::InsufficientSize(size) = (match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    }) else {
        return Ok(());
    };
    let at = outgoing.len();
    outgoing.resize(at + size.required_size, 0);
    data.encode(&mut outgoing[at..])
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(())
}

/// Takes what rustls wants to tell the peer of an error, and nothing more: shown the rest of the input it would go on reading, and make a
/// second alert of it.
fn collect_alert<C: Connection>(connection: &mut C, buffers: &mut Buffers) {
    while connection.wants_write() {
        let UnbufferedStatus { discard, state } = connection.process(buffers.incoming.shown_mut());
        let Ok(ConnectionState::EncodeTlsData(data)) = state else {
            return;
        };
        if encode(data, &mut buffers.outgoing).is_err() {
            return;
        }
        buffers.incoming.discard(discard);
    }
}

/// What a handshake has led to.
pub(in crate::tls) fn finish<C: Connection>(
    connection: C,
    buffers: &mut Buffers,
    early: Early,
    server_name: Option<Box<str>>,
) -> Result<(Session, Records), HandshakeError> {
    let session = session(&connection, server_name)?;
    let (secrets, keeper) = connection.into_secrets()?;
    let key = |secrets| Key::new(secrets, session.version, session.suite).map_err(io::Error::from);
    let mut records = Records::new(
        key(secrets.rx)?,
        key(secrets.tx)?,
        keeper,
        buffers.incoming.filled().to_vec(),
        early.opened,
    );
    if early.closed {
        records.end();
    }
    Ok((session, records))
}

fn session(state: &CommonState, server_name: Option<Box<str>>) -> Result<Session, rustls::Error> {
    let (Some(version), Some(suite)) = (state.protocol_version(), state.negotiated_cipher_suite())
    else {
        return Err(rustls::Error::HandshakeNotComplete);
    };
    let peer = state.peer_certificates().unwrap_or_default();
    Ok(Session {
        version,
        suite,
        alpn: state.alpn_protocol().map(Box::from),
        server_name,
        resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        peer: peer.to_vec(),
    })
}

/// Tells the peer why there will be no connection. A socket closed with unread bytes answers with a reset, which can destroy the
/// alert on its way: so what the peer still sends is read, for a while.
pub(super) async fn part(lower: &Stream, buffers: &mut Buffers, error: &HandshakeError) {
    let told = matches!(
        error,
        HandshakeError::Tls(_) | HandshakeError::UnknownName(_)
    ) || !buffers.outgoing.is_empty();
    // One try: a peer that does not read will not hear.
    if !told
        || !matches!(lower.try_write(&buffers.outgoing), Ok(n) if n == buffers.outgoing.len())
        || lower.shutdown_write().is_err()
    {
        return;
    }
    let drained = async {
        let mut discarded = 0;
        let mut buffer = vec![0; 4096];
        while discarded < PARTING_BYTES {
            match lower.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => discarded += n,
            }
        }
    };
    // When the time is up there is nothing left to do but to close.
    let _ = uring::timeout(PARTING, drained).await;
}
