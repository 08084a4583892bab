//! Ctrl-C and the like: what the benchmark wrote is deleted; what it started ends by its end.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};

static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

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
        for directory in DIRECTORIES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            // It may be gone already.
            let _gone = std::fs::remove_dir_all(directory);
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
    DIRECTORIES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(directory.to_owned());
}
