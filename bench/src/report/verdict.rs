//! What HNP has to show, each with the figures that show it or not.

use serde::Serialize;

use super::table::number;
use super::{Style, Summary};
use crate::figures::{KIB, Metric, Spread};
use crate::peers::HNP;
use crate::scenario::{ALL, Scenario};
use crate::session::{DIRECT, Plan};

/// Resident memory that an idle tunnel may cost, KiB.
const IDLE_KIB: f64 = 3.0;
/// Resident memory that a stalled tunnel may cost, KiB: what it has in flight belongs in the kernel's buffers.
const STALLED_KIB: f64 = 64.0;
/// What a relay may hold of a stalled tunnel beside the kernel's buffers, KiB: a pipe of the largest size.
const STALLED_PIPE: f64 = 1024.0;

/// One demand and how it fared.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// What is demanded.
    pub demand: String,
    /// Whether it is met; none where it was not measured.
    pub met: Option<bool>,
    /// The figures.
    pub figures: String,
}

impl Verdict {
    /// For people.
    pub fn line(&self, style: Style) -> String {
        let word = match self.met {
            Some(true) => style.good("met    "),
            Some(false) => style.bad("NOT MET"),
            None => style.dim("unknown"),
        };
        format!("{word}  {}: {}", self.demand, self.figures)
    }
}

/// Judges whatever of the demands the plan covers.
pub(super) fn verdicts(summary: &Summary, plan: &Plan) -> Vec<Verdict> {
    let planned = |peer: &str| plan.peers.iter().any(|planned| planned.name == peer);
    let mut verdicts = Vec::new();
    for scenario in ALL.iter().filter(|scenario| {
        plan.scenarios
            .iter()
            .any(|planned| planned.key == scenario.key)
    }) {
        let mut compare = |metric: Metric, peer: &'static str, limit: f64| {
            if planned(peer) {
                verdicts.push(ratio(summary, scenario, metric, peer, limit));
            }
        };
        let group = scenario.key.split('/').next().unwrap_or_default();
        match group {
            "bulk" => {
                compare(Metric::CpuPerGib, "haproxy", 1.0);
                compare(Metric::CpuPerGib, "squid", 0.5);
            }
            "churn" => {
                compare(Metric::PerSecond, "tinyproxy", 1.5);
                for peer in connect_peers(plan) {
                    compare(Metric::P99, peer, 1.0);
                }
            }
            "ping-pong" => {
                for peer in connect_peers(plan) {
                    for metric in [Metric::PerSecond, Metric::P50, Metric::P99] {
                        compare(metric, peer, 1.0);
                    }
                }
            }
            "idle" => verdicts.push(at_most(summary, scenario, Metric::RssPerTunnel, IDLE_KIB)),
            _ => {
                verdicts.push(at_most(
                    summary,
                    scenario,
                    Metric::RssPerTunnel,
                    STALLED_KIB,
                ));
                verdicts.push(taken(summary, scenario));
            }
        }
    }
    verdicts
}

/// Peers that are asked with CONNECT, as HNP is.
fn connect_peers(plan: &Plan) -> impl Iterator<Item = &'static str> {
    plan.peers
        .iter()
        .filter(|peer| peer.connect && peer.name != HNP.name)
        .map(|peer| peer.name)
}

/// HNP's figure against a multiple of the peer's: at least that where more is better, else at most.
fn ratio(
    summary: &Summary,
    scenario: &Scenario,
    metric: Metric,
    peer: &'static str,
    limit: f64,
) -> Verdict {
    let more = metric.more_is_better();
    let demand = format!(
        "{}, {} {} {limit:.1}x {peer}",
        scenario.title,
        metric.title(),
        if more { ">=" } else { "<=" }
    );
    let Some((own, other)) =
        summary
            .get(scenario.key, HNP.name, metric)
            .zip(summary.get(scenario.key, peer, metric))
    else {
        return Verdict {
            demand,
            met: None,
            figures: format!("hnp or {peer} was not measured"),
        };
    };
    let ratio = own.median / other.median;
    let met = if more { ratio >= limit } else { ratio <= limit };
    let figures = format!("{ratio:.2}x (hnp {}, {peer} {})", told(own), told(other));
    Verdict {
        demand,
        met: Some(met),
        figures,
    }
}

fn at_most(summary: &Summary, scenario: &Scenario, metric: Metric, limit: f64) -> Verdict {
    let demand = format!("{}, {} <= {limit:.0}", scenario.title, metric.title());
    match summary.get(scenario.key, HNP.name, metric) {
        Some(own) => Verdict {
            demand,
            met: Some(own.median <= limit),
            figures: format!("hnp {}", told(own)),
        },
        None => Verdict {
            demand,
            met: None,
            figures: "hnp was not measured".to_owned(),
        },
    }
}

/// A stalled tunnel is two connections, each with a send and a receive buffer as large as the kernel lets them grow.
fn taken(summary: &Summary, scenario: &Scenario) -> Verdict {
    let most = |name: &str, usual: f64| {
        let three =
            std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        three
            .split_whitespace()
            .nth(2)
            .and_then(|bytes| bytes.parse::<f64>().ok())
            .unwrap_or(usual)
            / KIB
    };
    let limit = 2.0 * (most("tcp_wmem", 4.0 * KIB * KIB) + most("tcp_rmem", 6.0 * KIB * KIB))
        + STALLED_PIPE;
    let metric = Metric::TakenPerTunnel;
    let demand = format!(
        "{}, {} <= {} (the kernel's buffers and a pipe)",
        scenario.title,
        metric.title(),
        number(limit)
    );
    let Some(own) = summary.get(scenario.key, HNP.name, metric) else {
        return Verdict {
            demand,
            met: None,
            figures: "hnp was not measured".to_owned(),
        };
    };
    let direct = summary
        .get(scenario.key, DIRECT, metric)
        .map(|direct| format!(", one connection {}", told(direct)));
    let figures = format!("hnp {}{}", told(own), direct.unwrap_or_default());
    Verdict {
        demand,
        met: Some(own.median <= limit),
        figures,
    }
}

pub(crate) fn told(spread: Spread) -> String {
    if spread.count > 1 {
        format!(
            "{} [{} - {}]",
            number(spread.median),
            number(spread.least),
            number(spread.most)
        )
    } else {
        number(spread.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::peers::{OTHERS, Programs};
    use crate::scenario::Pace;
    use crate::session::{Findings, Record};

    /// Verdicts on churn, and nothing else, from (peer, rate, p99).
    fn churn(figures: &[(&'static str, f64, f64)]) -> Vec<Verdict> {
        let plan = Plan {
            scenarios: ALL
                .into_iter()
                .filter(|scenario| scenario.key == "churn")
                .collect(),
            rounds: 1,
            pace: Pace::QUICK,
            peers: [HNP]
                .into_iter()
                .chain(
                    OTHERS
                        .into_iter()
                        .filter(|peer| ["tinyproxy", "haproxy"].contains(&peer.name)),
                )
                .collect(),
            programs: Programs::default(),
            placement: None,
        };
        let records = figures.iter().map(|&(peer, rate, p99)| Record {
            scenario: "churn",
            peer,
            round: 0,
            figures: Figures::from([(Metric::PerSecond, rate), (Metric::P99, p99)]),
        });
        verdicts(
            &Summary::of(&Findings {
                records: records.collect(),
                ..Findings::default()
            }),
            &plan,
        )
    }

    #[test]
    fn a_demand_is_met_at_its_limit_and_not_below() {
        let met = |figures| {
            churn(figures)
                .iter()
                .map(|verdict| verdict.met)
                .collect::<Vec<_>>()
        };
        // Rate against tinyproxy, then p99 against the only peer that speaks CONNECT.
        assert_eq!(
            met(&[
                ("hnp", 1500.0, 9.0),
                ("tinyproxy", 1000.0, 10.0),
                ("haproxy", 1.0, 1.0)
            ]),
            [Some(true), Some(true)]
        );
        assert_eq!(
            met(&[("hnp", 1499.0, 11.0), ("tinyproxy", 1000.0, 10.0)]),
            [Some(false), Some(false)]
        );
        assert_eq!(met(&[("hnp", 1500.0, 9.0)]), [None, None]);
    }
}
