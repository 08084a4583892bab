//! A buffer that is filled at one end and used up at the other.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use crate::stream::Stream;

/// Bytes of room at first, those before the content included.
const SMALL: usize = 8 << 10;
/// Bytes of room for bulk. A head that is larger still gets the room it needs, the parser's limit being what bounds it.
const LARGE: usize = 64 << 10;
/// Bytes that are left free before the content, so that a head which grows on its way need not move what follows it.
const BEFORE: usize = 512;
/// Empty buffers of the first size that a thread keeps for whoever reads next.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    room: Vec<u8>,
    start: usize,
    end: usize,
    /// The last look found that nothing more is there: what comes next announces itself.
    dry: bool,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer {
            start: 0,
            end: bytes.len(),
            room: bytes,
            dry: false,
        }
    }
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Buffer::default()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
    }

    /// Puts `bytes` before what is there.
    pub(crate) fn put_before(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            // Room for as much again, so that this is rare.
            let more = bytes.len() + BEFORE - self.start;
            self.room.splice(0..0, std::iter::repeat_n(0, more));
            self.start += more;
            self.end += more;
        }
        let at = self.start - bytes.len();
        self.room[at..self.start].copy_from_slice(bytes);
        self.start = at;
    }

    /// Gives the memory back while nothing is in it.
    pub(crate) fn release(&mut self) {
        if !self.is_empty() {
            return;
        }
        let room = std::mem::take(&mut self.room);
        (self.start, self.end) = (0, 0);
        if room.len() == SMALL {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(room);
                }
            });
        }
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.room.truncate(self.end);
        self.room.drain(..self.start);
        self.room
    }

    /// Reads once. A read that fills all there is makes the next one larger, so that small exchanges stay small.
    pub(crate) fn try_fill(&mut self, stream: &Stream) -> io::Result<usize> {
        self.make_room();
        let room = &mut self.room[self.end..];
        let asked = room.len();
        let read = stream.try_read(room);
        self.dry = match &read {
            // Less than asked for is all there was.
            Ok(n) => *n < asked && !stream.may_have_more(),
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        };
        let n = read?;
        self.end += n;
        if self.end == self.room.len() && self.end < LARGE {
            self.room.resize(LARGE, 0);
        }
        Ok(n)
    }

    fn make_room(&mut self) {
        if self.is_empty() {
            if self.room.is_empty() {
                self.room = SPARES
                    .with_borrow_mut(Vec::pop)
                    .unwrap_or_else(|| vec![0; SMALL]);
            }
            let before = if self.room.len() > 2 * BEFORE {
                BEFORE
            } else {
                0
            };
            (self.start, self.end) = (before, before);
        } else if self.end == self.room.len() && self.start > BEFORE {
            self.room.copy_within(self.start..self.end, BEFORE);
            self.end -= self.start - BEFORE;
            self.start = BEFORE;
        }
        if self.end == self.room.len() {
            let grown = (self.room.len() * 2).max(SMALL);
            self.room.resize(grown, 0);
        }
    }

    /// Ends once there may be something to read: at once unless the last look found nothing more.
    pub(crate) fn poll_more(
        &mut self,
        readable: &mut Pin<&mut impl Future<Output = io::Result<()>>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dry {
            std::task::ready!(readable.as_mut().poll(cx))?;
            self.dry = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads at least a byte; 0 is the end of the stream. Dropping the future loses nothing.
    pub(crate) async fn fill(&mut self, stream: &Stream) -> io::Result<usize> {
        loop {
            if self.dry {
                stream.readable().await?;
                self.dry = false;
            }
            match self.try_fill(stream) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Whether the stream lives and has nothing to say. Where nothing has announced itself since the last look this asks the kernel only
    /// if it is to be `sure`.
    pub(crate) fn is_silent(&mut self, stream: &Stream, sure: bool) -> bool {
        if !self.is_empty() {
            return false;
        }
        if self.dry && !sure {
            let readable = pin!(stream.readable());
            let mut cx = Context::from_waker(Waker::noop());
            if readable.poll(&mut cx).is_pending() {
                return true;
            }
        }
        let waiting = stream.try_read(&mut [0]);
        self.dry = waiting.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.dry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_stays() {
        let mut buffer = Buffer::from(b"hello, world".to_vec());
        buffer.consume(7);
        assert_eq!(buffer.bytes(), b"world");
        buffer.release();
        assert_eq!(buffer.into_bytes(), b"world");
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = Buffer::from(vec![1; 100]);
        buffer.consume(100);
        buffer.release();
        assert_eq!(buffer.room.capacity(), 0);
    }

    #[test]
    fn what_is_put_before_comes_first_whether_or_not_there_is_room() {
        let mut buffer = Buffer::from(b"old head, body".to_vec());
        buffer.consume(10);
        buffer.put_before(b"new ");
        assert_eq!(buffer.bytes(), b"new body");
        buffer.put_before(&[b'x'; 1000]);
        assert_eq!(buffer.bytes().len(), 1008);
        assert!(buffer.bytes().ends_with(b"xnew body"));
        buffer.put_before(b"1");
        assert!(buffer.into_bytes().starts_with(b"1x"));
    }
}
