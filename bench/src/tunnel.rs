//! `hnp-bench tunnel`.

use anyhow::bail;
use clap::Args;
use hnp_bench::peers::{HNP, OTHERS};
use hnp_bench::report::{self, Style};
use hnp_bench::scenario::{ALL, Scenario};
use hnp_bench::session::Plan;

use crate::options::{self, Options};

/// Measures tunnels: through HNP, through its peers and without a proxy.
#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    #[command(flatten)]
    options: Options,
    /// Peers, by name: haproxy, nginx, squid, tinyproxy, envoy
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these, by name or group: bulk, bulk/8, bulk/8/down, churn, ping-pong, ping-pong/64, idle, stalled
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
}

impl Tunnel {
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
        let verdicts = report::print(&plan, &findings, Style::detect());
        if let Some(path) = &options.json {
            report::write_json(path, &plan, &findings, &verdicts)?;
        }
        // To be slow is reported; not to work is a failure.
        if let Some(gap) = findings.gaps.iter().find(|gap| gap.peer == HNP.name) {
            bail!("hnp could not be measured: {}", gap.why);
        }
        Ok(())
    }
}
