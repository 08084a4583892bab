//! `cargo xtask run`: the main job on a fresh machine, from nothing to a table of figures.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::bench::{Peer, binary, build, measure};
use crate::shell::{self, say};

/// Builds HNP, starts it beside a local upstream and a load generator, and ends with a table: throughput, CPU seconds per GiB,
/// CONNECT/s, latencies and memory per idle tunnel, beside the same without a proxy. Takes about a minute and a half once built.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask run           # measure\n  cargo xtask run --serve   # leave it running and try it with curl\n  \
                        cargo xtask run --peers   # beside HAProxy, nginx, Squid, tinyproxy and Envoy"
)]
pub(crate) struct Args {
    /// Measures nothing: leaves upstream and HNP running until Ctrl-C, and prints a curl line to try.
    #[arg(long, conflicts_with_all = ["peers", "quick", "json", "scenario"])]
    serve: bool,
    /// Measures HAProxy, nginx, Squid, tinyproxy and Envoy, too; installs them where they are missing. Takes four times as long.
    #[arg(long)]
    peers: bool,
    /// Measures less than half as long.
    #[arg(long)]
    quick: bool,
    /// Only these, by name or group: bulk, bulk/8, bulk/8/down, churn, ping-pong, ping-pong/64, idle, stalled.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// What HNP's workers wait with: auto, io_uring or epoll.
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Also writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is shown of mutual TLS.
const IN_SHORT: &str = "handshake/full,requests/both/get,bulk/both/down";

/// Runs it.
///
/// # Errors
/// When something does not build or HNP does not work.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.serve {
        build()?;
        return shell::run(
            Command::new(binary("hnp-bench"))
                .arg("serve")
                .arg("--backend")
                .arg(&args.backend)
                .arg("--hnp")
                .arg(binary("hnp")),
        );
    }
    let mut command = measure(if args.peers { &Peer::ALL } else { &[] })?;
    command.args(["--rounds", "3", "--backend", &args.backend]);
    if args.quick {
        command.arg("--quick");
    }
    if !args.scenario.is_empty() {
        command.arg("--scenario").arg(args.scenario.join(","));
    }
    if let Some(json) = &args.json {
        command.arg("--json").arg(json);
    }
    say("measuring: upstream, hnp and load generator share this machine");
    shell::run(&mut command)?;
    if !args.scenario.is_empty() {
        return Ok(());
    }
    say("the same over mutual TLS, in short; `cargo xtask bench mtls` compares and judges");
    shell::run(
        Command::new(binary("hnp-bench"))
            .args(["mtls", "--quick", "--rounds", "1", "--no-verdicts"])
            .args(["--scenario", IN_SHORT, "--backend", &args.backend])
            .arg("--hnp")
            .arg(binary("hnp")),
    )
}
