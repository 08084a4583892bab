//! A signal that fires once and is seen by everyone on the same worker who waits for it, or comes later.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Fires once.
#[derive(Debug, Default)]
pub struct Signal {
    fired: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Signal {
    /// Wakes whoever waits; whoever waits from now on need not.
    pub fn fire(&self) {
        self.fired.set(true);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Whether it has fired.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.fired.get()
    }

    /// Waits for it.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            signal: self,
            key: None,
        }
    }
}

/// A wait for a [`Signal`], with a place in its list from the first poll to the last: a later poll by the same task costs
/// nothing.
#[derive(Debug)]
#[must_use = "a wait does nothing unless awaited"]
pub struct Wait<'a> {
    signal: &'a Signal,
    key: Option<usize>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.fired() {
            self.key = None;
            return Poll::Ready(());
        }
        let mut waiting = self.signal.waiting.borrow_mut();
        match self.key.and_then(|key| waiting.get_mut(key)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                let key = waiting.insert(cx.waker().clone());
                drop(waiting);
                self.key = Some(key);
            }
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.filter(|_| !self.signal.fired()) {
            let waker = self.signal.waiting.borrow_mut().try_remove(key);
            drop(waker);
        }
    }
}
