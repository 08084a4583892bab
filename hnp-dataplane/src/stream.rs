//! A byte stream to a peer: a socket as it is, or TLS over one. Whoever reads and writes need not know which.
//!
//! Every call is tried first and only `WouldBlock` waits, as with [`Socket`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::tls::{Session, TlsStream};
use crate::uring::{Readiness, Socket};

/// A stream that belongs to the current worker. Closed when dropped.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Socket),
    /// In a box, for most streams are plain, and a future keeps room for the largest.
    Tls(Box<TlsStream>),
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Stream {
        let kind = Kind::Plain(socket);
        Stream { kind }
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Stream {
        let kind = Kind::Tls(Box::new(stream));
        Stream { kind }
    }
}

impl Stream {
    /// The socket underneath.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match &self.kind {
            Kind::Plain(socket) => socket,
            Kind::Tls(stream) => stream.socket(),
        }
    }

    /// The socket itself, for what is to become TLS; `None` where it is TLS already.
    #[must_use]
    pub fn into_plain(self) -> Option<Socket> {
        match self.kind {
            Kind::Plain(socket) => Some(socket),
            Kind::Tls(_) => None,
        }
    }

    /// The socket, if this is one and nothing else.
    pub(crate) fn plain(&self) -> Option<&Socket> {
        match &self.kind {
            Kind::Plain(socket) => Some(socket),
            Kind::Tls(_) => None,
        }
    }

    /// What the handshake agreed on; absent in plaintext.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Tls(stream) => Some(stream.session()),
        }
    }

    /// The descriptor, where the bytes that the kernel moves on it are the stream's own: in plaintext, and when the kernel does TLS.
    #[must_use]
    pub fn spliceable(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Kind::Plain(socket) => Some(socket.as_fd()),
            Kind::Tls(stream) => stream.spliceable(),
        }
    }

    /// Reads what is there; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; the kernel's; `InvalidData` where the peer breaks TLS; `UnexpectedEof` where the connection
    /// ends and TLS did not (RFC 8446 section 6.1).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Plain(socket) => socket.try_read(buffer),
            Kind::Tls(stream) => stream.try_read(buffer),
        }
    }

    /// Whether another read may find something at once although the last one came short of its buffer. Whoever gets less than
    /// a buffer from a socket may wait; with TLS only `WouldBlock`, or `false` here, says that there is nothing.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(stream) => stream.may_have_more(),
        }
    }

    /// Writes what fits. After `WouldBlock`, and after a short write, the next call begins with the bytes that are left: some may
    /// be encrypted already.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, or the kernel's.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Plain(socket) => socket.try_write(bytes),
            Kind::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Waits until there may be something to read (the end of the stream and errors included).
    pub fn readable(&self) -> Readiness<'_> {
        self.socket().readable()
    }

    /// Waits until there may be room to write (errors included).
    pub fn writable(&self) -> Readiness<'_> {
        self.socket().writable()
    }

    /// Reads at least a byte; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// As [`Stream::try_read`].
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                done => return done,
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The kernel's; how much was written before is not known then.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes the error that the kernel holds for this connection, such as the peer's reset.
    #[must_use]
    pub fn take_error(&self) -> Option<io::Error> {
        self.socket().take_error()
    }

    /// Tells the peer that nothing more will come: `close_notify` where there is TLS, then a FIN. Without it, closing a TLS stream
    /// tells the peer nothing, and looks to it like a broken connection.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Plain(socket) => socket.shutdown_write(),
            Kind::Tls(stream) => stream.shutdown_write(),
        }
    }

    /// Closes by a reset.
    pub fn reset(self) {
        self.reset_on_close();
    }

    /// From now on closing means a reset: the peer sees an error, not an end, and what was not yet sent is discarded.
    pub fn reset_on_close(&self) {
        match &self.kind {
            Kind::Plain(socket) => socket.reset_on_close(),
            Kind::Tls(stream) => stream.reset_on_close(),
        }
    }

    /// As [`Socket::broken`].
    pub async fn broken(&self) -> io::Error {
        self.socket().broken().await
    }
}
