//! `hnp run`.

use std::process::ExitCode;

use super::USAGE;
use crate::config::{self, Loaded, Sources};

/// Serves until it is told to stop; the exit code says how that went.
pub(super) fn run(sources: Sources) -> ExitCode {
    match config::load(&sources) {
        Ok(loaded) => serve(&loaded, &sources),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Where the data plane takes over.
fn serve(_loaded: &Loaded, _sources: &Sources) -> ExitCode {
    eprintln!(
        "error: this build reads and checks its configuration, and has no data plane to run it with yet"
    );
    ExitCode::FAILURE
}
