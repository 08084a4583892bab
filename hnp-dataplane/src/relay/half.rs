//! One direction of a relay.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use super::pools::{LeasedPipe, Pools};
use super::{Leg, Side};
use crate::uring::{self, splice_from_socket, splice_to_socket};

/// Bytes asked of one splice: more than a pipe's slots hold.
const SPLICE: usize = 1 << 20;
/// Bytes passed before every other task of the worker has its turn.
const TURN: usize = 4 << 20;
/// A spliced stream whose wake-ups bring less than this has become a conversation: read and write are cheaper then.
const SMALL: usize = 16 << 10;

/// How a direction ended: at the end of its stream, or by an error of that side.
pub(super) type HalfEnd = Result<(), (Side, io::Error)>;

/// What both directions of a relay note.
pub(super) struct Shared {
    /// When bytes last passed.
    pub(super) active: Cell<Instant>,
    /// A side broke: what still ends in order must not look to the other side as if everything had.
    pub(super) broken: Cell<bool>,
    /// One direction has ended in order.
    pub(super) ended: Cell<bool>,
}

/// One direction: who is read, who is written, and what is noted.
pub(super) struct Half<'a, C> {
    pub(super) from: (&'a Leg, Side),
    pub(super) to: (&'a Leg, Side),
    pub(super) shared: &'a Shared,
    pub(super) pools: &'a Pools,
    pub(super) count: C,
}

/// What one attempt to copy came to.
enum Copied {
    /// Everything that was there has been passed on; more may come.
    Drained,
    /// A whole buffer was passed on: this is bulk.
    Full,
    /// More may be there already: TLS ends a read where the next record does not fit.
    More,
    /// The writer took only a part; this is the rest.
    Stalled(Vec<u8>),
    /// The end of the stream.
    End,
}

impl<C: Fn(usize)> Half<'_, C> {
    /// Passes on what was read early, then everything that comes, then the end of the stream.
    pub(super) async fn run(&self) -> HalfEnd {
        let end = self.pass_on().await;
        if end.is_err() {
            self.shared.broken.set(true);
        } else if !self.shared.broken.get() {
            let to = &self.to.0.stream;
            // Of two ends the second is told by closing, but for TLS, where closing alone looks like a broken connection.
            if !self.shared.ended.replace(true) || to.session().is_some() {
                // The other side may be gone already; its own direction says so.
                let _ = to.shutdown_write();
            }
        }
        end
    }

    async fn pass_on(&self) -> HalfEnd {
        self.write_rest(self.from.0.early.take()).await?;
        let mut bulk = false;
        let mut turn = 0;
        loop {
            if turn >= TURN {
                turn = 0;
                uring::yield_now().await;
            }
            if bulk
                && let (Some(from), Some(to)) = (
                    self.from.0.stream.spliceable(),
                    self.to.0.stream.spliceable(),
                )
                && let Some(pipe) = self.pools.lease_pipe()
            {
                match self.splice_on(pipe, (from, to), &mut turn).await? {
                    Spliced::End => break,
                    Spliced::Drained { bulk: still } => bulk = still,
                    Spliced::Stuck => {
                        bulk = false;
                        continue;
                    }
                }
                self.wait_readable().await?;
                continue;
            }
            match self.copy_once(&mut turn)? {
                Copied::Drained => self.wait_readable().await?,
                Copied::Full => bulk = true,
                Copied::More => {}
                Copied::Stalled(rest) => {
                    self.write_rest(rest).await?;
                    bulk = true;
                }
                Copied::End => break,
            }
        }
        Ok(())
    }

    /// Reads once into the worker's scratch buffer and writes at once what came.
    fn copy_once(&self, turn: &mut usize) -> Result<Copied, (Side, io::Error)> {
        let from = &self.from.0.stream;
        self.pools.with_scratch(|scratch| {
            let got = match from.try_read(scratch) {
                Ok(0) => return Ok(Copied::End),
                Ok(got) => got,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Copied::Drained),
                // Many close a TLS connection without a word, and what a tunnel carries tells by itself where it ends.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(Copied::End),
                Err(e) => return Err((self.from.1, e)),
            };
            let sent = match self.to.0.stream.try_write(&scratch[..got]) {
                Ok(sent) => sent,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                Err(e) => return Err((self.to.1, e)),
            };
            self.note(sent);
            *turn += sent;
            Ok(if sent < got {
                Copied::Stalled(scratch[sent..got].to_vec())
            } else if got == scratch.len() {
                Copied::Full
            } else if from.may_have_more() {
                // Where the kernel does TLS, it may give no more than a record at a time.
                match got {
                    SMALL.. => Copied::Full,
                    _ => Copied::More,
                }
            } else {
                Copied::Drained
            })
        })
    }

    /// Writes what is left over, however long it takes.
    async fn write_rest(&self, rest: Vec<u8>) -> HalfEnd {
        if rest.is_empty() {
            return Ok(());
        }
        let _held = self.pools.hold_rest();
        let mut sent = 0;
        while sent < rest.len() {
            match self.to.0.stream.try_write(&rest[sent..]) {
                Ok(n) => {
                    self.note(n);
                    sent += n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait_writable().await?,
                Err(e) => return Err((self.to.1, e)),
            }
        }
        Ok(())
    }

    /// Splices until nothing more is there to read.
    async fn splice_on(
        &self,
        pipe: LeasedPipe<'_>,
        (from, to): (BorrowedFd<'_>, BorrowedFd<'_>),
        turn: &mut usize,
    ) -> Result<Spliced, (Side, io::Error)> {
        let mut passed = 0;
        loop {
            match splice_from_socket(from, pipe.pipe(), SPLICE) {
                Ok(0) => return Ok(Spliced::End),
                Ok(got) => pipe.filled(got),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Ok(Spliced::Drained {
                        bulk: passed >= SMALL,
                    });
                }
                // The kernel does TLS here, and what comes next is no data: reading says what it is.
                Err(e)
                    if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIO))
                        && self.from.0.stream.session().is_some() =>
                {
                    return Ok(Spliced::Stuck);
                }
                Err(e) => return Err((self.from.1, e)),
            }
            while pipe.holds() > 0 {
                match splice_to_socket(pipe.pipe(), to, pipe.holds()) {
                    Ok(sent) => {
                        pipe.emptied(sent);
                        passed += sent;
                        *turn += sent;
                        self.note(sent);
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait_writable().await?,
                    Err(e) => return Err((self.to.1, e)),
                }
            }
            if *turn >= TURN {
                *turn = 0;
                uring::yield_now().await;
            }
        }
    }

    fn note(&self, bytes: usize) {
        if bytes > 0 {
            self.shared.active.set(uring::now());
            (self.count)(bytes);
        }
    }

    async fn wait_readable(&self) -> HalfEnd {
        self.from
            .0
            .stream
            .readable()
            .await
            .map_err(|e| (self.from.1, e))
    }

    /// Waits for room, and meanwhile for the death of whoever is read: nothing else would tell of it, since a stalled
    /// direction does not read.
    async fn wait_writable(&self) -> HalfEnd {
        let mut room = pin!(self.to.0.stream.writable());
        let mut reader = pin!(Some(self.from.0.stream.readable()));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(ready) = room.as_mut().poll(cx) {
                return Poll::Ready(ready.map_err(|e| (self.to.1, e)));
            }
            // More bytes end this wait as well, once for each arrival; the end of the stream ends it always, and then there
            // is nothing left to wait for. Either way reading begins with a try again once there is room.
            for _ in 0..2 {
                let ended = reader
                    .as_mut()
                    .as_pin_mut()
                    .is_some_and(|wait| wait.poll(cx).is_ready());
                if !ended {
                    return Poll::Pending;
                }
                if let Some(error) = self.from.0.stream.take_error() {
                    return Poll::Ready(Err((self.from.1, error)));
                }
                reader.set(Some(self.from.0.stream.readable()));
            }
            reader.set(None);
            Poll::Pending
        })
        .await
    }
}

/// What a spell of splicing came to.
enum Spliced {
    /// The end of the stream.
    End,
    /// What comes next cannot be spliced.
    Stuck,
    /// Nothing more is there for now.
    Drained {
        /// Enough came to expect more of the kind.
        bulk: bool,
    },
}
