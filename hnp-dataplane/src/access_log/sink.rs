//! A worker's end of the access log.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::{Clock, Entry, Outlet};
use crate::config::model::LogFormat;

/// Bytes that a worker gathers before it hands them over unasked.
const FLUSH_AT: usize = 32 << 10;

/// Where one worker writes its lines. Made by [`LogWriter::sink`](super::LogWriter::sink) and moved to the worker.
pub struct AccessLog {
    /// Absent: no line is wanted.
    outlet: Option<Arc<Outlet>>,
    format: LogFormat,
    pending: RefCell<Pending>,
}

struct Pending {
    buffer: Vec<u8>,
    lines: u64,
    clock: Clock,
}

impl AccessLog {
    pub(super) fn new(outlet: Arc<Outlet>, format: LogFormat) -> AccessLog {
        AccessLog::with(Some(outlet), format)
    }

    /// For `log.access = false`: takes lines and forgets them.
    #[must_use]
    pub fn disabled() -> AccessLog {
        AccessLog::with(None, LogFormat::Text)
    }

    fn with(outlet: Option<Arc<Outlet>>, format: LogFormat) -> AccessLog {
        let pending = RefCell::new(Pending {
            buffer: Vec::new(),
            lines: 0,
            clock: Clock::new(),
        });
        AccessLog {
            outlet,
            format,
            pending,
        }
    }

    /// Whether lines are wanted at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.outlet.is_some()
    }

    /// Formats one line into memory. Call [`flush`](Self::flush) before the worker waits.
    pub fn write(&self, entry: &Entry<'_>) {
        if self.outlet.is_none() {
            return;
        }
        let full = {
            let pending = &mut *self.pending.borrow_mut();
            entry.write(&mut pending.buffer, self.format, &mut pending.clock);
            pending.lines += 1;
            pending.buffer.len() >= FLUSH_AT
        };
        if full {
            self.flush();
        }
    }

    /// Hands what was gathered to the writing thread, or drops it when that one is too far behind. Never waits; costs
    /// nothing when there is nothing.
    pub fn flush(&self) {
        let Some(outlet) = &self.outlet else { return };
        let pending = &mut *self.pending.borrow_mut();
        if pending.lines == 0 {
            return;
        }
        outlet.offer(&pending.buffer, pending.lines);
        pending.buffer.clear();
        pending.lines = 0;
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}
