//! The record layer: TLS 1.2 (RFC 5246 section 6.2, RFC 5288, RFC 7905) and TLS 1.3 (RFC 8446 section 5) records, sealed from the
//! caller's bytes into what is sent, and opened from what was received into the caller's buffer.
//!
//! Why not rustls' own: its unbuffered API (0.23) hands out each record that it opens in a `Vec` made for it, and each that it
//! seals is built in a buffer, then copied to the caller's. Here nothing is copied but what neither side has room for, and a
//! stream that is idle holds no buffer. rustls does the handshakes, and keeps the secrets from which later keys come.

mod fault;
mod keeper;
mod key;
mod message;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

pub use fault::RecordError;
pub(crate) use keeper::Keeper;
pub(crate) use key::Key;
use read::Reader;
pub(crate) use write::LastWords;
use write::Writer;

use rustls::AlertDescription;

use super::ktls;
use crate::stream::Stream;
use crate::uring::Socket;

/// Longest plaintext of a record (RFC 8446 section 5.1, RFC 5246 section 6.2.1).
pub(crate) const FRAGMENT: usize = 1 << 14;
/// A record's header.
pub(crate) const HEADER: usize = 5;
/// Records that are sealed at once at most: a caller's writes are encrypted this far ahead of the kernel.
const RECORDS: usize = 4;
/// More than any record adds to its plaintext as we write it: header, explicit nonce (TLS 1.2), type (TLS 1.3), tag.
const OVERHEAD: usize = 32;
/// Longest body of a record that a peer may send: TLS 1.2 allows the most.
const LONGEST: usize = FRAGMENT + 2048;

/// What records travel on. [`Stream`] is one; tests and benchmarks have others.
pub(crate) trait Wire {
    /// As [`Stream::try_read`].
    ///
    /// # Errors
    /// As there.
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Stream::try_write`].
    ///
    /// # Errors
    /// As there.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The socket that this is and nothing else, which the kernel may do TLS on.
    fn socket(&self) -> Option<&Socket> {
        None
    }
}

impl Wire for Stream {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn socket(&self) -> Option<&Socket> {
        self.plain()
    }
}

/// Both directions of a connection after its handshake.
pub(crate) struct Records {
    reader: Reader,
    writer: Writer,
    keeper: Keeper,
}

impl Records {
    /// Records under these keys. `received` is what came behind the handshake and is not decrypted yet, `opened` what rustls has
    /// decrypted of it.
    pub(crate) fn new(
        receive: Key,
        send: Key,
        keeper: Keeper,
        received: Vec<u8>,
        opened: Vec<u8>,
    ) -> Records {
        Records {
            reader: Reader::new(receive, received, opened),
            writer: Writer::new(send),
            keeper,
        }
    }

    /// Has the kernel do what it can of both directions: from now on, or once what was received is used up.
    pub(crate) fn offload(&mut self, wire: &impl Wire) {
        let Some(socket) = wire.socket() else { return };
        // A kernel that does not want to leaves everything as it is.
        if ktls::prepare(socket.as_fd()).is_ok() {
            self.writer.offload(socket);
            self.reader.offload(socket);
        }
    }

    /// Whether the kernel opens what is received, and seals what is sent, and nothing is held here.
    pub(crate) fn is_in_kernel(&self) -> bool {
        self.reader.is_in_kernel() && self.writer.is_in_kernel()
    }

    /// The peer has said that it sends nothing more.
    pub(crate) fn end(&mut self) {
        self.reader.end();
    }

    /// As [`crate::stream::Stream::try_read`].
    pub(crate) fn read(&mut self, wire: &impl Wire, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader
            .read(wire, buffer, &mut self.writer, &mut self.keeper)
    }

    /// As [`crate::stream::Stream::try_write`].
    pub(crate) fn write(&mut self, wire: &impl Wire, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(wire, bytes, &mut self.keeper)
    }

    /// Sends a fatal alert, as far as there is room for it; nothing more can be written.
    pub(crate) fn refuse(&mut self, wire: &impl Wire, alert: AlertDescription) {
        self.writer.alert(wire, true, alert);
    }

    /// Seals `close_notify` and sends it, after which nothing more can be written. What the wire did not take is returned.
    pub(crate) fn close(&mut self, wire: &impl Wire) -> io::Result<LastWords> {
        self.writer.close(wire)
    }

    /// Whether a read may find something although the last one did not fill its buffer.
    pub(crate) fn may_have_more(&self) -> bool {
        self.reader.may_have_more()
    }
}

/// Room for the longest record that a peer may send, and for [`RECORDS`] full ones.
const SCRATCH: usize = RECORDS * (FRAGMENT + OVERHEAD) + 1024;

thread_local! {
    /// What is received, before it is opened.
    static RECEIVED: Scratch = const { RefCell::new(Vec::new()) };
    /// What is sealed, before it is sent.
    static SEALED: Scratch = const { RefCell::new(Vec::new()) };
}

/// A thread's buffer; and another where TLS goes over TLS, whose one reads from the other.
type Scratch = RefCell<Vec<Box<[u8]>>>;

/// Lends this thread's buffer for what is received, for as long as `f` runs.
fn with_receive_scratch<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    RECEIVED.with(|scratch| lend(scratch, f))
}

/// Lends this thread's buffer for what is to be sent, for as long as `f` runs.
fn with_send_scratch<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    SEALED.with(|scratch| lend(scratch, f))
}

fn lend<T>(scratch: &Scratch, f: impl FnOnce(&mut [u8]) -> T) -> T {
    let spare = scratch.borrow_mut().pop();
    let mut buffer = spare.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let done = f(&mut buffer);
    scratch.borrow_mut().push(buffer);
    done
}
