//! The epoll backend, for hosts that forbid io_uring: each descriptor registered once, edge-triggered.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::sys::epoll::{Epoll as Fd, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::sides::Side;
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
    pub(super) fn unregister(&mut self, key: usize) -> (Option<Waker>, Option<Waker>) {
        let mut slot = self.slots.remove(key);
        (slot.read.forget(), slot.write.forget())
    }

    pub(super) fn poll_ready(
        &mut self,
        key: usize,
        interest: Interest,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.slots[key].side(interest).poll(cx)
    }

    /// Ends a wait that nobody waits for any more.
    pub(super) fn forget(&mut self, key: usize, interest: Interest) -> Option<Waker> {
        self.slots[key].side(interest).forget()
    }

    pub(super) fn pop_woken(&mut self) -> Option<Waker> {
        self.woken.pop()
    }

    /// Gives up the wakers of all waits, for the end of the runtime.
    pub(super) fn abandon(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.woken);
        for (_, slot) in &mut self.slots {
            wakers.extend(slot.read.forget());
            wakers.extend(slot.write.forget());
        }
        wakers
    }

    pub(super) fn turn(
        &mut self,
        busy: bool,
        limit: Option<Duration>,
        wake: &sys::WakeFd,
    ) -> io::Result<()> {
        let count = match self.fd.wait(&mut self.events, timeout(busy, limit)) {
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
            let over = flags.intersects(EpollFlags::EPOLLRDHUP | broken);
            if over || flags.contains(EpollFlags::EPOLLIN) {
                slot.read.happened(over, &mut self.woken);
            }
            if flags.intersects(EpollFlags::EPOLLOUT | broken) {
                slot.write
                    .happened(flags.intersects(broken), &mut self.woken);
            }
        }
        self.woken.reverse();
        Ok(())
    }
}

/// Rounded up to the clock of epoll_wait(2), a millisecond: early would mean turning in circles until the time has come.
fn timeout(busy: bool, limit: Option<Duration>) -> EpollTimeout {
    match limit {
        _ if busy => EpollTimeout::ZERO,
        None => EpollTimeout::NONE,
        Some(limit) => {
            let millis = limit.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX))
                .unwrap_or(EpollTimeout::NONE)
        }
    }
}
