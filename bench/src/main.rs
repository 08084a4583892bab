//! `hnp-bench`: measures HNP and its peers.

use clap::{Parser, Subcommand};

/// Measures HNP and its peers.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  cargo xtask bench tunnel --quick\n  hnp-bench reactor")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().verb {
        #[cfg(feature = "reactors")]
        Verb::Reactor(reactors) => reactors.run(),
        #[cfg(feature = "reactors")]
        Verb::Relay(relay) => relay.run(),
        Verb::Upstream => hnp_bench::upstream::serve(),
        Verb::Generate => hnp_bench::load::generate(),
    }
}
