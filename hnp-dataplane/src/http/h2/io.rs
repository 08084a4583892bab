//! A [`Stream`] as the framing library wants it: polled, with the bytes that were read before it began in front.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;
use crate::uring::WriteWait;

/// Bytes that small pieces are put together to before they are encrypted: a TLS record.
const GATHERED: usize = 16 << 10;
/// A piece of this size is worth a record of its own.
const LARGE: usize = 4 << 10;

/// A stream, polled by one task. It is shared with who closes it in the end, so that the last frames arrive.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Rc<Stream>,
    received: Vec<u8>,
    used: usize,
    wait: WriteWait,
    gathered: Vec<u8>,
    /// Nobody else will end it.
    ends: bool,
}

impl Wire {
    /// `received` is what came over the stream already.
    pub(super) fn new(stream: Rc<Stream>, received: Vec<u8>) -> Wire {
        Wire {
            stream,
            received,
            used: 0,
            wait: WriteWait::default(),
            gathered: Vec::new(),
            ends: false,
        }
    }

    /// Has the library end the stream, where nobody else does.
    pub(super) fn ending(mut self) -> Wire {
        self.ends = true;
        self
    }

    /// Tries until it would block, then waits.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&Stream, &mut Vec<u8>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match attempt(&self.stream, &mut self.gathered) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    ready!(self.stream.socket().poll_writable(&mut self.wait, cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.used < this.received.len() {
            let rest = &this.received[this.used..];
            let n = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..n]);
            this.used += n;
            if this.used == this.received.len() {
                this.received = Vec::new();
                this.used = 0;
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.stream.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    ready!(this.stream.socket().poll_readable(cx));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, _| stream.try_write(bytes))
    }

    /// A frame's head and its payload in one system call, or in one TLS record.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = pieces.iter().position(|piece| !piece.is_empty());
        let pieces = &pieces[first.unwrap_or(pieces.len())..];
        self.write(cx, |stream, gathered| match pieces {
            [] => Ok(0),
            [one] => stream.try_write(one),
            [first, ..] if first.len() >= LARGE => stream.try_write(first),
            _ if stream.session().is_none() => stream.socket().try_write_vectored(pieces),
            _ => {
                // What did not fit is offered again from its first byte on, as TLS wants it: pieces do not change meanwhile.
                gathered.clear();
                for piece in pieces {
                    let room = GATHERED - gathered.len();
                    gathered.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                stream.try_write(gathered)
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ends {
            // Where the peer is gone already there is nobody to tell.
            let _ = self.stream.shutdown_write();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stream.socket().forget_writable(&mut self.wait);
    }
}
