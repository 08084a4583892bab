//! `hnp exec`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{Environment, Flags, Sources};
use crate::exec;

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// The configuration file: [intercept.rules] and what they need. Environment: HNP_CONFIG. Without one, everything is relayed.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not print where the command connected.
    #[arg(long, short)]
    quiet: bool,
    /// Print where the command connected as one line of JSON.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print it to this file rather than to standard error.
    #[arg(long, short, value_name = "FILE", conflicts_with = "quiet")]
    output: Option<PathBuf>,
    /// Worker threads. Default: 1.
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// auto, io_uring or epoll.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// What hnp says of its own, on standard error: error, warn, info, debug or trace. Default: warn.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; the exit code is the command's.
pub(super) fn run(args: ExecArgs) -> ExitCode {
    let environment = Environment::of_process();
    exec::run(exec::Options {
        words: args.command,
        sources: Sources {
            file: args.config.or_else(|| environment.config_file()),
            environment,
            flags: Flags {
                workers: args.workers,
                backend: args.backend,
                log_level: Some(args.log_level.unwrap_or_else(|| "warn".to_owned())),
                ..Flags::default()
            },
        },
        quiet: args.quiet,
        json: args.json,
        output: args.output,
    })
}
