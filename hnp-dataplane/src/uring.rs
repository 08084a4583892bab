//! The reactor of a worker: one thread, one executor, one kernel queue; io_uring, or epoll where io_uring is forbidden.
//!
//! Both backends answer one question, "may this descriptor be read or written now?"; the system calls that move bytes are
//! tried first and only `EAGAIN` waits. With io_uring a wait is a `POLL_ADD` that is submitted by the very
//! `io_uring_enter` that goes to sleep, so a turn of the loop costs one system call however many waits it starts. With
//! epoll every descriptor is registered once, edge-triggered.
//!
//! Why not tokio-uring: it waits by epoll for its ring and enters the ring besides, 9 to 10 system calls for a relayed round
//! trip of 64 bytes against 6 here, and 27 % more CPU time (`hnp-bench reactor`); and it cannot use `DEFER_TASKRUN`.
//!
//! Nothing here is a tokio runtime: futures are `!Send` and live on the worker that spawned them. Wakers may be used from any
//! thread, so runtime-agnostic primitives (`tokio::sync`) work.

mod epoll;
mod executor;
mod ring;
mod sides;
mod socket;
mod sys;
mod timer;

use std::future::Future;
use std::io;
use std::time::Duration;

pub use executor::{Runtime, now, spawn, task_count, yield_now};
pub use ring::why_unavailable;
pub use socket::{Listener, ListenerOptions, Readiness, Socket, WriteWait};
pub(crate) use sys::{PIPE_SIZE, Pipe, splice_from_socket, splice_to_socket};
pub use timer::{Elapsed, Sleep, sleep, sleep_until, timeout};

/// Which direction a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// The mechanism a runtime waits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// io_uring.
    IoUring,
    /// epoll, edge-triggered.
    Epoll,
}

impl Mechanism {
    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::IoUring => "io_uring",
            Mechanism::Epoll => "epoll",
        }
    }
}

/// Makes a runtime on `mechanism` and runs `future` on it, on this thread, to its end. Tasks that are still pending then are
/// dropped.
///
/// # Errors
/// The kernel refuses the queue: see [`why_unavailable`].
pub fn run<F: Future>(mechanism: Mechanism, future: F) -> io::Result<F::Output> {
    Ok(Runtime::new(mechanism)?.block_on(future))
}

/// The kernel side of a runtime.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each thread, and a box would cost every wait an indirection"
)]
enum Driver {
    Ring(ring::Ring),
    Epoll(epoll::Epoll),
}

impl Driver {
    fn new(mechanism: Mechanism, wake: &sys::WakeFd) -> io::Result<Driver> {
        Ok(match mechanism {
            Mechanism::IoUring => Driver::Ring(ring::Ring::new()?),
            Mechanism::Epoll => Driver::Epoll(epoll::Epoll::new(wake)?),
        })
    }

    /// Hands new waits to the kernel and collects what became ready; sleeps until something did, `limit` is over (`None`: no
    /// limit) or another thread woke this one, unless `busy`.
    fn turn(&mut self, busy: bool, limit: Option<Duration>, wake: &sys::WakeFd) -> io::Result<()> {
        match self {
            Driver::Ring(ring) => ring.turn(busy, limit, wake),
            Driver::Epoll(epoll) => epoll.turn(busy, limit, wake),
        }
    }
}

#[cfg(test)]
mod tests;
