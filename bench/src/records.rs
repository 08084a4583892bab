//! `hnp-bench records`.

use std::time::Duration;

use clap::Args;
use hnp_bench::limits::Limits;

/// Measures what the machine is able to: TLS records and handshakes in memory, on one thread.
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// Measurements of each, interleaved
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Records {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let limits = Limits::measure(self.rounds, Duration::from_millis(500))?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&limits)?);
        } else {
            print!("{limits}");
        }
        Ok(())
    }
}
