//! The buffers of a handshake: the thread's, lent.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::mem;

use crate::stream::Stream;

/// Room that a handshake begins with: a flight with a chain of certificates.
const ROOM: usize = 8 << 10;
/// The most that a handshake may leave unread: rustls' longest message, in pieces.
const LIMIT: usize = 256 << 10;
/// Buffers kept for the next handshakes, and the largest that is kept.
const SPARE: usize = 16;
const KEPT: usize = 32 << 10;

thread_local! {
    static BUFFERS: RefCell<Vec<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// What was received and what is to be sent.
#[derive(Default)]
pub(in crate::tls) struct Buffers {
    pub(in crate::tls) incoming: Incoming,
    pub(in crate::tls) outgoing: Vec<u8>,
}

/// What was received and not used up yet.
#[derive(Default)]
pub(in crate::tls) struct Incoming {
    /// Its length is its room.
    bytes: Vec<u8>,
    filled: usize,
    /// What rustls has seen of it: whole records.
    shown: usize,
    /// The last read found less than it asked for.
    drained: bool,
}

impl Buffers {
    /// Takes buffers of this thread, or makes some.
    pub(in crate::tls) fn lend() -> Buffers {
        let (bytes, outgoing) = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
        Buffers {
            incoming: Incoming {
                bytes,
                ..Incoming::default()
            },
            outgoing,
        }
    }

    /// Sends what is to be sent, all of it.
    pub(in crate::tls) async fn flush(&mut self, lower: &Stream) -> io::Result<()> {
        if !self.outgoing.is_empty() {
            lower.write_all(&self.outgoing).await?;
            self.outgoing.clear();
        }
        Ok(())
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let mut outgoing = mem::take(&mut self.outgoing);
        let bytes = mem::take(&mut self.incoming.bytes);
        outgoing.clear();
        if bytes.capacity().max(outgoing.capacity()) <= KEPT {
            BUFFERS.with_borrow_mut(|spare| {
                if spare.len() < SPARE {
                    spare.push((bytes, outgoing));
                }
            });
        }
    }
}

impl Incoming {
    pub(in crate::tls) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// What rustls may see.
    pub(in crate::tls) fn shown_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.shown]
    }

    /// Whether rustls has used up all that it saw.
    pub(in crate::tls) fn is_used_up(&self) -> bool {
        self.shown == 0
    }

    /// Shows rustls one record more; `false` where no other is complete.
    pub(in crate::tls) fn show_record(&mut self) -> bool {
        let next = match self.bytes[self.shown..self.filled] {
            [] => return false,
            [20..=24, 3, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([high, low])),
            [20..=24] | [20..=24, 3] | [20..=24, 3, _] | [20..=24, 3, _, _] => return false,
            // This is no record, and rustls will say so.
            [..] => self.filled - self.shown,
        };
        let complete = self.shown + next <= self.filled;
        if complete {
            self.shown += next;
        }
        complete
    }

    pub(in crate::tls) fn extend(&mut self, bytes: &[u8]) {
        let filled = self.filled + bytes.len();
        if self.bytes.len() < filled {
            self.bytes.resize(filled.max(ROOM), 0);
        }
        self.bytes[self.filled..filled].copy_from_slice(bytes);
        self.filled = filled;
    }

    /// Throws the first `n` bytes away.
    pub(in crate::tls) fn discard(&mut self, n: usize) {
        self.bytes.copy_within(n..self.filled, 0);
        self.filled -= n;
        self.shown -= n;
    }

    /// Receives at least a byte; `Ok(0)` is the end of the stream.
    pub(in crate::tls) async fn receive(&mut self, lower: &Stream) -> io::Result<usize> {
        if self.bytes.len() - self.filled < ROOM / 4 {
            if self.bytes.len() >= LIMIT {
                let what = "the peer's handshake messages are too long";
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            self.bytes.resize((self.bytes.len() * 2).max(ROOM), 0);
        }
        if self.drained {
            lower.readable().await?;
        }
        let got = lower.read(&mut self.bytes[self.filled..]).await?;
        self.filled += got;
        self.drained = self.filled < self.bytes.len() && !lower.may_have_more();
        Ok(got)
    }
}
