//! What HNP has to show, each with the figures that show it or not, against the best of its peers.

use super::peers::HNP;
use super::scenario::{Door, Scenario};
use super::session::Plan;
use super::{RELAY, load::Load};
use crate::figures::{Metric, Spread};
use crate::limits::Limits;
use crate::report::table::number;
use crate::report::verdict::told;
use crate::report::{Summary, Verdict};

/// Rate of full handshakes, as a multiple of the best peer's.
const FULL: f64 = 1.5;
/// Rate of resumed ones.
const RESUMED: f64 = 1.3;
/// CPU of a request.
const REQUEST: f64 = 0.77;
/// CPU of bulk.
const BULK: f64 = 0.85;
/// Resident memory of an idle tunnel, KiB.
const IDLE_KIB: f64 = 20.0;

/// Judges whatever of the demands the plan covers.
pub(super) fn verdicts(summary: &Summary, plan: &Plan) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for scenario in &plan.scenarios {
        let mut best = |metric, limit| verdicts.push(ratio(summary, plan, scenario, metric, limit));
        match scenario.load {
            Load::Handshakes { resume } => {
                let limit = if resume { RESUMED } else { FULL };
                best(Metric::PerSecond, limit);
                best(Metric::PerCpuSecond, limit);
            }
            Load::Requests { .. } if scenario.is_bulk() => best(Metric::CpuPerGib, BULK),
            Load::Requests { .. } => best(Metric::CpuMicros, REQUEST),
            Load::Hold => verdicts.push(memory(summary, scenario)),
        }
    }
    verdicts
}

/// HNP's figure against a multiple of the best peer's: at least that where more is better, else at most.
fn ratio(
    summary: &Summary,
    plan: &Plan,
    scenario: &Scenario,
    metric: Metric,
    limit: f64,
) -> Verdict {
    let more = metric.more_is_better();
    let demand = format!(
        "{}, {} {} {limit}x the best peer",
        scenario.key,
        metric.title(),
        if more { ">=" } else { "<=" }
    );
    let figure = |name| summary.get(scenario.key, name, metric);
    let own = figure(HNP.name);
    let Some((name, best)) = best(plan, figure, more) else {
        return Verdict {
            demand,
            met: None,
            figures: "no peer was measured".to_owned(),
        };
    };
    let Some(own) = own else {
        return Verdict {
            demand,
            met: None,
            figures: format!("hnp was not measured (best {name} {})", told(best)),
        };
    };
    let ratio = own.median / best.median;
    let met = if more { ratio >= limit } else { ratio <= limit };
    let mut figures = format!("{ratio:.2}x (hnp {}, {name} {})", told(own), told(best));
    if metric == Metric::PerSecond {
        figures += &limited_by(summary, scenario);
    }
    Verdict {
        demand,
        met: Some(met),
        figures,
    }
}

/// Who held the rate up, where it was not HNP.
fn limited_by(summary: &Summary, scenario: &Scenario) -> String {
    let of = |metric| summary.get(scenario.key, HNP.name, metric);
    match of(Metric::Busy).zip(of(Metric::LoadBusy)) {
        Some((proxy, load)) if proxy.median < LIMITED => format!(
            "; hnp used {:.0}% of a CPU and the load {:.0}%: {} was the limit",
            proxy.median,
            load.median,
            if load.median >= LIMITED {
                "the load"
            } else {
                "who else uses this machine"
            }
        ),
        _ => String::new(),
    }
}

/// Who uses less of a CPU than this percentage could do more if more were asked.
const LIMITED: f64 = 90.0;

fn best(
    plan: &Plan,
    figure: impl Fn(&'static str) -> Option<Spread>,
    more: bool,
) -> Option<(&'static str, Spread)> {
    plan.peers
        .iter()
        .filter(|peer| peer.name != HNP.name)
        .filter_map(|peer| Some((peer.name, figure(peer.name)?)))
        .max_by(|(_, one), (_, other)| {
            let order = one.median.total_cmp(&other.median);
            if more { order } else { order.reverse() }
        })
}

fn memory(summary: &Summary, scenario: &Scenario) -> Verdict {
    let metric = Metric::RssPerTunnel;
    let demand = format!("{}, {} <= {IDLE_KIB:.0}", scenario.key, metric.title());
    match summary.get(scenario.key, HNP.name, metric) {
        Some(own) => Verdict {
            demand,
            met: Some(own.median <= IDLE_KIB),
            figures: format!("hnp {}", told(own)),
        },
        None => Verdict {
            demand,
            met: None,
            figures: "hnp was not measured".to_owned(),
        },
    }
}

/// What the machine itself is able to, beside what HNP makes of it.
pub(super) fn limits(summary: &Summary, plan: &Plan, crypto: &Limits) -> Vec<String> {
    let mut limits = vec![format!(
        "AES-128-GCM in memory, records of 16 KiB: seals a GiB in {} CPU s, opens it in {}",
        number(crypto.records.seal),
        number(crypto.records.open)
    )];
    for scenario in &plan.scenarios {
        let hnp = |metric| summary.get(scenario.key, HNP.name, metric);
        let relay = |metric| summary.get(scenario.key, RELAY, metric);
        let (metric, limit, words) = match scenario.load {
            Load::Handshakes { resume } => {
                let (micros, kind) = if resume {
                    (crypto.resumed.server, "resumed")
                } else {
                    (crypto.full.server, "full")
                };
                let words =
                    format!("{kind} handshakes of bare rustls in memory, the server's side");
                (Metric::PerCpuSecond, 1e6 / micros, words)
            }
            Load::Requests { up, .. } if scenario.is_bulk() => {
                let Some(relay) = relay(Metric::CpuPerGib) else {
                    continue;
                };
                let out = if up > 0 {
                    crypto.records.seal
                } else {
                    crypto.records.open
                };
                let sum = match scenario.door {
                    Door::Mutual => crypto.records.seal + crypto.records.open,
                    _ => out,
                };
                let words = format!(
                    "a relay without TLS ({}) and AES-128-GCM ({})",
                    number(relay.median),
                    number(sum)
                );
                (Metric::CpuPerGib, relay.median + sum, words)
            }
            Load::Requests { .. } => {
                let Some(relay) = relay(Metric::CpuMicros) else {
                    continue;
                };
                let words = "a relay without TLS and HTTP".to_owned();
                (Metric::CpuMicros, relay.median, words)
            }
            Load::Hold => continue,
        };
        let made = hnp(metric).map_or_else(String::new, |hnp| {
            format!("; hnp {}, {:.2}x", number(hnp.median), hnp.median / limit)
        });
        limits.push(format!(
            "{}: {} {}: {words}{made}",
            scenario.key,
            number(limit),
            metric.title()
        ));
    }
    limits
}
