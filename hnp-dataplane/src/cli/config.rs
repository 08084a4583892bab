//! `hnp config check` and `hnp config show`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::USAGE;
use crate::config::{self, ConfigError, Loaded, Sources};

/// Says everything that is wrong, or that nothing is.
pub(super) fn check(sources: &Sources, as_json: bool) -> ExitCode {
    let result = config::load(sources).and_then(Loaded::with_certificates);
    let code = exit_code(&result);
    if as_json {
        return print(&pretty(&report(sources, &result)), code);
    }
    match result {
        Ok(loaded) => {
            warn(&loaded);
            let what = sources
                .file
                .as_deref()
                .map_or("the configuration".into(), Path::to_string_lossy);
            print(&format!("{what}: ok\n"), code)
        }
        Err(error) => {
            eprintln!("{error}");
            code
        }
    }
}

/// Prints the effective configuration.
pub(super) fn show(sources: &Sources, as_json: bool) -> ExitCode {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    warn(&loaded);
    if as_json {
        return print(&pretty(&json!(loaded.config.redacted())), ExitCode::SUCCESS);
    }
    match loaded.to_toml() {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("error: cannot write the configuration as TOML: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(result: &Result<Loaded, ConfigError>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(USAGE),
    }
}

fn report(sources: &Sources, result: &Result<Loaded, ConfigError>) -> serde_json::Value {
    let file = sources.file.as_deref();
    match result {
        Ok(loaded) => json!({"ok": true, "file": file, "errors": [], "warnings": loaded.warnings}),
        Err(error) => match error.diagnostics() {
            [] => {
                json!({"ok": false, "file": file, "errors": [{"message": error.summary()}], "warnings": []})
            }
            errors => json!({"ok": false, "file": file, "errors": errors, "warnings": []}),
        },
    }
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("{warning}\n");
    }
}

pub(super) fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Prints to standard output; a reader that has gone away is not a failure of ours worth a panic.
pub(super) fn print(text: &str, code: ExitCode) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
