//! A TLS stream after its handshake.

use std::io;
use std::os::fd::BorrowedFd;

use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use crate::stream::Stream;
use crate::uring::Socket;

/// What a handshake agreed on.
#[derive(Debug, Clone)]
pub struct Session {
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub suite: SupportedCipherSuite,
    /// The application protocol, if one was negotiated (RFC 7301).
    pub alpn: Option<Box<[u8]>>,
    /// The name that the client asked for (RFC 6066 section 3), in lower case.
    pub server_name: Option<Box<str>>,
    /// Whether it continues an earlier session: no certificate was shown then, the peer's is the earlier session's.
    pub resumed: bool,
    /// What the peer showed, its own certificate first; empty: none.
    pub peer: Vec<CertificateDer<'static>>,
}

/// TLS over a stream: as a rule a plain one; TLS again where the way to a manager goes through an `https://` parent proxy.
#[derive(Debug)]
pub struct TlsStream {
    lower: Stream,
    session: Session,
}

impl TlsStream {
    /// The socket at the bottom.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.lower.socket()
    }

    /// What the handshake agreed on.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The descriptor, when the kernel does TLS on it in both directions and nothing is held here.
    #[must_use]
    pub fn spliceable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// As [`crate::stream::Stream::try_read`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// As [`crate::stream::Stream::try_write`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `close_notify`, then a FIN.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.lower.shutdown_write()
    }
}
