//! A buffer that is filled at one end and used up at the other.

use std::io;

use crate::stream::Stream;

/// Bytes of room at first.
const SMALL: usize = 8 << 10;
/// Bytes of room for bulk. A head that is larger still gets the room it needs, the parser's limit being what bounds it.
const LARGE: usize = 64 << 10;

/// Bytes read and not yet used.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer {
            start: 0,
            end: bytes.len(),
            room: bytes,
        }
    }
}

impl Buffer {
    pub(super) fn new() -> Self {
        Buffer::default()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the memory back while nothing is in it.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Buffer::new();
        }
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.room.truncate(self.end);
        self.room.drain(..self.start);
        self.room
    }

    /// Reads once. A read that fills all there is makes the next one larger, so that small exchanges stay small.
    pub(super) fn try_fill(&mut self, socket: &Stream) -> io::Result<usize> {
        if self.start > 0 {
            self.room.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.room.len() {
            let grown = (self.room.len() * 2).max(SMALL);
            self.room.resize(grown, 0);
        }
        let n = socket.try_read(&mut self.room[self.end..])?;
        self.end += n;
        if self.end == self.room.len() && self.end < LARGE {
            self.room.resize(LARGE, 0);
        }
        Ok(n)
    }

    /// Reads at least a byte; 0 is the end of the stream. Dropping the future loses nothing.
    pub(super) async fn fill(&mut self, socket: &Stream) -> io::Result<usize> {
        loop {
            match self.try_fill(socket) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
                done => return done,
            }
        }
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
}
