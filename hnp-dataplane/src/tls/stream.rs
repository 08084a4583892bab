//! A TLS stream after its handshake.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ProtocolVersion, SupportedCipherSuite};

use super::handshake::{PARTING, PARTING_BYTES};
use super::ktls;
use super::record::{LastWords, Records};
use crate::signal::Signal;
use crate::stream::Stream;
use crate::uring::{self, Socket};

/// How long a `close_notify` for which there was no room waits for it.
const FAREWELL: Duration = Duration::from_secs(30);

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
/// Idle, it holds its two keys, what rustls needs to renew them, and no buffer.
pub struct TlsStream {
    lower: Rc<Stream>,
    session: Session,
    records: RefCell<Records>,
    /// Ends the wait for room for the last words.
    cut: RefCell<Option<Rc<Signal>>>,
}

impl TlsStream {
    pub(super) fn new(lower: Stream, session: Session, mut records: Records) -> TlsStream {
        if ktls::enabled() {
            records.offload(&lower);
        }
        TlsStream {
            lower: Rc::new(lower),
            session,
            records: RefCell::new(records),
            cut: RefCell::default(),
        }
    }

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

    /// Whether the kernel does TLS here, in both directions, and nothing is held on this side of it.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        self.records.borrow().is_in_kernel()
    }

    /// The descriptor, when the kernel does TLS on it in both directions and nothing is held here.
    #[must_use]
    pub fn spliceable(&self) -> Option<BorrowedFd<'_>> {
        self.lower.spliceable().filter(|_| self.is_in_kernel())
    }

    /// Whether a read may find something although the last one did not fill its buffer. A socket that gave less than it was
    /// asked for has no more to give; a TLS stream may, since a read ends where a record does not fit any more.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.records.borrow().may_have_more() || self.lower.may_have_more()
    }

    /// As [`crate::stream::Stream::try_read`].
    ///
    /// # Errors
    /// As there; what TLS has to say is a [`super::RecordError`] within.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.records.borrow_mut().read(&*self.lower, buffer)
    }

    /// As [`crate::stream::Stream::try_write`]. What is returned has been handed to the kernel, in whole records; up to 64 KiB of
    /// what comes next may be encrypted already, so that the next call must bring the same bytes, after a short write as after
    /// `WouldBlock`.
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.records.borrow_mut().write(&*self.lower, bytes)
    }

    /// `close_notify`, then a FIN. Where there is no room for the former, both follow as soon as there is, even after the stream
    /// is dropped.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let words = self.records.borrow_mut().close(&*self.lower)?;
        if matches!(words, LastWords::None) {
            return self.lower.shutdown_write();
        }
        let lower = Rc::clone(&self.lower);
        let cut = Rc::new(Signal::default());
        *self.cut.borrow_mut() = Some(Rc::clone(&cut));
        uring::spawn(async move {
            let told = pin!(uring::timeout(FAREWELL, say(words, &lower)));
            let cut = pin!(cut.wait());
            // Whether or not the peer made room: this is the end.
            either(told, cut).await;
            let _ = lower.shutdown_write();
        });
        Ok(())
    }

    /// Ends the stream by a fatal alert, and reads what the peer still sends, for up to a second: a socket closed with unread bytes
    /// answers with a reset, which can destroy the alert on its way.
    pub async fn refuse(self, alert: AlertDescription) {
        self.records.borrow_mut().refuse(&*self.lower, alert);
        if self.lower.shutdown_write().is_err() {
            return;
        }
        let drained = async {
            let mut discarded = 0;
            let mut buffer = vec![0; 4096];
            while discarded < PARTING_BYTES {
                match self.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => discarded += n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        if self.lower.readable().await.is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        };
        // When the time is up there is nothing left to do but to close.
        let _ = uring::timeout(PARTING, drained).await;
    }

    /// From now on closing means a reset.
    pub(crate) fn reset_on_close(&self) {
        self.lower.reset_on_close();
        if let Some(cut) = self.cut.borrow_mut().take() {
            cut.fire();
        }
    }
}

/// Sends the last words once there is room.
async fn say(mut words: LastWords, lower: &Stream) -> io::Result<()> {
    loop {
        match words {
            LastWords::None => return Ok(()),
            LastWords::Sealed(bytes) => return lower.write_all(&bytes).await,
            LastWords::Kernel => {
                lower.writable().await?;
                words = words.send(lower.socket())?;
            }
        }
    }
}

/// Ends when either does.
async fn either(mut one: Pin<&mut impl Future>, mut other: Pin<&mut impl Future>) {
    poll_fn(|cx| {
        let ended = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        if ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("lower", &self.lower)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
