//! Reading: what is received lies in the thread's buffer only until it is opened into the caller's.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use rustls::AlertDescription;

use super::fault::broke;
use super::key::{ALERT, DATA, HANDSHAKE, Header, Key};
use super::message::{self, Alert, Message};
use super::write::Writer;
use super::{FRAGMENT, Keeper, OVERHEAD, RECORDS, RecordError, Wire, with_receive_scratch};
use crate::tls::ktls;
use crate::uring::Socket;

/// Records in a row that bring no data.
const QUIET: u8 = 32;

/// The receiving direction.
pub(super) struct Reader {
    key: Key,
    /// Received and not opened yet.
    received: Rest,
    /// Opened and not read yet.
    opened: Rest,
    /// The beginning of a handshake message.
    message: Vec<u8>,
    end: Option<End>,
    /// Records in a row that brought no data.
    quiet: u8,
    /// The last receive found less than it asked for.
    drained: bool,
    opens: Opens,
}

/// Who opens records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opens {
    Here,
    /// The kernel, from the next record on that has not been received in part.
    KernelNext,
    Kernel,
}

/// A buffer too small for an alert or for the messages that come behind a handshake: what the kernel opens goes through another.
const TINY: usize = 64;

/// Bytes that wait for their turn; without a buffer when there are none.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    from: usize,
}

/// How the stream ended.
enum End {
    Closed,
    Broken(RecordError),
}

impl Reader {
    pub(super) fn new(key: Key, received: Vec<u8>, opened: Vec<u8>) -> Reader {
        Reader {
            key,
            received: Rest::from(received),
            opened: Rest::from(opened),
            message: Vec::new(),
            end: None,
            quiet: 0,
            drained: false,
            opens: Opens::Here,
        }
    }

    pub(super) fn offload(&mut self, socket: &Socket) {
        self.opens = Opens::KernelNext;
        self.hand_over(socket);
    }

    pub(super) fn is_in_kernel(&self) -> bool {
        self.opens == Opens::Kernel && self.opened.is_empty() && self.end.is_none()
    }

    /// Gives the key to the kernel as soon as it can begin with a whole record.
    fn hand_over(&mut self, socket: &Socket) {
        if self.opens == Opens::KernelNext && self.received.is_empty() && self.end.is_none() {
            self.opens = match ktls::give_receive_key(socket.as_fd(), &self.key) {
                Ok(()) => Opens::Kernel,
                Err(_) => Opens::Here,
            };
        }
    }

    pub(super) fn end(&mut self) {
        self.end = Some(End::Closed);
    }

    pub(super) fn may_have_more(&self) -> bool {
        !self.opened.is_empty()
            || self.end.is_some()
            || !self.drained
            || self.opens == Opens::Kernel
            || !matches!(self.key.parse(self.received.bytes()), Ok(None))
    }

    /// Bytes of memory that wait for the caller or the peer.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.received.bytes.capacity() + self.opened.bytes.capacity() + self.message.capacity()
    }

    pub(super) fn read(
        &mut self,
        wire: &impl Wire,
        buffer: &mut [u8],
        writer: &mut Writer,
        keeper: &mut Keeper,
    ) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if !self.opened.is_empty() {
            return Ok(self.opened.take(buffer));
        }
        loop {
            match &self.end {
                None => {}
                Some(End::Closed) => return Ok(0),
                Some(End::Broken(error)) => return Err(error.clone().into()),
            }
            let mut turn = Turn {
                reader: self,
                wire,
                writer,
                keeper,
                buffer: &mut *buffer,
                got: 0,
            };
            let socket = wire.socket();
            if let Some(socket) = socket {
                turn.reader.hand_over(socket);
            }
            if let Some(socket) = socket.filter(|_| turn.reader.opens == Opens::Kernel) {
                turn.take_kernel(socket)?;
            } else if turn.reader.received.is_empty() || !turn.take_received() {
                turn.take_wire()?;
            }
            let got = turn.got;
            if got > 0 {
                return Ok(got);
            }
        }
    }
}

/// One attempt to fill the caller's buffer.
struct Turn<'a, W> {
    reader: &'a mut Reader,
    wire: &'a W,
    writer: &'a mut Writer,
    keeper: &'a mut Keeper,
    buffer: &'a mut [u8],
    got: usize,
}

impl<W: Wire> Turn<'_, W> {
    /// Opens what was received before; `false` where that is no complete record.
    fn take_received(&mut self) -> bool {
        let mut received = mem::take(&mut self.reader.received);
        let used = self.open_all(received.bytes_mut());
        received.advance(used);
        self.reader.received = received;
        used > 0 || self.reader.end.is_some()
    }

    /// Receives once, behind the part of a record that is there already, and opens what has become complete.
    fn take_wire(&mut self) -> io::Result<()> {
        with_receive_scratch(|scratch| {
            let held = self.reader.received.bytes().len();
            scratch[..held].copy_from_slice(self.reader.received.bytes());
            // As much as the caller can take, in whole records if the peer's are full: then nothing is left over.
            let records = (self.buffer.len() / FRAGMENT).clamp(1, RECORDS);
            let full = records * (FRAGMENT + self.reader.key.overhead());
            let upto = match self.reader.opens {
                // Up to the end of this record: the next is the kernel's.
                Opens::KernelNext => self.reader.key.end_of_record(&scratch[..held]),
                _ => full.max(held + FRAGMENT / 2 + OVERHEAD),
            };
            let upto = upto.min(scratch.len());
            let received = self.wire.recv(&mut scratch[held..upto]);
            self.reader.drained = !matches!(received, Ok(n) if n == upto - held);
            let filled = match received {
                Ok(0) => {
                    self.reader.end = Some(End::Broken(RecordError::Truncated));
                    return Ok(());
                }
                Ok(n) => held + n,
                Err(e) => return Err(e),
            };
            let used = self.open_all(&mut scratch[..filled]);
            self.reader.received.replace(&scratch[used..filled]);
            Ok(())
        })
    }

    /// Receives what the kernel has opened.
    fn take_kernel(&mut self, socket: &Socket) -> io::Result<()> {
        let mut small = [0; TINY];
        let aside = self.buffer.len() < TINY;
        let buffer = if aside {
            &mut small[..]
        } else {
            &mut *self.buffer
        };
        let taken = match ktls::receive(socket, buffer) {
            Ok(None) => Err(RecordError::Truncated),
            Ok(Some((DATA, len))) if aside => {
                let (now, later) = small[..len].split_at(len.min(self.buffer.len()));
                self.buffer[..now.len()].copy_from_slice(now);
                self.reader.opened = Rest::from(later.to_vec());
                self.data(now.len())
            }
            Ok(Some((DATA, len))) => self.data(len),
            Ok(Some((kind, len))) => {
                let plain = buffer[..len].to_vec();
                self.control(kind, &plain)
            }
            Err(error) => Err(kernel_fault(&error).ok_or(error)?),
        };
        if let Err(error) = taken {
            // The kernel keeps its error for the next call on this socket, which is to send the alert.
            let _ = socket.take_error();
            self.fail(error);
        }
        Ok(())
    }

    /// The stream ends here, and the peer is told if it is to blame.
    fn fail(&mut self, error: RecordError) {
        match error {
            RecordError::Peer { alert, .. } => self.writer.alert(self.wire, true, alert),
            RecordError::KeyUpdate => {
                self.writer
                    .alert(self.wire, true, AlertDescription::InternalError);
            }
            _ => {}
        }
        self.reader.end = Some(End::Broken(error));
    }

    /// Opens the complete records of `source` until the buffer is full or the stream ends; returns how far it came.
    fn open_all(&mut self, source: &mut [u8]) -> usize {
        let mut used = 0;
        while self.reader.end.is_none() && self.reader.opened.is_empty() {
            let record = &mut source[used..];
            match self.open_next(record) {
                Ok(Some(len)) => used += len,
                Ok(None) => break,
                Err(error) => self.fail(error),
            }
        }
        used
    }

    /// Opens the first record; `None`: it is not complete, or what it brings would not fit behind what the caller gets already.
    fn open_next(&mut self, record: &mut [u8]) -> Result<Option<usize>, RecordError> {
        let Some(header) = self.reader.key.parse(record)? else {
            return Ok(None);
        };
        let text = self.reader.key.text(header)?;
        let room = self.buffer.len() - self.got;
        if text.len() <= room {
            let out = &mut self.buffer[self.got..][..text.len()];
            let (kind, len) = self.reader.key.open_to(header, record, out)?;
            if kind == DATA {
                self.data(len)?;
            } else {
                let plain = out[..len].to_vec();
                self.control(kind, &plain)?;
            }
            return Ok(Some(header.len));
        }
        // All but the type that TLS 1.3 adds may still fit.
        if self.got > 0 && text.len() - usize::from(self.reader.key.is_tls13()) > room {
            return Ok(None);
        }
        self.open_aside(header, record)?;
        Ok(Some(header.len))
    }

    /// Opens a record where it is, gives the caller what fits and keeps the rest.
    fn open_aside(&mut self, header: Header, record: &mut [u8]) -> Result<(), RecordError> {
        let text = self.reader.key.text(header)?;
        let (kind, len) = self.reader.key.open_in_place(header, record)?;
        let plain = &record[text.start..text.start + len];
        if kind != DATA {
            return self.control(kind, plain);
        }
        let room = &mut self.buffer[self.got..];
        let (now, later) = plain.split_at(len.min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.reader.opened = Rest::from(later.to_vec());
        self.data(now.len())
    }

    /// `len` bytes more are in the caller's buffer.
    fn data(&mut self, len: usize) -> Result<(), RecordError> {
        if !self.reader.message.is_empty() {
            return Err(interleaved());
        }
        if len == 0 {
            return self.quiet();
        }
        self.reader.quiet = 0;
        self.got += len;
        Ok(())
    }

    /// A record that brings no data: some are fine.
    fn quiet(&mut self) -> Result<(), RecordError> {
        self.reader.quiet += 1;
        if self.reader.quiet > QUIET {
            let what = "too many records without data";
            return Err(broke(AlertDescription::UnexpectedMessage, what));
        }
        Ok(())
    }

    fn control(&mut self, kind: u8, plain: &[u8]) -> Result<(), RecordError> {
        self.quiet()?;
        match kind {
            ALERT if self.reader.message.is_empty() => self.alert(plain),
            ALERT => Err(interleaved()),
            HANDSHAKE => self.handshake(plain),
            _ => {
                let what = "a record of a type that does not belong here";
                Err(broke(AlertDescription::UnexpectedMessage, what))
            }
        }
    }

    fn alert(&mut self, plain: &[u8]) -> Result<(), RecordError> {
        if message::alert(plain, self.reader.key.is_tls13())? == Alert::CloseNotify {
            self.reader.end = Some(End::Closed);
        }
        Ok(())
    }

    fn handshake(&mut self, plain: &[u8]) -> Result<(), RecordError> {
        if plain.is_empty() {
            let what = "an empty piece of a handshake message";
            return Err(broke(AlertDescription::UnexpectedMessage, what));
        }
        let tls13 = self.reader.key.is_tls13();
        let client = self.keeper.is_client();
        let mut bytes = mem::take(&mut self.reader.message);
        bytes.extend_from_slice(plain);
        while let Some(message) = message::next(&mut bytes, tls13, client)? {
            match message {
                Message::Ticket(payload) => self.keeper.store_ticket(&payload)?,
                Message::KeyUpdate { requested } => {
                    self.reader.key = self.keeper.next_receive_key()?;
                    if let Some(socket) = self.wire.socket()
                        && self.reader.opens == Opens::Kernel
                        && ktls::give_receive_key(socket.as_fd(), &self.reader.key).is_err()
                    {
                        return Err(RecordError::KeyUpdate);
                    }
                    if requested {
                        self.writer.request_update();
                    }
                }
                Message::Renegotiation => {
                    let alert = AlertDescription::NoRenegotiation;
                    self.writer.alert(self.wire, false, alert);
                }
            }
        }
        if !bytes.is_empty() {
            self.reader.message = bytes;
        }
        Ok(())
    }
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..]
    }

    /// Moves what fits into `buffer`.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let n = self.bytes().len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.bytes()[..n]);
        self.advance(n);
        n
    }

    fn advance(&mut self, n: usize) {
        self.from += n;
        if self.from == self.bytes.len() {
            *self = Rest::default();
        }
    }

    fn replace(&mut self, bytes: &[u8]) {
        self.from = 0;
        if bytes.is_empty() {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl From<Vec<u8>> for Rest {
    fn from(bytes: Vec<u8>) -> Rest {
        Rest { bytes, from: 0 }
    }
}

fn interleaved() -> RecordError {
    let what = "another record in the midst of a handshake message";
    broke(AlertDescription::UnexpectedMessage, what)
}

/// What the kernel says of records that are none.
fn kernel_fault(error: &io::Error) -> Option<RecordError> {
    let (alert, what) = match error.raw_os_error()? {
        libc::EBADMSG => (
            AlertDescription::BadRecordMac,
            "a record that does not decrypt",
        ),
        libc::EMSGSIZE => (AlertDescription::RecordOverflow, "a record is too long"),
        libc::EINVAL => (AlertDescription::UnexpectedMessage, "what is no record"),
        _ => return None,
    };
    Some(broke(alert, what))
}
