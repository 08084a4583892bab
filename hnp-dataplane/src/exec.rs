//! `hnp exec`: one command with its TCP connections intercepted, and a table of where they went.
//!
//! ```text
//! cgroup         made for the command, removed at its end
//! interception   the programs attached to it, and what they and the workers report
//! command        started in it, waited for
//! signals        passed on
//! ready          both are waited for on the control thread
//! table          what it did
//! ```
//!
//! Nothing is pinned: whatever ends hnp closes the links, and the command goes on connecting directly.

mod cgroup;
mod command;
mod interception;
mod ready;
mod signals;
pub(crate) mod table;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::admin::metrics::Metrics;
use crate::cli::USAGE;
use crate::config::{self, Loaded, Sources};
use crate::telemetry::Telemetry;
use cgroup::Cgroup;
use command::{Before, Running};
use interception::Interception;
use signals::Blocked;
use table::Table;

/// How long the log's reader has at the end to take what is left.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is asked for.
pub(crate) struct Options {
    /// The command and its arguments.
    pub(crate) words: Vec<OsString>,
    pub(crate) sources: Sources,
    /// Print no table.
    pub(crate) quiet: bool,
    /// Print JSON.
    pub(crate) json: bool,
    /// Print it there; absent: to standard error.
    pub(crate) output: Option<PathBuf>,
}

/// How a command went.
struct Ended {
    code: u8,
    table: Table,
    /// Processes that outlived it.
    left: usize,
    /// Their connections that were cut.
    cut: usize,
}

/// Runs the command to its end. The exit code is the command's.
pub(crate) fn run(options: Options) -> ExitCode {
    // Before any thread is started, so that none takes a signal.
    let blocked = match Blocked::new() {
        Ok(blocked) => blocked,
        Err(error) => return failed(&format!("cannot take signals: {error}")),
    };
    let loaded = match config::load_any(&options.sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    let workers = loaded.config.workers.map_or(1, usize::from);
    let metrics = Metrics::new(workers);
    let telemetry = match Telemetry::init(&loaded.config.log, Arc::clone(&metrics)) {
        Ok(telemetry) => telemetry,
        Err(error) => return failed(&error.to_string()),
    };
    let begun = Instant::now();
    let ended = intercept(&options.words, loaded, metrics, blocked);
    if let Err(unwritten) = telemetry.close(LAST_LINES) {
        eprintln!("hnp: {unwritten}");
    }
    match ended {
        Ok(ended) => {
            let code = ended.code;
            match options.report(&ended, begun.elapsed()) {
                Ok(()) => ExitCode::from(code),
                Err(error) => failed(&format!("{error:#}")),
            }
        }
        Err(Failure::Command(error)) => {
            eprintln!("hnp: {error}");
            ExitCode::from(error.exit_code())
        }
        Err(Failure::Hnp(error)) => failed(&format!("{error:#}")),
    }
}

/// Why there is nothing to report.
enum Failure {
    Command(command::StartError),
    Hnp(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Hnp(error.into())
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("hnp: {message}");
    ExitCode::FAILURE
}

fn intercept(
    words: &[OsString],
    loaded: Loaded,
    metrics: Arc<Metrics>,
    blocked: Blocked,
) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread's runtime")?;
    let before = Before {
        signals: blocked.before(),
        open_files: raise_open_files(),
    };
    let cgroup = Cgroup::make()?;
    let result = runtime.block_on(async {
        let signals = blocked.read().context("cannot take signals")?;
        let mut table = Table::default();
        let mut interception = Interception::begin(&cgroup, loaded.config, &metrics, &mut table)?;
        let door = cgroup.door().context("cannot open the command's cgroup")?;
        let running = Running::start(words, door, before).map_err(Failure::Command)?;
        let waiting = async {
            let mut waiting = pin!(running.wait(&signals));
            tokio::select! {
                code = &mut waiting => return code,
                why = interception.watch() => {
                    tracing::error!("{why}: the command is no longer intercepted, and goes on");
                }
            }
            waiting.await
        };
        let code = waiting.await.context("cannot wait for the command")?;
        let left = cgroup.processes().len();
        let cut = interception.end(&signals, left > 0).await;
        Ok(Ended {
            code,
            table,
            left,
            cut,
        })
    });
    // Look-ups that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    let directory = cgroup.path().to_owned();
    if let Err(error) = cgroup.remove() {
        eprintln!(
            "hnp: the cgroup {} is still in use, and stays: {error}",
            directory.display()
        );
    }
    result
}

/// Raises the limit of open files as far as allowed; what it was.
fn raise_open_files() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some((soft, hard))
}

impl Options {
    /// Says where the command connected, and what has become of processes that outlived it.
    fn report(&self, ended: &Ended, took: Duration) -> anyhow::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let text = if self.json {
            let mut report = ended.table.to_json();
            let words = self.words.iter().map(|word| word.to_string_lossy());
            report["command"] = words.collect();
            report["exit_code"] = json!(ended.code);
            report["duration_ms"] = json!(took.as_secs_f64() * 1e3);
            report["processes_left"] = json!(ended.left);
            report["connections_cut"] = json!(ended.cut);
            format!("{report}\n")
        } else {
            let mut text = ended.table.to_text();
            if let Some(left) = ended.left_behind() {
                text.push_str(&left);
            }
            text
        };
        match &self.output {
            Some(path) => {
                fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
            }
            // Nobody reads it any more: the command has ended all the same.
            None => {
                let _ = io::stderr().lock().write_all(text.as_bytes());
                Ok(())
            }
        }
    }
}

impl Ended {
    fn left_behind(&self) -> Option<String> {
        let still = match self.left {
            0 => return None,
            1 => "a process of the command is".to_owned(),
            many => format!("{many} processes of the command are"),
        };
        let cut = match self.cut {
            0 => String::new(),
            1 => "; a connection was cut".to_owned(),
            many => format!("; {many} connections were cut"),
        };
        Some(format!(
            "hnp: {still} still running, and no longer intercepted{cut}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_left_behind_is_told_of() {
        let ended = |left, cut| Ended {
            code: 0,
            table: Table::default(),
            left,
            cut,
        };
        assert_eq!(ended(0, 0).left_behind(), None);
        let one = ended(1, 0).left_behind().unwrap();
        assert!(one.contains("a process of the command is still running") && !one.contains("cut"));
        let many = ended(3, 2).left_behind().unwrap();
        assert!(
            many.contains("3 processes of the command are")
                && many.contains("2 connections were cut")
        );
    }
}
