//! `hnp observe`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FileArgs, USAGE};
use crate::config;
use crate::config::model::InterceptAction;
use crate::observe::{self, Filter};

#[derive(Debug, Args)]
pub(super) struct ObserveArgs {
    #[command(flatten)]
    sources: FileArgs,
    /// The control socket of the running HNP, rather than the configuration's.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Only connections of pods whose name begins so; may be given several times.
    #[arg(long, value_name = "POD")]
    pod: Vec<String>,
    /// Only connections with this decision: relay, tunnel, mtls, direct or deny; may be given several times.
    #[arg(long, value_name = "DECISION", value_parser = decision)]
    decision: Vec<InterceptAction>,
    /// Beginnings of connections, too, and not only their ends and refusals.
    #[arg(long)]
    all: bool,
    /// Print a line of JSON for each.
    #[arg(long)]
    json: bool,
}

/// Prints until there is nothing more to print.
pub(super) fn run(args: ObserveArgs) -> ExitCode {
    let control = match args.control {
        Some(control) => control,
        None => match config::load_any(&args.sources.into_sources()) {
            Ok(loaded) => loaded.config.intercept.unwrap_or_default().control,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(USAGE);
            }
        },
    };
    let filter = Filter {
        pods: args.pod,
        decisions: args.decision,
        all: args.all,
    };
    observe::run(&control, &filter, args.json)
}

fn decision(text: &str) -> Result<InterceptAction, String> {
    use InterceptAction::{Deny, Direct, Mtls, Relay, Tunnel};
    [Relay, Tunnel, Mtls, Direct, Deny]
        .into_iter()
        .find(|action| action.as_str() == text)
        .ok_or_else(|| "use relay, tunnel, mtls, direct or deny".to_owned())
}
