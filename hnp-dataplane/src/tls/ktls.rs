//! TLS in the kernel (kTLS): after the handshake the kernel gets the keys, and makes and opens the records itself. What passes
//! through such a socket can be spliced.
//!
//! Used where the kernel has it (module `tls`), and the stream lies on a socket of its own; otherwise nothing changes. The two
//! directions are independent: a direction whose keys the kernel refuses stays here.
//!
//! Linux before 6.14 cannot renew a key that it holds (`setsockopt` says `EBUSY`). A peer that asks for it there gets an
//! `internal_error`, and reading and writing say [`super::RecordError::KeyUpdate`]. Peers hardly ever ask: OpenSSL, Go and
//! BoringSSL never do by themselves. Nor does the kernel count records towards a cipher's limit; a stream that
//! has one (AES-GCM: 2^24 records, 256 GiB) stays under its key, as OpenSSL's do.

mod sys;

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TlsGetRecordType, recvmsg, setsockopt};
use socket2::{Domain, Type};

use super::record::Key;

pub(super) use sys::send_record;

static WANTED: AtomicBool = AtomicBool::new(true);

/// Whether streams whose handshake ends from now on may use the kernel: by default they do where it can.
pub fn set_enabled(wanted: bool) {
    WANTED.store(wanted, Ordering::Relaxed);
}

/// Whether streams use the kernel: it is wanted, and the kernel can.
#[must_use]
pub fn enabled() -> bool {
    WANTED.load(Ordering::Relaxed) && supported()
}

/// Whether the kernel has TLS. Asked once; a module that is loaded later is not noticed.
#[must_use]
pub fn supported() -> bool {
    static SUPPORTED: LazyLock<bool> = LazyLock::new(probe);
    *SUPPORTED
}

/// An unconnected socket is refused either way: for being unconnected where there is TLS, for naming what does not exist where
/// there is none.
fn probe() -> bool {
    let Ok(socket) = socket2::Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None) else {
        return false;
    };
    setsockopt(&socket, TcpUlp::default(), b"tls") == Err(Errno::ENOTCONN)
}

/// Makes a connected socket one that can take keys.
pub(super) fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(setsockopt(&socket, TcpUlp::default(), b"tls")?)
}

/// Hands over the key for what is sent; again after a renewal.
pub(super) fn give_send_key(socket: BorrowedFd<'_>, key: &Key) -> io::Result<()> {
    let info = key.for_kernel(true).ok_or(io::ErrorKind::Unsupported)?;
    Ok(setsockopt(&socket, TcpTlsTx, &info)?)
}

/// Hands over the key for what is received; again after a renewal.
pub(super) fn give_receive_key(socket: BorrowedFd<'_>, key: &Key) -> io::Result<()> {
    let info = key.for_kernel(false).ok_or(io::ErrorKind::Unsupported)?;
    Ok(setsockopt(&socket, TcpTlsRx, &info)?)
}

/// Receives what the kernel has opened: the content type and the number of bytes, all of one type. `None`: the end.
pub(super) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<(u8, usize)>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut control = nix::cmsg_space!(u8);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut kind = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::TlsGetRecordType(found) = control {
            kind = Some(match found {
                TlsGetRecordType::ChangeCipherSpec => 20,
                TlsGetRecordType::Alert => 21,
                TlsGetRecordType::Handshake => 22,
                TlsGetRecordType::ApplicationData => 23,
                TlsGetRecordType::Unknown(other) => other,
                // nix may come to know more of them, and none belongs here.
                _ => 0,
            });
        }
    }
    Ok(match (kind, message.bytes) {
        (Some(kind), bytes) => Some((kind, bytes)),
        (None, 0) => None,
        (None, bytes) => Some((23, bytes)),
    })
}
