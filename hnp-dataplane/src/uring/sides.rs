//! What a backend knows of one direction of a descriptor, learnt edge by edge.

use std::mem;
use std::task::{Context, Poll, Waker};

/// One direction. An edge is remembered until somebody waits; who waits has tried before, so that an edge that belonged to
/// bytes already taken only costs one more try.
#[derive(Default)]
pub(super) struct Side {
    /// An edge came that nobody has waited for yet.
    edge: bool,
    /// The stream has ended or broken: every further try tells, and no further edge may come. (One edge can carry both the
    /// last bytes and the end; who took only the bytes must not wait for another.)
    over: bool,
    waiter: Option<Waker>,
}

impl Side {
    /// Ready at once if something has happened since the last wait; else `cx` is woken when something does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if mem::take(&mut self.edge) || self.over {
            return Poll::Ready(());
        }
        match &mut self.waiter {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Something happened; `over` says that nothing may happen after it.
    pub(super) fn happened(&mut self, over: bool, woken: &mut Vec<Waker>) {
        self.edge = true;
        self.over |= over;
        woken.extend(self.waiter.take());
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) -> Option<Waker> {
        self.waiter.take()
    }
}
