//! One structured line for each connection, or for each request that is forwarded.
//!
//! A worker formats [`Entry`] into memory of its own ([`AccessLog`]); a thread writes ([`LogWriter`]). No reader of the log,
//! however slow, holds up a worker: what does not fit is dropped, counted and reported.

mod clock;
mod entry;
mod line;
mod sink;
mod writer;

pub use entry::{CapturedEntry, ClosedBy, Entry, FIELDS, Field, Verdict};
pub use sink::AccessLog;
pub use writer::{LogWriter, Unwritten};

pub(crate) use clock::Clock;
pub(crate) use line::Line;
pub(crate) use writer::{Drops, Outlet};
