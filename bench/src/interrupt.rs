//! Ctrl-C and the like: what the benchmark made is removed; what it started ends by its end.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};

type Removal = Box<dyn FnOnce() + Send>;

static REMOVALS: Mutex<Vec<Removal>> = Mutex::new(Vec::new());

/// Has the signals that end a program taken by a thread that cleans up first. Call it before other threads are there: they
/// inherit that these signals are not for them.
///
/// # Errors
/// When no thread can be started.
pub fn watch() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        // The last first, as values are dropped.
        while let Some(remove) = removals().pop() {
            remove();
        }
        std::process::exit(128 + signal as i32);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("cannot start a thread for signals")?;
    Ok(())
}

/// Has a directory deleted, should a signal end the program.
pub(crate) fn delete_too(directory: &Path) {
    let directory = directory.to_owned();
    remove_too(move || {
        // It may be gone already.
        let _gone = std::fs::remove_dir_all(directory);
    });
}

/// Has something removed, should a signal end the program.
pub(crate) fn remove_too(removal: impl FnOnce() + Send + 'static) {
    removals().push(Box::new(removal));
}

fn removals() -> MutexGuard<'static, Vec<Removal>> {
    REMOVALS.lock().unwrap_or_else(PoisonError::into_inner)
}
