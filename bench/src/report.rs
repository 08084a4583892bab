//! What the user gets to see: a table, verdicts, and the same as JSON.

mod style;
pub(crate) mod table;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::figures::{Metric, Spread};
use crate::placement::Placement;
use crate::session::{Findings, Plan};

use table::Heading;

pub use style::Style;
pub use verdict::Verdict;

/// The medians and ranges of a session, by scenario and peer.
#[derive(Debug)]
pub struct Summary {
    spreads: BTreeMap<(&'static str, &'static str), BTreeMap<Metric, Spread>>,
}

impl Summary {
    /// Sums a session up.
    pub fn of(findings: &Findings) -> Summary {
        let mut values: BTreeMap<_, BTreeMap<Metric, Vec<f64>>> = BTreeMap::new();
        for record in &findings.records {
            let of_both = values.entry((record.scenario, record.peer)).or_default();
            for (&metric, &value) in &record.figures {
                of_both.entry(metric).or_default().push(value);
            }
        }
        let spread = |values: BTreeMap<Metric, Vec<f64>>| {
            values
                .into_iter()
                .filter_map(|(metric, values)| Some((metric, Spread::of(values)?)))
        };
        Summary {
            spreads: values
                .into_iter()
                .map(|(key, values)| (key, spread(values).collect()))
                .collect(),
        }
    }

    /// One figure.
    pub fn get(
        &self,
        scenario: &'static str,
        peer: &'static str,
        metric: Metric,
    ) -> Option<Spread> {
        self.spreads.get(&(scenario, peer))?.get(&metric).copied()
    }

    /// The metrics there are figures of in a scenario.
    fn metrics(&self, scenario: &str) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = self
            .spreads
            .iter()
            .filter(|((key, _), _)| *key == scenario)
            .flat_map(|(_, spreads)| spreads.keys().copied())
            .collect();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }
}

/// Prints what a session found: the table, then what could not be measured, then the verdicts.
pub fn print(plan: &Plan, findings: &Findings, style: Style) -> Vec<Verdict> {
    let summary = Summary::of(findings);
    let names: Vec<&'static str> = plan
        .peers
        .iter()
        .map(|peer| peer.name)
        .chain([crate::session::DIRECT])
        .collect();
    let headings: Vec<Heading> = plan
        .scenarios
        .iter()
        .map(|scenario| Heading {
            key: scenario.key,
            title: scenario.title,
            placement: plan.placement.unwrap_or(scenario.placement),
        })
        .collect();
    print!("{}", table::render(&summary, &names, &headings, style));
    for peer in &plan.peers {
        println!("  {}: {}", style.bold(peer.name), peer.about);
    }
    print_gaps(findings, style);
    let verdicts = verdict::verdicts(&summary, plan);
    for verdict in &verdicts {
        println!("{}", verdict.line(style));
    }
    verdicts
}

/// Prints what could not be measured and what else should be known.
pub(crate) fn print_gaps(findings: &Findings, style: Style) {
    for gap in &findings.gaps {
        println!(
            "{} {}{}: {}",
            style.bad("not measured:"),
            gap.peer,
            gap.scenario
                .map(|key| format!(", {key}"))
                .unwrap_or_default(),
            gap.why
        );
    }
    for remark in &findings.remarks {
        println!("{} {remark}", style.bad("note:"));
    }
}

/// Writes plan, measurements and summary as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(
    path: &Path,
    plan: &Plan,
    findings: &Findings,
    verdicts: &[Verdict],
) -> anyhow::Result<()> {
    let peers = plan.peers.iter().map(|peer| (peer.name, peer.about));
    let placement = plan
        .scenarios
        .iter()
        .map(|scenario| (scenario.key, plan.placement.unwrap_or(scenario.placement)));
    Document {
        rounds: plan.rounds,
        window_seconds: plan.pace.window.as_secs_f64(),
        peers: peers.collect(),
        placement: placement.collect(),
        summary: Line::all(findings),
        limits: Vec::new(),
        verdicts,
        findings,
    }
    .write(path)
}

/// What is written as JSON.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    pub(crate) rounds: usize,
    pub(crate) window_seconds: f64,
    pub(crate) peers: BTreeMap<&'a str, &'a str>,
    pub(crate) placement: BTreeMap<&'a str, Placement>,
    pub(crate) summary: Vec<Line>,
    /// What the machine itself is able to, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<String>,
    pub(crate) verdicts: &'a [Verdict],
    #[serde(flatten)]
    pub(crate) findings: &'a Findings,
}

/// A figure of a summary.
#[derive(Serialize)]
pub(crate) struct Line {
    scenario: &'static str,
    peer: &'static str,
    metric: Metric,
    #[serde(flatten)]
    spread: Spread,
}

impl Line {
    pub(crate) fn all(findings: &Findings) -> Vec<Line> {
        let summary = Summary::of(findings).spreads;
        let lines = summary.into_iter().flat_map(|((scenario, peer), spreads)| {
            spreads.into_iter().map(move |(metric, spread)| Line {
                scenario,
                peer,
                metric,
                spread,
            })
        });
        lines.collect()
    }
}

impl Document<'_> {
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(failed)?;
        serde_json::to_writer_pretty(file, self).with_context(failed)
    }
}
