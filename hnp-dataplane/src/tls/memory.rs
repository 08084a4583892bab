//! TLS in memory, without sockets: what tests and benchmarks of the record layer run on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use super::handshake::buffers::Buffers;
use super::handshake::drive::{self, Connection, Early, Next};
use super::record::{Records, Wire};
use super::{HandshakeError, Session};

/// One direction of a connection: what is sent is there until it is received.
#[derive(Debug)]
pub struct Line {
    bytes: RefCell<Vec<u8>>,
    from: Cell<usize>,
    /// How many bytes it still takes.
    pub room: Cell<usize>,
    /// Most bytes that one receive brings.
    pub chunk: Cell<usize>,
    /// Nothing more will come.
    pub ended: Cell<bool>,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            bytes: RefCell::default(),
            from: Cell::new(0),
            room: Cell::new(usize::MAX),
            chunk: Cell::new(usize::MAX),
            ended: Cell::new(false),
        }
    }
}

impl Line {
    /// Adds what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing does.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.room.get());
        if n == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room.set(self.room.get() - n);
        self.bytes.borrow_mut().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Takes what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is, and more may come.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.borrow_mut();
        let rest = &bytes[self.from.get()..];
        let n = rest.len().min(buffer.len()).min(self.chunk.get());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.from.set(self.from.get() + n);
        if self.from.get() == bytes.len() {
            bytes.clear();
            self.from.set(0);
            if n == 0 && !self.ended.get() {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        Ok(n)
    }

    /// Takes everything that is there.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let mut bytes = self.bytes.take();
        bytes.drain(..self.from.take());
        bytes
    }
}

/// One end of a connection after its handshake.
pub struct MemoryStream {
    /// What the handshake agreed on.
    pub session: Session,
    /// What this end receives.
    pub inbound: Rc<Line>,
    /// What it sends.
    pub outbound: Rc<Line>,
    pub(super) records: RefCell<Records>,
}

impl Wire for MemoryStream {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inbound.recv(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.send(bytes)
    }
}

impl MemoryStream {
    /// As [`super::TlsStream::try_read`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.records.borrow_mut().read(self, buffer)
    }

    /// As [`super::TlsStream::try_write`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.records.borrow_mut().write(self, bytes)
    }

    /// Sends `close_notify`, as far as there is room.
    ///
    /// # Errors
    /// The keys are used up.
    pub fn close(&self) -> io::Result<()> {
        self.records.borrow_mut().close(self).map(drop)
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A handshake, from which come the client's end and the server's.
///
/// # Errors
/// Either side refuses.
pub fn pair(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: ServerName<'static>,
) -> Result<(MemoryStream, MemoryStream), HandshakeError> {
    let mut client = Side::new(UnbufferedClientConnection::new(client, name)?);
    let mut server = Side::new(UnbufferedServerConnection::new(server)?);
    while !(client.done && server.done) {
        client.go_on()?;
        server.buffers.incoming.extend(&client.buffers.outgoing);
        client.buffers.outgoing.clear();
        server.go_on()?;
        client.buffers.incoming.extend(&server.buffers.outgoing);
        server.buffers.outgoing.clear();
    }
    let lines = (Rc::default(), Rc::default());
    let (up, down) = (&lines.0, &lines.1);
    Ok((client.finish(down, up)?, server.finish(up, down)?))
}

/// One side of a handshake.
pub(super) struct Side<C> {
    connection: C,
    pub(super) buffers: Buffers,
    early: Early,
    pub(super) done: bool,
}

impl<C: Connection> Side<C> {
    pub(super) fn new(connection: C) -> Side<C> {
        Side {
            connection,
            buffers: Buffers::default(),
            early: Early::default(),
            done: false,
        }
    }

    /// Goes on as far as what was received leads.
    pub(super) fn go_on(&mut self) -> Result<(), HandshakeError> {
        while !self.done {
            match drive::step(&mut self.connection, &mut self.buffers, &mut self.early)? {
                Next::Go => {}
                Next::Receive => break,
                Next::Done => self.done = true,
            }
        }
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        inbound: &Rc<Line>,
        outbound: &Rc<Line>,
    ) -> Result<MemoryStream, HandshakeError> {
        let (session, records) =
            drive::finish(self.connection, &mut self.buffers, self.early, None)?;
        Ok(MemoryStream {
            session,
            inbound: Rc::clone(inbound),
            outbound: Rc::clone(outbound),
            records: RefCell::new(records),
        })
    }
}
