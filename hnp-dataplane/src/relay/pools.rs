//! What a worker's relays share: a scratch buffer and pipes.

use std::cell::{Cell, RefCell};

use crate::uring::Pipe;

/// Size of the scratch buffer, and so the largest exchange that is read and written before splicing begins. Small enough to
/// stay in the second-level cache; and a little more, so that four full TLS records can be opened into it, each with the byte
/// that TLS 1.3 adds to it.
const SCRATCH: usize = (64 << 10) + 64;
/// Empty pipes kept for the next burst.
const SPARE_PIPES: usize = 64;

/// The buffers and pipes of one worker.
pub struct Pools {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Pipe>>,
    leased: Cell<usize>,
    rests: Cell<usize>,
}

/// How many of everything there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolCounts {
    /// Pipes that a relay is using.
    pub pipes_leased: usize,
    /// Pipes kept for the next.
    pub pipes_spare: usize,
    /// Buffers that hold what a stalled reader did not take.
    pub buffers_held: usize,
}

impl Default for Pools {
    fn default() -> Self {
        Pools {
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            spare: RefCell::default(),
            leased: Cell::new(0),
            rests: Cell::new(0),
        }
    }
}

impl Pools {
    /// How many of everything there are now.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            pipes_leased: self.leased.get(),
            pipes_spare: self.spare.borrow().len(),
            buffers_held: self.rests.get(),
        }
    }

    /// Lends the scratch buffer for as long as `f` runs; nothing may wait meanwhile.
    pub(crate) fn with_scratch<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        f(&mut self.scratch.borrow_mut())
    }

    /// Counts a buffer as held for as long as the guard lives.
    pub(super) fn hold_rest(&self) -> HeldRest<'_> {
        self.rests.set(self.rests.get() + 1);
        HeldRest(self)
    }

    /// Lends an empty pipe; `None` when the process is out of descriptors, and then buffers have to do.
    pub(super) fn lease_pipe(&self) -> Option<LeasedPipe<'_>> {
        let spare = self.spare.borrow_mut().pop();
        let pipe = match spare {
            Some(pipe) => pipe,
            None => Pipe::new().ok()?,
        };
        self.leased.set(self.leased.get() + 1);
        Some(LeasedPipe {
            pools: self,
            pipe: Some(pipe),
            holds: Cell::new(0),
        })
    }
}

/// A pipe on loan. It goes back when it is dropped empty; with bytes of a connection in it, it is closed instead.
pub(super) struct LeasedPipe<'a> {
    pools: &'a Pools,
    pipe: Option<Pipe>,
    holds: Cell<usize>,
}

impl LeasedPipe<'_> {
    pub(super) fn pipe(&self) -> &Pipe {
        match &self.pipe {
            Some(pipe) => pipe,
            None => unreachable!("taken only by drop"),
        }
    }

    /// Bytes in the pipe.
    pub(super) fn holds(&self) -> usize {
        self.holds.get()
    }

    pub(super) fn filled(&self, bytes: usize) {
        self.holds.set(self.holds.get() + bytes);
    }

    pub(super) fn emptied(&self, bytes: usize) {
        self.holds.set(self.holds.get() - bytes);
    }
}

impl Drop for LeasedPipe<'_> {
    fn drop(&mut self) {
        self.pools.leased.set(self.pools.leased.get() - 1);
        let mut spare = self.pools.spare.borrow_mut();
        if self.holds.get() == 0 && spare.len() < SPARE_PIPES {
            spare.extend(self.pipe.take());
        }
    }
}

/// A buffer that holds what a stalled reader did not take.
pub(super) struct HeldRest<'a>(&'a Pools);

impl Drop for HeldRest<'_> {
    fn drop(&mut self) {
        self.0.rests.set(self.0.rests.get() - 1);
    }
}
