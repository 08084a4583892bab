//! The epoll backend, for hosts that forbid io_uring: each descriptor registered once, edge-triggered.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use nix::sys::epoll::{Epoll as Fd, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::{Interest, sys};

/// Data of the wake descriptor's events.
const WAKE: u64 = u64::MAX;
const EVENTS: usize = 512;

pub(super) struct Epoll {
    fd: Fd,
    slots: Slab<Slot>,
    woken: Vec<Waker>,
    events: Box<[EpollEvent]>,
}

/// What is known of one descriptor. An event can outlive its descriptor by a turn and meet the slot's next owner, who is then
/// woken in vain: every waiter tries again and waits again.
#[derive(Default)]
struct Slot {
    read: Side,
    write: Side,
}

#[derive(Default)]
struct Side {
    /// An edge came that nobody has waited for yet.
    edge: bool,
    /// The stream has ended or broken: every further try tells, and no further edge may come. (One edge can carry both the
    /// last bytes and the end; who took only the bytes must not wait for another.)
    over: bool,
    waiter: Option<Waker>,
}

impl Slot {
    fn side(&mut self, interest: Interest) -> &mut Side {
        match interest {
            Interest::Read => &mut self.read,
            Interest::Write => &mut self.write,
        }
    }
}

impl Epoll {
    pub(super) fn new(wake: &sys::WakeFd) -> io::Result<Epoll> {
        let fd = Fd::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        fd.add(wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Epoll {
            fd,
            slots: Slab::new(),
            woken: Vec::new(),
            events: vec![EpollEvent::empty(); EVENTS].into_boxed_slice(),
        })
    }

    pub(super) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let key = self.slots.insert(Slot::default());
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        if let Err(error) = self.fd.add(fd, EpollEvent::new(flags, key as u64)) {
            self.slots.remove(key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Forgets a descriptor that is about to be closed, which is what removes it in the kernel.
    pub(super) fn unregister(&mut self, key: usize) -> impl Drop + use<> {
        Forgotten {
            _slot: self.slots.remove(key),
        }
    }

    pub(super) fn poll_ready(
        &mut self,
        key: usize,
        interest: Interest,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let side = self.slots[key].side(interest);
        if mem::take(&mut side.edge) || side.over {
            return Poll::Ready(());
        }
        match &mut side.waiter {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Ends a wait that nobody waits for any more.
    pub(super) fn forget(&mut self, key: usize, interest: Interest) -> Option<Waker> {
        self.slots[key].side(interest).waiter.take()
    }

    pub(super) fn pop_woken(&mut self) -> Option<Waker> {
        self.woken.pop()
    }

    /// Gives up the wakers of all waits, for the end of the runtime.
    pub(super) fn abandon(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.woken);
        for (_, slot) in &mut self.slots {
            wakers.extend(slot.read.waiter.take());
            wakers.extend(slot.write.waiter.take());
        }
        wakers
    }

    pub(super) fn turn(
        &mut self,
        busy: bool,
        until: Option<Instant>,
        wake: &sys::WakeFd,
    ) -> io::Result<()> {
        let count = match self.fd.wait(&mut self.events, timeout(busy, until)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &self.events[..count] {
            if event.data() == WAKE {
                wake.clear();
                continue;
            }
            let key = usize::try_from(event.data()).unwrap_or(usize::MAX);
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            let flags = event.events();
            let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
            if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | broken) {
                slot.read.over |= flags.intersects(EpollFlags::EPOLLRDHUP | broken);
                slot.read.happened(&mut self.woken);
            }
            if flags.intersects(EpollFlags::EPOLLOUT | broken) {
                slot.write.over |= flags.intersects(broken);
                slot.write.happened(&mut self.woken);
            }
        }
        self.woken.reverse();
        Ok(())
    }
}

impl Side {
    fn happened(&mut self, woken: &mut Vec<Waker>) {
        self.edge = true;
        woken.extend(self.waiter.take());
    }
}

/// A slot on its way out: dropped by the caller once the driver is free, for its wakers may run code.
struct Forgotten {
    _slot: Slot,
}

impl Drop for Forgotten {
    fn drop(&mut self) {}
}

/// Rounded up to the clock of epoll_wait(2), a millisecond: early would mean turning in circles until the time has come.
fn timeout(busy: bool, until: Option<Instant>) -> EpollTimeout {
    match until {
        _ if busy => EpollTimeout::ZERO,
        None => EpollTimeout::NONE,
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            let millis = left.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX))
                .unwrap_or(EpollTimeout::NONE)
        }
    }
}
