//! `hnp check`.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use serde_json::json;

use super::USAGE;
use super::config::{pretty, print};
use crate::check;
use crate::config::{self, Sources};

/// Tries what `hnp run` will need, and says what is not there.
pub(super) fn run(sources: &Sources, as_json: bool, intercept: bool) -> ExitCode {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            let code = ExitCode::from(USAGE);
            return match as_json {
                true => print(&pretty(&json!(check::Report::refused(&error))), code),
                false => code,
            };
        }
    };
    let report = check::check(loaded, intercept);
    let code = match report.failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    if as_json {
        return print(&pretty(&json!(report)), code);
    }
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&report.text(colours), code)
}
