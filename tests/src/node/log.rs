//! What a node writes, line by line, as events.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::{DEADLINE, patient};

/// The lines of both outputs in the order they came.
#[derive(Debug, Clone, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    ended: usize,
}

impl Log {
    /// Reads both outputs until they end.
    pub(super) fn follow(
        stdout: impl Read + Send + 'static,
        stderr: impl Read + Send + 'static,
    ) -> Log {
        let log = Log::default();
        log.read(stdout);
        log.read(stderr);
        log
    }

    fn read(&self, output: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                shared.lines.lock().unwrap().all.push(text);
                shared.changed.notify_all();
            }
            shared.lines.lock().unwrap().ended += 1;
            shared.changed.notify_all();
        });
    }

    /// How many lines there are: a mark to wait from.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.lines.lock().unwrap().all.len()
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap().all.clone()
    }

    /// Waits for a line that holds every one of `parts`.
    ///
    /// # Panics
    /// When it does not come before the outputs end or [`DEADLINE`] has passed.
    pub fn await_line(&self, parts: &[&str]) -> String {
        self.await_line_after(0, parts)
    }

    /// Waits for a line after `mark` that holds every one of `parts`.
    ///
    /// # Panics
    /// When it does not come before the outputs end or [`DEADLINE`] has passed.
    pub fn await_line_after(&self, mark: usize, parts: &[&str]) -> String {
        let found = self.scan(mark, |line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|why| panic!("no line with {parts:?} ({why}):\n{self}"))
    }

    /// Waits for the outputs to end.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub fn await_end(&self) {
        let end = self.scan(0, |_| false).unwrap_err();
        assert_eq!(end, "the outputs ended", "{self}");
    }

    fn scan(&self, from: usize, matches: impl Fn(&str) -> bool) -> Result<String, &'static str> {
        let end = Instant::now() + patient(DEADLINE);
        let mut next = from;
        let mut lines = self.shared.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.all.iter().skip(next).find(|line| matches(line)) {
                return Ok(line.clone());
            }
            next = next.max(lines.all.len());
            if lines.ended == 2 {
                return Err("the outputs ended");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the deadline passed");
            }
            lines = self.shared.changed.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        // The last lines tell; ten thousand tunnels' do not.
        let skipped = lines.len().saturating_sub(200);
        if skipped > 0 {
            writeln!(f, "({skipped} lines before)")?;
        }
        lines[skipped..]
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}
