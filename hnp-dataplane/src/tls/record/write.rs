//! Writing: the caller's bytes are sealed into the thread's buffer and sent from there. Only what the wire does not take is kept.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsFd;

use rustls::AlertDescription;

use super::key::{ALERT, DATA, HANDSHAKE, Key};
use super::message::{self, CLOSE_NOTIFY};
use super::{FRAGMENT, Keeper, OVERHEAD, RECORDS, RecordError, Wire, with_send_scratch};
use crate::tls::ktls;
use crate::uring::Socket;

/// The sending direction.
pub(super) struct Writer {
    pub(super) key: Key,
    /// Records that the wire has not taken yet, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Where the caller's bytes are in `out`.
    owed: Vec<Piece>,
    /// The peer asked for a new key (RFC 8446 section 4.6.3).
    update_due: bool,
    /// Ended by `close_notify` or an alert.
    closed: bool,
    /// The kernel seals.
    kernel: bool,
}

/// What there was no room for at the end.
#[derive(Debug)]
pub(crate) enum LastWords {
    /// Everything is on its way.
    None,
    /// Sealed already.
    Sealed(Vec<u8>),
    /// The kernel is still to be given its `close_notify`: [`LastWords::send`].
    Kernel,
}

/// A record of the caller's bytes.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where it ends among what is to be sent.
    end: usize,
    /// How many bytes it carries.
    plain: usize,
}

impl Writer {
    pub(super) fn new(key: Key) -> Writer {
        Writer {
            key,
            out: Vec::new(),
            sent: 0,
            owed: Vec::new(),
            update_due: false,
            closed: false,
            kernel: false,
        }
    }

    pub(super) fn offload(&mut self, socket: &Socket) {
        let idle = self.out.is_empty() && !self.update_due && !self.closed;
        self.kernel = idle && ktls::give_send_key(socket.as_fd(), &self.key).is_ok();
    }

    pub(super) fn is_in_kernel(&self) -> bool {
        self.kernel && !self.update_due && !self.closed
    }

    /// Sends what fits of `bytes`, and returns how many of them the wire has taken with all of their records. What is sealed
    /// already and not taken is the beginning of what the next call brings.
    pub(super) fn write(
        &mut self,
        wire: &impl Wire,
        bytes: &[u8],
        keeper: &mut Keeper,
    ) -> io::Result<usize> {
        if self.closed {
            return Err(RecordError::Closed.into());
        }
        if self.kernel {
            return self.write_to_kernel(wire, bytes, keeper);
        }
        if !self.out.is_empty() {
            let done = self.flush(wire)?;
            if done > 0 {
                return Ok(done.min(bytes.len()));
            }
            if !self.out.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        if bytes.is_empty() && !self.update_due {
            return Ok(0);
        }
        let written = with_send_scratch(|scratch| self.seal_and_send(wire, bytes, keeper, scratch));
        if matches!(&written, Err(e) if e.kind() != ErrorKind::WouldBlock) {
            // A record that was sealed and never sent would be missed by the peer.
            self.closed = true;
        }
        written
    }

    fn seal_and_send(
        &mut self,
        wire: &impl Wire,
        bytes: &[u8],
        keeper: &mut Keeper,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let mut pieces = [Piece { end: 0, plain: 0 }; RECORDS];
        let mut used = 0;
        let mut count = 0;
        let mut rest = bytes;
        if self.update_due {
            self.update_due = false;
            used += self.update(keeper, scratch)?;
        }
        while !rest.is_empty() && count < RECORDS {
            if self.key.is_used_up() {
                used += self.update(keeper, &mut scratch[used..])?;
            }
            let (chunk, later) = rest.split_at(rest.len().min(FRAGMENT));
            used += self.key.seal(DATA, chunk, &mut scratch[used..])?;
            pieces[count] = Piece {
                end: used,
                plain: chunk.len(),
            };
            count += 1;
            rest = later;
        }
        let sent = match wire.send(&scratch[..used]) {
            Ok(sent) => sent,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(self.broken(e)),
        };
        let pieces = &pieces[..count];
        if sent == used {
            return Ok(pieces.iter().map(|piece| piece.plain).sum());
        }
        let (done, owed) = pieces.split_at(pieces.partition_point(|piece| piece.end <= sent));
        self.out = scratch[sent..used].to_vec();
        self.owed = owed.to_vec();
        for piece in &mut self.owed {
            piece.end -= sent;
        }
        match done.iter().map(|piece| piece.plain).sum() {
            0 => Err(ErrorKind::WouldBlock.into()),
            bytes => Ok(bytes),
        }
    }

    /// Hands over what the kernel is to seal.
    fn write_to_kernel(
        &mut self,
        wire: &impl Wire,
        bytes: &[u8],
        keeper: &mut Keeper,
    ) -> io::Result<usize> {
        if let Some(socket) = wire.socket().filter(|_| self.update_due) {
            ktls::send_record(socket, HANDSHAKE, &message::KEY_UPDATE)?;
            self.update_due = false;
            self.key = keeper.next_send_key()?;
            if ktls::give_send_key(socket.as_fd(), &self.key).is_err() {
                self.closed = true;
                return Err(RecordError::KeyUpdate.into());
            }
        }
        match wire.send(bytes) {
            Err(e) if e.kind() != ErrorKind::WouldBlock => Err(self.broken(e)),
            other => other,
        }
    }

    /// Bytes of memory that wait for the wire.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.out.capacity() + self.owed.capacity()
    }

    /// Answers a peer that asked for a new key: before the next record is sealed.
    pub(super) fn request_update(&mut self) {
        self.update_due = true;
    }

    /// Sends an alert, after which the stream is closed if it is a fatal one. What the wire does not take now goes with the next
    /// write, or never.
    pub(super) fn alert(&mut self, wire: &impl Wire, fatal: bool, alert: AlertDescription) {
        if self.closed {
            return;
        }
        let level = if fatal { 2 } else { 1 };
        if let Some(socket) = wire.socket().filter(|_| self.kernel) {
            // A connection that is gone, or full, cannot be told why.
            let _ = ktls::send_record(socket, ALERT, &[level, alert.into()]);
        } else if self.queue(ALERT, &[level, alert.into()]).is_ok() {
            // A connection that is gone cannot be told why.
            let _ = self.push(wire);
        }
        self.closed |= fatal;
    }

    /// Seals and sends `close_notify`; returns what the wire did not take of it and of what was left before.
    pub(super) fn close(&mut self, wire: &impl Wire) -> io::Result<LastWords> {
        let first = !mem::replace(&mut self.closed, true);
        if self.kernel {
            return match wire.socket().filter(|_| first) {
                Some(socket) => LastWords::Kernel.send(socket),
                None => Ok(LastWords::None),
            };
        }
        if first {
            self.queue(ALERT, &CLOSE_NOTIFY)?;
        }
        self.push(wire)?;
        self.owed = Vec::new();
        let mut rest = mem::take(&mut self.out);
        rest.drain(..mem::take(&mut self.sent));
        Ok(if rest.is_empty() {
            LastWords::None
        } else {
            LastWords::Sealed(rest)
        })
    }

    /// Seals a record behind what waits to be sent.
    fn queue(&mut self, kind: u8, plain: &[u8]) -> Result<(), RecordError> {
        let mut record = [0; 64 + OVERHEAD];
        let len = self.key.seal(kind, plain, &mut record)?;
        self.out.extend_from_slice(&record[..len]);
        Ok(())
    }

    /// Seals a `KeyUpdate` into `out` and changes to the next key.
    fn update(&mut self, keeper: &mut Keeper, out: &mut [u8]) -> Result<usize, RecordError> {
        let next = keeper.next_send_key()?;
        let len = self.key.seal(HANDSHAKE, &message::KEY_UPDATE, out)?;
        self.key = next;
        Ok(len)
    }

    /// Sends what waits; returns how many of the caller's bytes are on their way now.
    fn flush(&mut self, wire: &impl Wire) -> io::Result<usize> {
        self.push(wire)?;
        let done = self.owed.partition_point(|piece| piece.end <= self.sent);
        let bytes = self.owed.drain(..done).map(|piece| piece.plain).sum();
        if self.sent == self.out.len() {
            self.out = Vec::new();
            self.owed = Vec::new();
            self.sent = 0;
        }
        Ok(bytes)
    }

    /// Sends what waits, as far as the wire takes it.
    fn push(&mut self, wire: &impl Wire) -> io::Result<()> {
        while self.sent < self.out.len() {
            match wire.send(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(self.broken(e)),
            }
        }
        Ok(())
    }

    /// The wire broke: nothing of what waits will arrive.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.closed = true;
        self.out = Vec::new();
        self.owed = Vec::new();
        self.sent = 0;
        error
    }
}

impl LastWords {
    /// Tries again what the kernel had no room for; returns what is left.
    pub(crate) fn send(self, socket: &Socket) -> io::Result<LastWords> {
        if !matches!(self, LastWords::Kernel) {
            return Ok(self);
        }
        match ktls::send_record(socket, ALERT, &CLOSE_NOTIFY) {
            Ok(()) => Ok(LastWords::None),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(LastWords::Kernel),
            Err(e) => Err(e),
        }
    }
}
