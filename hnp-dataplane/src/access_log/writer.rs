//! The thread that writes log lines, and the bounded memory between it and everyone else.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::AccessLog;
use crate::admin::Metrics;
use crate::config::model::LogFormat;

/// Bytes that wait for the writing thread at most; as many again may be in its hands.
const QUEUE: usize = 4 << 20;
/// A buffer that a burst made larger than this is given back to the allocator.
const KEEP: usize = 256 << 10;
/// How long the access log's writer gathers what many small flushes bring: one wake-up and one `write(2)` for all of it.
const GATHER: Duration = Duration::from_millis(10);
/// Enough gathered to write at once.
const GATHERED: usize = 64 << 10;
/// Drops are reported at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long a writer that nobody closed is waited for.
const DROP_WAIT: Duration = Duration::from_secs(2);
/// Between tries on a destination that someone else made non-blocking.
const RETRY: Duration = Duration::from_millis(5);

/// What to do about lines that are lost.
pub(crate) struct Drops {
    /// Called with how many.
    pub(crate) count: Box<dyn Fn(u64) + Send + Sync>,
    /// Whether the operational log says so. Not for the operational log itself.
    pub(crate) reports: Option<Reports>,
}

/// Drops not yet reported.
#[derive(Default)]
pub(crate) struct Reports {
    lines: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// Owns the writing thread. Close it when the workers are gone.
#[derive(Debug)]
pub struct LogWriter {
    outlet: Arc<Outlet>,
    thread: Option<JoinHandle<()>>,
}

/// What could not be written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{lines} log lines were not written in time: whoever reads them stopped reading")]
pub struct Unwritten {
    /// Lines, at most.
    pub lines: u64,
}

impl LogWriter {
    /// Writes access lines to standard output; drops are counted in `metrics`.
    ///
    /// # Errors
    /// When standard output is closed, or no thread can be started.
    pub fn stdout(metrics: Arc<Metrics>) -> io::Result<LogWriter> {
        // Not `std::io::Stdout`, whose own line buffer would copy everything once more.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        LogWriter::to(stdout, metrics)
    }

    /// Writes access lines to `destination`; drops are counted in `metrics`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to(
        destination: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> io::Result<LogWriter> {
        let on_drop = Box::new(move |lines| metrics.access_lines_dropped(lines));
        LogWriter::start(
            "hnp-access-log",
            destination,
            GATHER,
            Drops {
                count: on_drop,
                reports: Some(Reports::default()),
            },
        )
    }

    pub(crate) fn start(
        thread_name: &str,
        destination: impl Write + Send + 'static,
        gather: Duration,
        drops: Drops,
    ) -> io::Result<LogWriter> {
        let outlet = Arc::new(Outlet {
            queue: Mutex::default(),
            changed: Condvar::new(),
            drops,
        });
        let queue = Arc::clone(&outlet);
        let thread = thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || queue.write_all(destination, gather))?;
        Ok(LogWriter {
            outlet,
            thread: Some(thread),
        })
    }

    /// The end of a worker.
    #[must_use]
    pub fn sink(&self, format: LogFormat) -> AccessLog {
        AccessLog::new(Arc::clone(&self.outlet), format)
    }

    pub(crate) fn outlet(&self) -> Arc<Outlet> {
        Arc::clone(&self.outlet)
    }

    /// Writes what is queued and ends the thread; lines offered from now on are dropped.
    ///
    /// # Errors
    /// When that takes longer than `within`: the thread, which still waits for its destination, is then left behind.
    pub fn close(mut self, within: Duration) -> Result<(), Unwritten> {
        self.finish(within)
    }

    fn finish(&mut self, within: Duration) -> Result<(), Unwritten> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let mut queue = self.outlet.lock();
        queue.closed = true;
        self.outlet.changed.notify_all();
        let (queue, _) = self
            .outlet
            .changed
            .wait_timeout_while(queue, within, |queue| !queue.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let (ended, lines) = (queue.ended, queue.lines + queue.writing);
        drop(queue);
        if let Some(reports) = &self.outlet.drops.reports {
            reports.at_once();
        }
        if !ended {
            return Err(Unwritten { lines });
        }
        // It has only to return by now. A panic there was reported by the panic hook.
        let _: thread::Result<()> = thread.join();
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Nobody asked: there is nobody to tell either.
        let _: Result<(), Unwritten> = self.finish(DROP_WAIT);
    }
}

/// The queue between those who log and the thread that writes.
pub(crate) struct Outlet {
    queue: Mutex<Queue>,
    /// For the writer: lines came, or the end. For `close`: the thread ended.
    changed: Condvar,
    drops: Drops,
}

#[derive(Default)]
struct Queue {
    buffer: Vec<u8>,
    /// Lines in `buffer`.
    lines: u64,
    /// Lines in the writer's hands.
    writing: u64,
    writer: Writer,
    closed: bool,
    ended: bool,
}

/// What the writing thread does, hence when to wake it.
#[derive(Default, PartialEq, Eq)]
enum Writer {
    /// Writes, or was woken: it looks at the queue by itself.
    #[default]
    Busy,
    /// Waits for a first line.
    Idle,
    /// Gathers: waits for enough lines, or a little time.
    Gathers,
}

impl Outlet {
    /// Queues whole lines, or drops and counts them. Waits for nothing but the queue's lock, which is only ever held for a
    /// copy in memory.
    pub(crate) fn offer(&self, bytes: &[u8], lines: u64) -> bool {
        let mut queue = self.lock();
        if queue.closed || queue.buffer.len() + bytes.len() > QUEUE {
            drop(queue);
            self.dropped(lines);
            return false;
        }
        queue.buffer.extend_from_slice(bytes);
        queue.lines += lines;
        // A writer that gathers wakes by itself: a wake-up for each flush would cost more than the writing.
        let wake = match queue.writer {
            Writer::Busy => false,
            Writer::Idle => true,
            Writer::Gathers => queue.buffer.len() >= GATHERED,
        };
        if wake {
            queue.writer = Writer::Busy;
            self.changed.notify_all();
        }
        true
    }

    fn dropped(&self, lines: u64) {
        (self.drops.count)(lines);
        if let Some(reports) = &self.drops.reports {
            reports.lines.fetch_add(lines, Relaxed);
            reports.now_and_then();
        }
    }

    /// Body of the thread.
    fn write_all(&self, mut destination: impl Write, gather: Duration) {
        let mut bytes = Vec::new();
        loop {
            let lines = {
                let mut queue = self.lock();
                queue.writing = 0;
                if queue.buffer.is_empty() {
                    queue.writer = Writer::Idle;
                    let nothing = |queue: &mut Queue| queue.buffer.is_empty() && !queue.closed;
                    queue = self
                        .changed
                        .wait_while(queue, nothing)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if !gather.is_zero() {
                    queue.writer = Writer::Gathers;
                    let few = |queue: &mut Queue| queue.buffer.len() < GATHERED && !queue.closed;
                    (queue, _) = self
                        .changed
                        .wait_timeout_while(queue, gather, few)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                queue.writer = Writer::Busy;
                if queue.buffer.is_empty() && queue.closed {
                    queue.ended = true;
                    self.changed.notify_all();
                    return;
                }
                std::mem::swap(&mut bytes, &mut queue.buffer);
                queue.writing = std::mem::take(&mut queue.lines);
                queue.writing
            };
            if write_patiently(&mut destination, &bytes).is_err() {
                // A reader that is gone does not come back: what follows is lost as well, and counted.
                self.dropped(lines);
            }
            bytes.clear();
            bytes.shrink_to(KEEP);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent between any two statements: a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    /// Says in the operational log how many lines were dropped since it last said so, unless that was just now.
    fn now_and_then(&self) {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < REPORT_EVERY) {
                return;
            }
            *last = Some(now);
        }
        self.at_once();
    }

    fn at_once(&self) {
        let lines = self.lines.swap(0, Relaxed);
        if lines > 0 {
            tracing::warn!(
                lines,
                "access log lines dropped: whoever reads standard output is too slow or gone"
            );
        }
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet")
    }
}

/// `write_all` that also serves a descriptor which another process of the terminal made non-blocking.
fn write_patiently(destination: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match destination.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    destination.flush()
}

#[cfg(test)]
mod tests;
