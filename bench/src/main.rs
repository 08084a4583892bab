//! `hnp-bench`: measures HNP and its peers.

mod cpus;
mod mtls;
mod options;
mod records;
mod serve;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hnp_bench::{intercept, interrupt, mutual};

/// Measures HNP and its peers.
#[derive(Debug, Parser)]
#[command(
    after_help = "Usually called by `cargo xtask run` and `cargo xtask bench`, which build what it needs."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measures tunnels: through HNP, through its peers and without a proxy
    Tunnel(tunnel::Tunnel),
    /// Measures mutual TLS: through HNP and through its peers
    Mtls(mtls::Mtls),
    /// Measures what interception costs a pod: to connect, and to talk directly
    Intercept {
        /// Measurements of each, interleaved
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Measures less than half as long
        #[arg(long)]
        quick: bool,
        /// HNP's binary
        #[arg(long)]
        hnp: PathBuf,
    },
    /// The process in the pod of `intercept`
    #[command(hide = true)]
    InterceptClient(intercept::Client),
    /// Measures what the machine is able to: TLS records and handshakes in memory
    Records(records::Records),
    /// Starts a local upstream and HNP, and prints a line to try
    Serve(serve::Serve),
    /// Compares what a round trip costs on several reactors
    #[cfg(feature = "reactors")]
    Reactor(hnp_bench::reactor::Reactors),
    /// One relay of the comparison, as a process of its own
    #[cfg(feature = "reactors")]
    #[command(hide = true)]
    Relay(hnp_bench::reactor::Relay),
    /// The upstream, as a process of its own
    #[command(hide = true)]
    Upstream,
    /// The load generator, as a process of its own
    #[command(hide = true)]
    Generate,
    /// The manager of `mtls`, as a process of its own
    #[command(hide = true)]
    Manager { pki: PathBuf },
    /// The load generator of `mtls`, as a process of its own
    #[command(hide = true)]
    GenerateMtls,
    /// The relay of `mtls`, as a process of its own
    #[command(hide = true)]
    Copy { port: u16, upstream: SocketAddr },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Tunnel(tunnel) => interrupt::watch().and_then(|()| tunnel.run()),
        Verb::Mtls(mtls) => interrupt::watch().and_then(|()| mtls.run()),
        Verb::Intercept { rounds, quick, hnp } => {
            interrupt::watch().and_then(|()| intercept::Plan { rounds, quick, hnp }.run())
        }
        Verb::InterceptClient(client) => client.run(),
        Verb::Records(records) => records.run(),
        Verb::Serve(serve) => interrupt::watch().and_then(|()| serve.run()),
        #[cfg(feature = "reactors")]
        Verb::Reactor(reactors) => interrupt::watch().and_then(|()| reactors.run()),
        #[cfg(feature = "reactors")]
        Verb::Relay(relay) => relay.run(),
        Verb::Upstream => hnp_bench::upstream::serve(),
        Verb::Generate => hnp_bench::load::generate(),
        Verb::Manager { pki } => mutual::manager(&pki),
        Verb::GenerateMtls => mutual::generate(),
        Verb::Copy { port, upstream } => mutual::relay(port, upstream),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes on one line; a backtrace of the benchmark helps nobody.
            eprintln!("hnp-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
