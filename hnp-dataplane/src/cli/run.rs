//! `hnp run`.

use std::process::ExitCode;

use super::USAGE;
use crate::config::{self, Sources};

/// Serves until it is told to stop; the exit code says how that went.
pub(super) fn run(sources: Sources) -> ExitCode {
    match config::load(&sources) {
        Ok(loaded) => crate::run::run(loaded, sources),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}
