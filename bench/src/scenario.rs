//! What is measured.

use std::time::Duration;

use crate::load::Load;
use crate::placement::Placement;

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line and in JSON; the part before the first `/` names its group.
    pub key: &'static str,
    /// Its heading in tables.
    pub title: &'static str,
    /// What the generator does.
    pub load: Load,
    /// Tunnels at once.
    pub tunnels: u32,
    /// Which CPUs the processes use.
    pub placement: Placement,
}

/// How long things are measured.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before anything is counted.
    pub warm_up: Duration,
    /// While it is counted.
    pub window: Duration,
}

impl Pace {
    /// What gives medians that are steady within a few percent over three rounds.
    pub const FULL: Pace = Pace {
        warm_up: Duration::from_millis(250),
        window: Duration::from_millis(1000),
    };
    /// For a first look.
    pub const QUICK: Pace = Pace {
        warm_up: Duration::from_millis(100),
        window: Duration::from_millis(400),
    };
}

/// Tunnels of the idle scenario: a proxy uses two descriptors for each, and the machines that this runs on give 20,000.
pub const IDLE_TUNNELS: u32 = 8000;
/// Tunnels of the stalled scenario.
pub const STALLED_TUNNELS: u32 = 64;

impl Scenario {
    /// Whether tunnels are opened and held while memory is looked at; such a scenario starts with a fresh proxy.
    pub fn holds(&self) -> bool {
        matches!(self.load, Load::Idle | Load::Stalled)
    }

    /// Whether a name given on the command line (`bulk`, `bulk/64`, `bulk/64/down`) means this one.
    pub fn is_named(&self, name: &str) -> bool {
        self.key
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// All of them, in the order of the report.
pub const ALL: [Scenario; 11] = [
    bulk("bulk/1/down", "bulk, 1 tunnel, download", Load::Download, 1),
    bulk("bulk/1/up", "bulk, 1 tunnel, upload", Load::Upload, 1),
    bulk(
        "bulk/8/down",
        "bulk, 8 tunnels, download",
        Load::Download,
        8,
    ),
    bulk("bulk/8/up", "bulk, 8 tunnels, upload", Load::Upload, 8),
    bulk(
        "bulk/64/down",
        "bulk, 64 tunnels, download",
        Load::Download,
        64,
    ),
    bulk("bulk/64/up", "bulk, 64 tunnels, upload", Load::Upload, 64),
    Scenario {
        key: "churn",
        title: "open, 64-byte echo, close; 32 at a time",
        load: Load::Churn,
        tunnels: 32,
        placement: Placement::Apart,
    },
    Scenario {
        key: "ping-pong/1",
        title: "64-byte ping-pong, 1 tunnel",
        load: Load::PingPong,
        tunnels: 1,
        placement: Placement::Together,
    },
    Scenario {
        key: "ping-pong/64",
        title: "64-byte ping-pong, 64 tunnels",
        load: Load::PingPong,
        tunnels: 64,
        placement: Placement::Together,
    },
    Scenario {
        key: "idle",
        title: "8,000 idle tunnels",
        load: Load::Idle,
        tunnels: IDLE_TUNNELS,
        placement: Placement::Free,
    },
    Scenario {
        key: "stalled",
        title: "64 clients that do not read",
        load: Load::Stalled,
        tunnels: STALLED_TUNNELS,
        placement: Placement::Free,
    },
];

const fn bulk(key: &'static str, title: &'static str, load: Load, tunnels: u32) -> Scenario {
    Scenario {
        key,
        title,
        load,
        tunnels,
        placement: Placement::Free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_scenario_or_its_group() {
        let named = |name: &str| {
            ALL.iter()
                .filter(|scenario| scenario.is_named(name))
                .count()
        };
        assert_eq!(named("bulk"), 6);
        assert_eq!(named("bulk/64"), 2);
        assert_eq!(named("bulk/6"), 0);
        assert_eq!(named("ping-pong"), 2);
        assert_eq!(named("idle"), 1);
        assert_eq!(named("nothing"), 0);
    }
}
