//! A connection without waiting, plain or TLS 1.3: rustls makes the handshake, the records are sealed and opened here, straight
//! from where the payload lies, so that generator and manager cost little beside the proxy.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, ServerConfig,
};

use super::pki::NAME;
use crate::net::not_now;

/// Bytes that a buffer for [`Wire::read`] has: many records, and what is left of the one before.
pub(super) const BUFFER: usize = 288 * 1024;
/// Bytes of a body that are sealed or written at once.
const CHUNK: usize = 256 * 1024;
/// What bodies consist of.
pub(super) const FILL: u8 = b'h';
static BODY: [u8; CHUNK] = [FILL; CHUNK];

// RFC 8446 section 5: header, largest payload, tag; types of content.
const HEADER: usize = 5;
pub(super) const PAYLOAD: usize = 1 << 14;
const TAG: usize = 16;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;
/// Handshake message type, RFC 8446 section 4.
const NEW_SESSION_TICKET: u8 = 4;

/// One end of a connection.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    layer: Layer,
    /// The beginning of a record whose rest has not come.
    kept: Vec<u8>,
    outgoing: Vec<u8>,
    /// How much of `outgoing` the socket has taken.
    sent: usize,
}

/// What a connection speaks at the moment.
pub(super) enum Layer {
    Plain,
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    Records(Box<Records>),
    Broken,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Something, or nothing yet.
    More,
    /// The end of the stream.
    End,
}

impl Wire {
    pub(super) fn plain(stream: TcpStream) -> Wire {
        Wire::with(stream, Layer::Plain)
    }

    /// The client's end; its hello is ready to be flushed.
    pub(super) fn client(stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Wire> {
        let mut wire = Wire::with(stream, Layer::client(config)?);
        wire.shake(&mut [], &mut |_| Ok(()))?;
        Ok(wire)
    }

    pub(super) fn server(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Wire> {
        Ok(Wire::with(stream, Layer::server(config)?))
    }

    fn with(stream: TcpStream, layer: Layer) -> Wire {
        Wire {
            stream,
            layer,
            kept: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    /// Whether payload can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.layer, Layer::Plain | Layer::Records(_))
    }

    /// Whether the handshake was a resumed one; none before its end and without TLS.
    pub(super) fn resumed(&self) -> Option<bool> {
        match &self.layer {
            Layer::Records(records) => Some(records.resumed),
            _ => None,
        }
    }

    /// Reads once, hands payload on, and queues what a handshake answers.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Came> {
        let before = self.kept.len();
        buffer[..before].copy_from_slice(&self.kept);
        let count = match self.stream.read(&mut buffer[before..]) {
            Ok(0) => return Ok(Came::End),
            Ok(count) => count,
            Err(error) if not_now(&error) => return Ok(Came::More),
            Err(error) => return Err(error),
        };
        let filled = &mut buffer[..before + count];
        let mut used = 0;
        let mut came = Came::More;
        match &mut self.layer {
            Layer::Plain => {
                sink(filled)?;
                used = filled.len();
            }
            Layer::Client(_) | Layer::Server(_) => used = self.shake(filled, sink)?,
            Layer::Records(_) => {}
            Layer::Broken => return Err(io::Error::other("the handshake failed before")),
        }
        if let Layer::Records(records) = &mut self.layer {
            let (opened, ended) = records.open(&mut filled[used..], sink)?;
            used += opened;
            came = ended;
        }
        self.kept.clear();
        self.kept.extend_from_slice(&filled[used..]);
        Ok(came)
    }

    /// Queues payload; [`Wire::flush`] sends it.
    pub(super) fn queue(&mut self, payload: &[u8]) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain => self.outgoing.extend_from_slice(payload),
            Layer::Records(records) => {
                for part in payload.chunks(PAYLOAD) {
                    records.seal(DATA, part, &mut self.outgoing)?;
                }
            }
            _ => return Err(io::Error::other("payload before the handshake is over")),
        }
        Ok(())
    }

    /// Sends what is queued as far as the socket takes it; tells whether that is all.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if not_now(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Sends what is queued, then one chunk of a body with `left` bytes to go; tells whether all of both is sent.
    pub(super) fn send_body(&mut self, left: &mut u64) -> io::Result<bool> {
        if !self.flush()? {
            return Ok(false);
        }
        let chunk = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
        if chunk == 0 {
            return Ok(true);
        }
        if matches!(self.layer, Layer::Plain) {
            match self.stream.write(&BODY[..chunk]) {
                Ok(count) => *left -= count as u64,
                Err(error) if not_now(&error) => {}
                Err(error) => return Err(error),
            }
            return Ok(*left == 0);
        }
        self.queue(&BODY[..chunk])?;
        *left -= chunk as u64;
        Ok(self.flush()? && *left == 0)
    }

    /// Says goodbye, as clients do; what the socket does not take at once is not sent.
    pub(super) fn close(mut self) -> io::Result<()> {
        if let Layer::Records(records) = &mut self.layer {
            // RFC 8446 section 6.1: a warning (1), close_notify (0).
            records.seal(ALERT, &[1, 0], &mut self.outgoing)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Memory that an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.outgoing.shrink_to_fit();
        self.kept.shrink_to_fit();
    }

    /// Goes on with the handshake; tells how many bytes of `incoming` it used. Payload that came with its end is handed on.
    fn shake(
        &mut self,
        incoming: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let used = self.layer.shake(incoming, &mut self.outgoing, sink)?;
        if self.layer.is_done() {
            self.layer.settle()?;
        }
        Ok(used)
    }
}

impl Layer {
    pub(super) fn client(config: &Arc<ClientConfig>) -> io::Result<Layer> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connection =
            UnbufferedClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Layer::Client(Box::new(connection)))
    }

    pub(super) fn server(config: &Arc<ServerConfig>) -> io::Result<Layer> {
        let connection =
            UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Layer::Server(Box::new(connection)))
    }

    /// Goes on with the handshake; tells how many bytes of `incoming` it used. Payload that came with its end is handed on.
    pub(super) fn shake(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        // The two ends are types of their own with the same methods.
        macro_rules! shake {
            ($connection:expr) => {{
                let mut used = 0;
                loop {
                    let UnbufferedStatus { discard, state, .. } =
                        $connection.process_tls_records(&mut incoming[used..]);
                    let waits = match state.map_err(io::Error::other)? {
                        ConnectionState::EncodeTlsData(data) => {
                            encode(data, outgoing)?;
                            false
                        }
                        ConnectionState::TransmitTlsData(data) => {
                            data.done();
                            false
                        }
                        ConnectionState::ReadTraffic(mut traffic) => {
                            while let Some(record) = traffic.next_record() {
                                sink(record.map_err(io::Error::other)?.payload)?;
                            }
                            false
                        }
                        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
                            true
                        }
                        other => {
                            return Err(io::Error::other(format!(
                                "the handshake ended with {other:?}"
                            )));
                        }
                    };
                    used += discard;
                    if waits {
                        break Ok(used);
                    }
                }
            }};
        }
        match self {
            Layer::Client(connection) => shake!(connection),
            Layer::Server(connection) => shake!(connection),
            _ => Ok(0),
        }
    }

    /// Whether the handshake is over, and what follows can be left to [`Records`].
    pub(super) fn is_done(&self) -> bool {
        match self {
            Layer::Client(connection) => !connection.is_handshaking(),
            Layer::Server(connection) => !connection.is_handshaking(),
            _ => false,
        }
    }

    /// Turns what has made the handshake into its records.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let (secrets, tickets, kind) = match std::mem::replace(self, Layer::Broken) {
            Layer::Client(connection) => {
                let kind = connection.handshake_kind();
                let (secrets, tickets) = connection
                    .dangerous_into_kernel_connection()
                    .map_err(io::Error::other)?;
                (secrets, Some(tickets), kind)
            }
            Layer::Server(connection) => {
                let kind = connection.handshake_kind();
                let (secrets, _) = connection
                    .dangerous_into_kernel_connection()
                    .map_err(io::Error::other)?;
                (secrets, None, kind)
            }
            other => {
                *self = other;
                return Ok(());
            }
        };
        let resumed = kind == Some(HandshakeKind::Resumed);
        *self = Layer::Records(Box::new(Records::new(secrets, tickets, resumed)?));
        Ok(())
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let from = outgoing.len();
    let mut room = 2048;
    loop {
        outgoing.resize(from + room, 0);
        match data.encode(&mut outgoing[from..]) {
            Ok(count) => {
                outgoing.truncate(from + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// The records after the handshake.
pub(super) struct Records {
    sealing: Keys,
    opening: Keys,
    /// The client's end, which learns session tickets.
    tickets: Option<KernelConnection<ClientConnectionData>>,
    resumed: bool,
}

struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// Of the next record.
    number: u64,
}

impl Records {
    fn new(
        secrets: ExtractedSecrets,
        tickets: Option<KernelConnection<ClientConnectionData>>,
        resumed: bool,
    ) -> io::Result<Records> {
        Ok(Records {
            sealing: Keys::new(secrets.tx)?,
            opening: Keys::new(secrets.rx)?,
            tickets,
            resumed,
        })
    }

    /// RFC 8446 section 5.2: payload and its type are sealed; the header is authenticated.
    pub(super) fn seal(
        &mut self,
        kind: u8,
        payload: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> io::Result<()> {
        let from = outgoing.len();
        let size = payload.len() + 1 + TAG;
        let header = header(size)?;
        outgoing.extend_from_slice(&header);
        outgoing.resize(from + HEADER + size, 0);
        let (text, tail) = outgoing[from + HEADER..].split_at_mut(payload.len());
        let nonce = self.sealing.nonce();
        self.sealing
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(header), payload, text, &[kind], tail)
            .map_err(|_| io::Error::other("a record cannot be sealed"))
    }

    /// Opens the whole records of `filled`; tells how many bytes they are and whether the peer has said goodbye.
    pub(super) fn open(
        &mut self,
        filled: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<(usize, Came)> {
        let mut used = 0;
        loop {
            let rest = &mut filled[used..];
            let Some((header, body)) = rest.split_first_chunk_mut::<HEADER>() else {
                return Ok((used, Came::More));
            };
            let size = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let Some(body) = body.get_mut(..size) else {
                return Ok((used, Came::More));
            };
            used += HEADER + size;
            let nonce = self.opening.nonce();
            let text = self
                .opening
                .key
                .open_in_place(nonce, Aad::from(*header), body)
                .map_err(|_| io::Error::other("a record cannot be opened"))?;
            // Padding is zeros after the type; nobody here sends any.
            let Some((&kind, payload)) = text.split_last() else {
                return Err(io::Error::other("a record has no type"));
            };
            match kind {
                DATA => sink(payload)?,
                HANDSHAKE => self.learn(payload)?,
                ALERT if payload == [1, 0] => return Ok((used, Came::End)),
                _ => {
                    return Err(io::Error::other(format!(
                        "a record of type {kind}: {payload:?}"
                    )));
                }
            }
        }
    }

    /// Handshake messages after the handshake: session tickets, whole ones.
    fn learn(&mut self, mut messages: &[u8]) -> io::Result<()> {
        while let [kind, size @ ..] = messages {
            let (size, rest) = size
                .split_first_chunk::<3>()
                .ok_or_else(|| io::Error::other("half a handshake message"))?;
            let size = u32::from_be_bytes([0, size[0], size[1], size[2]]);
            let message = rest
                .get(..size as usize)
                .ok_or_else(|| io::Error::other("half a handshake message"))?;
            match &mut self.tickets {
                Some(tickets) if *kind == NEW_SESSION_TICKET => tickets
                    .handle_new_session_ticket(message)
                    .map_err(io::Error::other)?,
                _ => {
                    return Err(io::Error::other(format!(
                        "handshake message {kind} after the handshake"
                    )));
                }
            }
            messages = &rest[size as usize..];
        }
        Ok(())
    }
}

impl Keys {
    fn new((number, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Keys> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(io::Error::other("another cipher than was offered"));
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(io::Error::other)?;
        Ok(Keys {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(io::Error::other)?,
            number,
        })
    }

    /// RFC 8446 section 5.3: the IV and the record's number.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(self.number.to_be_bytes())
        {
            *byte ^= of_number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn header(size: usize) -> io::Result<[u8; HEADER]> {
    let [high, low] = u16::try_from(size).map_err(io::Error::other)?.to_be_bytes();
    Ok([DATA, 3, 3, high, low])
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::mutual::load::Tickets;
    use crate::mutual::pki::Pki;

    struct Pair {
        client: Wire,
        server: Wire,
        buffer: Vec<u8>,
    }

    impl Pair {
        fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Pair {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            near.set_nonblocking(true).unwrap();
            far.set_nonblocking(true).unwrap();
            Pair {
                client: Wire::client(near, client).unwrap(),
                server: Wire::server(far, server).unwrap(),
                buffer: vec![0; BUFFER],
            }
        }

        /// One turn of each end; gives what came to the client and to the server.
        fn turn(&mut self) -> (Vec<u8>, Vec<u8>) {
            let mut came = (Vec::new(), Vec::new());
            self.client.flush().unwrap();
            self.server
                .read(&mut self.buffer, &mut |payload| {
                    came.1.extend_from_slice(payload);
                    Ok(())
                })
                .unwrap();
            self.server.flush().unwrap();
            self.client
                .read(&mut self.buffer, &mut |payload| {
                    came.0.extend_from_slice(payload);
                    Ok(())
                })
                .unwrap();
            came
        }

        fn shake(&mut self) {
            while !(self.client.is_open() && self.server.is_open()) {
                self.turn();
            }
        }
    }

    #[test]
    fn a_body_passes_and_the_next_handshake_is_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::make(directory.path()).unwrap();
        let tickets = Arc::new(Tickets::default());
        let (client, server) = (pki.client(Some(tickets)).unwrap(), pki.manager().unwrap());
        for resumed in [false, true] {
            let mut pair = Pair::new(&client, &server);
            pair.shake();
            pair.client.queue(b"how much?").unwrap();
            let mut asked = Vec::new();
            let mut left = (3 << 20) + 1;
            let mut body = Vec::new();
            while body.len() < (3 << 20) + 1 {
                let (down, up) = pair.turn();
                asked.extend(up);
                body.extend(down);
                if asked == b"how much?" {
                    pair.server.send_body(&mut left).unwrap();
                }
            }
            assert_eq!(left, 0);
            assert!(body.iter().all(|byte| *byte == FILL));
            assert_eq!(pair.client.resumed(), Some(resumed));
            assert_eq!(pair.server.resumed(), Some(resumed));
            pair.client.close().unwrap();
            let mut end = || pair.server.read(&mut pair.buffer, &mut |_| Ok(())).unwrap();
            assert_eq!(end(), Came::End);
        }
    }

    #[test]
    fn without_a_store_nothing_is_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::make(directory.path()).unwrap();
        let (client, server) = (pki.client(None).unwrap(), pki.manager().unwrap());
        for _ in 0..2 {
            let mut pair = Pair::new(&client, &server);
            pair.shake();
            pair.client.queue(b"x").unwrap();
            while pair.turn().1 != b"x" {}
            assert_eq!(pair.client.resumed(), Some(false));
        }
    }
}
