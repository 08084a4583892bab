//! `hnp-bench mtls`.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use hnp_bench::mutual::{self, ALL, HNP, OTHERS, Peer, Plan, Scenario};
use hnp_bench::peers::Programs;
use hnp_bench::report::Style;
use hnp_bench::scenario::Pace;

use crate::cpus::Cpus;

/// Measures mutual TLS: through HNP and through its peers.
#[derive(Debug, Args)]
pub(crate) struct Mtls {
    /// The binary `hnp`; without it only peers are measured
    #[arg(long)]
    hnp: Option<PathBuf>,
    /// What HNP's workers wait with: auto, io_uring or epoll
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Peers, by name: haproxy, nginx, envoy
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// The binary `envoy`, where it is not in PATH
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Measurements of each, interleaved
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measures less than half as long
    #[arg(long)]
    quick: bool,
    /// Only these, by name or group: handshake, handshake/full, requests, requests/both, bulk, bulk/out/down, idle
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Which CPUs the processes use
    #[arg(long, value_enum, default_value_t = Cpus::Chosen)]
    cpus: Cpus,
    /// Ends with the table
    #[arg(long, conflicts_with = "json")]
    no_verdicts: bool,
    /// Also writes everything measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Mtls {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "--rounds 0 measures nothing");
        let plan = Plan {
            scenarios: self.scenarios()?,
            rounds: self.rounds,
            pace: if self.quick { Pace::QUICK } else { Pace::FULL },
            peers: self.peers()?,
            placement: self.cpus.placement(),
            programs: Programs {
                hnp: self.hnp.clone().unwrap_or_default(),
                envoy: self.envoy,
                backend: self.backend,
                hnp_port: None,
            },
        };
        let findings = plan.run()?;
        let style = Style::detect();
        mutual::print(&plan, &findings, style);
        if !self.no_verdicts {
            let conclusion = mutual::conclude(&plan, &findings, style)?;
            if let Some(path) = &self.json {
                mutual::write_json(path, &plan, &findings, conclusion)?;
            }
        }
        // To be slow is reported; not to work is a failure.
        if let Some(gap) = findings.gaps.iter().find(|gap| gap.peer == HNP.name) {
            bail!("hnp could not be measured: {}", gap.why);
        }
        Ok(())
    }

    fn scenarios(&self) -> anyhow::Result<Vec<Scenario>> {
        for name in &self.scenario {
            ensure!(
                ALL.iter().any(|scenario| scenario.is_named(name)),
                "there is no scenario {name:?}; see --help"
            );
        }
        let wanted = |scenario: &Scenario| {
            self.scenario.is_empty() || self.scenario.iter().any(|name| scenario.is_named(name))
        };
        Ok(ALL.into_iter().filter(wanted).collect())
    }

    fn peers(&self) -> anyhow::Result<Vec<Peer>> {
        for name in &self.peers {
            ensure!(
                OTHERS.iter().any(|peer| peer.name == name),
                "there is no peer {name:?}; see --help"
            );
        }
        let others = OTHERS
            .into_iter()
            .filter(|peer| self.peers.iter().any(|name| name == peer.name));
        Ok(self.hnp.iter().map(|_| HNP).chain(others).collect())
    }
}
