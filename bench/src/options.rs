//! What the comparisons are told alike.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use hnp_bench::peers::Programs;
use hnp_bench::placement::Placement;
use hnp_bench::scenario::Pace;

use crate::cpus::Cpus;

/// Options of every comparison.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The binary `hnp`; without it only peers are measured
    #[arg(long)]
    hnp: Option<PathBuf>,
    /// What HNP's workers wait with: auto, io_uring or epoll
    #[arg(long, default_value = "auto")]
    backend: String,
    /// The binary `envoy`, where it is not in PATH
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Measurements of each, interleaved
    #[arg(long, default_value_t = 3, value_parser = rounds)]
    pub(crate) rounds: usize,
    /// Measures less than half as long
    #[arg(long)]
    quick: bool,
    /// Which CPUs the processes use
    #[arg(long, value_enum, default_value_t = Cpus::Chosen)]
    cpus: Cpus,
    /// Also writes everything measured to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 rounds measure nothing".to_owned()),
        Ok(rounds) => Ok(rounds),
        Err(error) => Err(format!("{error}")),
    }
}

impl Options {
    /// How long each measurement takes.
    pub(crate) fn pace(&self) -> Pace {
        if self.quick { Pace::QUICK } else { Pace::FULL }
    }

    /// Instead of what each scenario wants.
    pub(crate) fn placement(&self) -> Option<Placement> {
        self.cpus.placement()
    }

    /// Where the peers' programs are.
    pub(crate) fn programs(&self) -> Programs {
        Programs {
            hnp: self.hnp.clone().unwrap_or_default(),
            envoy: self.envoy.clone(),
            backend: self.backend.clone(),
            hnp_port: None,
        }
    }

    /// HNP, where its program was named, and those of the others that `names` has.
    pub(crate) fn peers<P: Copy>(
        &self,
        hnp: P,
        others: &[P],
        names: &[String],
        is_named: impl Fn(&P, &str) -> bool,
    ) -> anyhow::Result<Vec<P>> {
        check("peer", others, names, &is_named)?;
        let others = others
            .iter()
            .filter(|peer| names.iter().any(|name| is_named(peer, name)));
        Ok(self
            .hnp
            .iter()
            .map(|_| hnp)
            .chain(others.copied())
            .collect())
    }
}

/// Those scenarios that `names` has: all, where it has none.
pub(crate) fn scenarios<S: Copy>(
    all: &[S],
    names: &[String],
    is_named: impl Fn(&S, &str) -> bool,
) -> anyhow::Result<Vec<S>> {
    check("scenario", all, names, &is_named)?;
    let wanted = |one: &&S| names.is_empty() || names.iter().any(|name| is_named(one, name));
    Ok(all.iter().filter(wanted).copied().collect())
}

fn check<T>(
    kind: &str,
    all: &[T],
    names: &[String],
    is_named: &impl Fn(&T, &str) -> bool,
) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            all.iter().any(|one| is_named(one, name)),
            "there is no {kind} {name:?}; see --help"
        );
    }
    Ok(())
}
