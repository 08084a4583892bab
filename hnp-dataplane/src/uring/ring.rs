//! The io_uring backend: reading is waited for by one multishot poll a socket, writing by one-shot polls.
//!
//! Measured with `hnp-bench reactor`: a poll that stays armed saves a tenth of the relay's CPU time over one that is armed
//! for each wait. Room to write is waited for seldom, and a poll that stayed armed for it would complete at once, always.
#![expect(
    unsafe_code,
    reason = "pushing a submission entry is unsafe in the io-uring crate"
)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::sides::Side;
use super::sys;

/// Submission entries between two turns before an extra system call is needed.
const ENTRIES: u32 = 1024;
/// Completions that fit before the kernel keeps the rest on a list of its own (`IORING_FEAT_NODROP`).
const COMPLETIONS: u32 = 8192;
/// Set in the `user_data` of polls for reading, whose rest is the key of a source.
const SOURCE: u64 = 1 << 63;
/// `user_data` of the poll on the wake descriptor.
const WAKE: u64 = u64::MAX;
/// `user_data` of cancellations, whose own completions say nothing.
const CANCEL: u64 = u64::MAX - 1;

pub(super) struct Ring {
    ring: IoUring,
    sources: Slab<Source>,
    waits: Slab<Wait>,
    woken: Vec<Waker>,
    wake_armed: bool,
}

/// A descriptor, and the poll for reading that the kernel may hold for it. It stays here until that poll is gone, so that its
/// key is never reused early.
struct Source {
    fd: RawFd,
    read: Side,
    armed: bool,
    closed: bool,
}

/// One poll for writing that the kernel holds. It stays here until the kernel's last completion for it has come, whether or not
/// anybody still waits, so that its key is never reused early.
struct Wait {
    fd: RawFd,
    state: State,
    /// The poll stays armed after a completion; see [`Ring::complete`].
    multishot: bool,
    /// The kernel has said that this poll posts nothing more.
    finished: bool,
}

enum State {
    Waiting(Waker),
    Done(i32),
    Abandoned,
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        Ok(Ring {
            ring: build()?,
            sources: Slab::new(),
            waits: Slab::new(),
            woken: Vec::new(),
            wake_armed: false,
        })
    }

    pub(super) fn register(&mut self, fd: BorrowedFd<'_>) -> usize {
        self.sources.insert(Source {
            fd: fd.as_raw_fd(),
            read: Side::default(),
            armed: false,
            closed: false,
        })
    }

    /// Forgets a descriptor that is about to be closed. The kernel holds the file until its poll is gone, so it is cancelled,
    /// not just forgotten: else closing a socket would not close the connection.
    pub(super) fn unregister(&mut self, key: usize) -> Option<Waker> {
        let source = &mut self.sources[key];
        let waker = source.read.forget();
        if source.armed {
            source.closed = true;
            self.cancel(SOURCE | key as u64);
        } else {
            self.sources.remove(key);
        }
        waker
    }

    pub(super) fn poll_readable(&mut self, key: usize, cx: &mut Context<'_>) -> Poll<()> {
        let source = &mut self.sources[key];
        let ready = source.read.poll(cx);
        if ready.is_pending() && !source.armed {
            source.armed = true;
            let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
            let poll = opcode::PollAdd::new(Fd(source.fd), events).multi(true);
            self.push(&poll.build().user_data(SOURCE | key as u64));
        }
        ready
    }

    pub(super) fn forget_readable(&mut self, key: usize) -> Option<Waker> {
        self.sources[key].read.forget()
    }

    /// Begins or continues a wait for room to write; `key` is the wait's own memory.
    pub(super) fn poll_writable(
        &mut self,
        fd: BorrowedFd<'_>,
        key: &mut Option<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(at) = *key else {
            let at = self.waits.insert(Wait {
                fd: fd.as_raw_fd(),
                state: State::Waiting(cx.waker().clone()),
                multishot: false,
                finished: false,
            });
            *key = Some(at);
            self.arm(at);
            return Poll::Pending;
        };
        let wait = &mut self.waits[at];
        match &mut wait.state {
            State::Waiting(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Done(result) => {
                let result = *result;
                *key = None;
                self.forget(at);
                Poll::Ready(if result < 0 {
                    Err(io::Error::from_raw_os_error(-result))
                } else {
                    Ok(())
                })
            }
            State::Abandoned => unreachable!("an abandoned wait has no owner that could poll it"),
        }
    }

    /// Ends a wait for writing that nobody waits for any more.
    pub(super) fn forget(&mut self, at: usize) -> Option<Waker> {
        let state = mem::replace(&mut self.waits[at].state, State::Abandoned);
        if self.waits[at].finished {
            self.waits.remove(at);
        } else {
            self.push(
                &opcode::AsyncCancel::new(at as u64)
                    .build()
                    .user_data(CANCEL),
            );
        }
        match state {
            State::Waiting(waker) => Some(waker),
            _ => None,
        }
    }

    fn cancel(&mut self, user_data: u64) {
        self.push(
            &opcode::AsyncCancel::new(user_data)
                .build()
                .user_data(CANCEL),
        );
    }

    pub(super) fn pop_woken(&mut self) -> Option<Waker> {
        self.woken.pop()
    }

    /// Gives up the wakers of all waits, for the end of the runtime.
    pub(super) fn abandon(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.woken);
        for (_, source) in &mut self.sources {
            wakers.extend(source.read.forget());
        }
        for (_, wait) in &mut self.waits {
            if let State::Waiting(waker) = mem::replace(&mut wait.state, State::Abandoned) {
                wakers.push(waker);
            }
        }
        wakers
    }

    pub(super) fn turn(
        &mut self,
        busy: bool,
        limit: Option<Duration>,
        wake: &sys::WakeFd,
    ) -> io::Result<()> {
        if !self.wake_armed {
            let poll = opcode::PollAdd::new(Fd(wake.as_fd().as_raw_fd()), libc::POLLIN as u32);
            self.push(&poll.build().user_data(WAKE));
            self.wake_armed = true;
        }
        self.enter(busy, limit)?;
        while let Some(entry) = self.next_completion() {
            self.complete(&entry, wake);
        }
        self.woken.reverse();
        Ok(())
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn enter(&mut self, busy: bool, limit: Option<Duration>) -> io::Result<()> {
        let timeout = match limit {
            _ if busy => Some(Timespec::new()),
            limit => limit.map(Timespec::from),
        };
        // Waiting for one completion, if only for no time at all, is what makes the kernel run deferred task work.
        let entered = match &timeout {
            Some(timeout) => self
                .ring
                .submitter()
                .submit_with_args(1, &SubmitArgs::new().timespec(timeout)),
            None => self.ring.submit_and_wait(1),
        };
        match entered {
            Ok(_) => Ok(()),
            // ETIME: the timeout; EINTR: a signal; EBUSY/EAGAIN: completions must be taken first, which comes next.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn complete(&mut self, entry: &cqueue::Entry, wake: &sys::WakeFd) {
        match entry.user_data() {
            CANCEL => return,
            WAKE => {
                wake.clear();
                self.wake_armed = false;
                return;
            }
            _ => {}
        }
        let more = cqueue::more(entry.flags());
        if entry.user_data() & SOURCE != 0 {
            self.readable((entry.user_data() & !SOURCE) as usize, entry.result(), more);
        } else {
            self.writable(entry.user_data() as usize, entry.result(), more);
        }
    }

    fn readable(&mut self, key: usize, result: i32, more: bool) {
        let source = &mut self.sources[key];
        source.armed = more;
        if source.closed {
            if !more {
                self.sources.remove(key);
            }
            return;
        }
        let end = i32::from(libc::POLLRDHUP | libc::POLLERR | libc::POLLHUP);
        // A poll that failed is told by the next try; a wait after it arms a new one.
        source
            .read
            .happened(result >= 0 && result & end != 0, &mut self.woken);
    }

    fn writable(&mut self, at: usize, result: i32, more: bool) {
        let wait = &mut self.waits[at];
        wait.finished = !more;
        if matches!(wait.state, State::Abandoned) {
            if !more {
                self.waits.remove(at);
            }
            return;
        }
        if only_peer_closed(result) {
            // A poll always reports that the peer has closed its sending side (IO_POLL_UNMASK holds POLLRDHUP), also to who waits
            // for room to write. A level-triggered answer to that would spin; an edge-triggered (multishot) poll posts this
            // once and then only what happens anew.
            if !more {
                wait.multishot = true;
                self.arm(at);
            }
            return;
        }
        if let State::Waiting(waker) = mem::replace(&mut wait.state, State::Done(result)) {
            self.woken.push(waker);
        }
    }

    fn arm(&mut self, at: usize) {
        let wait = &mut self.waits[at];
        wait.finished = false;
        let poll = opcode::PollAdd::new(Fd(wait.fd), libc::POLLOUT as u32).multi(wait.multishot);
        self.push(&poll.build().user_data(at as u64));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: polls and cancellations carry no pointer: the kernel reads only the entry itself, which `push` copies
            // into the shared queue. The descriptor of a poll is open, for its `Socket` or `WakeFd` is borrowed by the caller.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.ring.submit() {
                // EBUSY and EAGAIN pass once completions have been taken; nothing here can be lost meanwhile.
                tracing::debug!(%error, "the submission queue is full and the kernel asks to wait");
            }
        }
    }
}

/// Whether a poll's answer says nothing about writing: not writable, no error, no hang-up.
fn only_peer_closed(result: i32) -> bool {
    let telling = i32::from(libc::POLLOUT | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);
    result >= 0 && result & telling == 0
}

/// A ring with the cheapest completion mode that the kernel knows (deferred task work since 6.1, cooperative since 5.19).
fn build() -> io::Result<IoUring> {
    let base = || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).dontfork();
        builder
    };
    let mut deferred = base();
    deferred.setup_single_issuer().setup_defer_taskrun();
    let mut cooperative = base();
    cooperative.setup_coop_taskrun();
    match deferred.build(ENTRIES) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
        other => return other,
    }
    match cooperative.build(ENTRIES) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => base().build(ENTRIES),
        other => other,
    }
}

/// Why this process cannot use io_uring, and what to do about it; `None` when it can.
#[must_use]
pub fn why_unavailable() -> Option<String> {
    let error = match Ring::new() {
        Ok(ring) if ring.ring.params().is_feature_ext_arg() => return None,
        Ok(_) => {
            return Some(
                "this kernel's io_uring lacks timed waits (IORING_FEAT_EXT_ARG, Linux 5.11): run a newer kernel".to_owned(),
            );
        }
        Err(error) => error,
    };
    let switch = "/proc/sys/kernel/io_uring_disabled";
    let disabled = std::fs::read_to_string(switch).unwrap_or_default();
    Some(match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), level @ ("1" | "2")) => {
            format!("kernel.io_uring_disabled is {level}: `sysctl kernel.io_uring_disabled=0` allows it")
        }
        (Some(libc::EPERM | libc::EACCES), _) => "a seccomp filter or security module refuses io_uring_setup: allow io_uring_setup, \
             io_uring_enter and io_uring_register in the container's seccomp profile"
            .to_owned(),
        (Some(libc::ENOSYS), _) => {
            "io_uring_setup is not there (kernel before 5.1, CONFIG_IO_URING=n, or hidden by a seccomp filter): run a newer \
             kernel or allow io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned()
        }
        (Some(libc::ENOMEM), _) => {
            "the limit of locked memory is too low for a ring: raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=)".to_owned()
        }
        _ => format!("io_uring_setup failed: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without it everything works all the same, only with more wake-ups: nobody would notice.
    #[test]
    fn task_work_is_deferred_where_the_kernel_can() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
        let deferred = build().unwrap().params().is_setup_single_issuer();
        assert_eq!(deferred, version >= (6, 1), "on Linux {release}");
    }
}
