//! One timer for all that a connection waits for, in turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::uring::{self, Sleep};

/// A timer whose deadline moves with every byte. It is registered for an early one and looks again when that has come, so that moving it
/// costs nothing. One task only may poll it: the one that the timer knows from the first poll on.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Sleep,
    registered: bool,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Alarm {
            sleep: uring::sleep_until(uring::now()),
            registered: false,
        }
    }

    /// Ends when `deadline` has passed. Each poll may bring another.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let now = uring::now();
        if deadline <= now {
            return Poll::Ready(());
        }
        if self.registered && now < self.sleep.deadline() && self.sleep.deadline() <= deadline {
            return Poll::Pending;
        }
        self.sleep.reset(deadline);
        self.registered = true;
        Pin::new(&mut self.sleep).poll(cx)
    }
}
