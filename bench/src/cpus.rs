//! `--cpus`.

use clap::ValueEnum;
use hnp_bench::placement::Placement;

/// Which CPUs the processes of a measurement use.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Cpus {
    /// What makes each scenario repeatable
    Chosen,
    /// The scheduler's choice, always
    Free,
    /// All on one, always
    Together,
    /// The proxy on its own, always
    Apart,
}

impl Cpus {
    /// Instead of what each scenario wants.
    pub(crate) fn placement(self) -> Option<Placement> {
        match self {
            Cpus::Chosen => None,
            Cpus::Free => Some(Placement::Free),
            Cpus::Together => Some(Placement::Together),
            Cpus::Apart => Some(Placement::Apart),
        }
    }
}
