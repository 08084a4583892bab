//! `hnp-bench mtls`.

use anyhow::bail;
use clap::Args;
use hnp_bench::mutual::{self, ALL, HNP, OTHERS, Plan, Scenario};
use hnp_bench::report::Style;

use crate::options::{self, Options};

/// Measures mutual TLS: through HNP and through its peers.
#[derive(Debug, Args)]
pub(crate) struct Mtls {
    #[command(flatten)]
    options: Options,
    /// Peers, by name: haproxy, nginx, envoy
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these, by name or group: handshake, handshake/full, requests, requests/both, bulk, bulk/out/down, idle
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Ends with the table
    #[arg(long, conflicts_with = "json")]
    no_verdicts: bool,
}

impl Mtls {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = &self.options;
        let plan = Plan {
            scenarios: options::scenarios(&ALL, &self.scenario, Scenario::is_named)?,
            rounds: options.rounds,
            pace: options.pace(),
            peers: options.peers(HNP, &OTHERS, &self.peers, |peer, name| peer.name == name)?,
            placement: options.placement(),
            programs: options.programs(),
        };
        let findings = plan.run()?;
        let style = Style::detect();
        mutual::print(&plan, &findings, style);
        if !self.no_verdicts {
            let conclusion = mutual::conclude(&plan, &findings, style)?;
            if let Some(path) = &options.json {
                mutual::write_json(path, &plan, &findings, conclusion)?;
            }
        }
        // To be slow is reported; not to work is a failure.
        if let Some(gap) = findings.gaps.iter().find(|gap| gap.peer == HNP.name) {
            bail!("hnp could not be measured: {}", gap.why);
        }
        Ok(())
    }
}
