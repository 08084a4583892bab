//! What the user gets to see: a table, the machine's limits, verdicts, and the same as JSON.

use std::path::Path;
use std::time::Duration;

use super::session::Plan;
use super::{RELAY, verdict};
use crate::limits::Limits;
use crate::report::table::{self, Heading};
use crate::report::{Document, Line, Style, Summary, Verdict, print_gaps};
use crate::session::Findings;

/// How often the machine's limits are measured, and how long each.
const LIMITS: usize = 5;
const LIMITS_TIME: Duration = Duration::from_millis(50);

/// What a session comes to.
#[derive(Debug)]
pub struct Conclusion {
    limits: Vec<String>,
    verdicts: Vec<Verdict>,
}

/// Prints what a session found: the table, then what could not be measured.
pub fn print(plan: &Plan, findings: &Findings, style: Style) {
    let summary = Summary::of(findings);
    let relay = findings.records.iter().any(|record| record.peer == RELAY);
    let names: Vec<&'static str> = plan
        .peers
        .iter()
        .map(|peer| peer.name)
        .chain(relay.then_some(RELAY))
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
    println!(
        "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, P-256 certificates on both sides; one worker each"
    );
    for peer in plan.peers.iter().chain([&super::peers::RELAY]) {
        println!("  {}: {}", style.bold(peer.name), peer.about);
    }
    print_gaps(findings, style);
}

/// Prints the machine's limits and the verdicts.
///
/// # Errors
/// When the limits cannot be measured.
pub fn conclude(plan: &Plan, findings: &Findings, style: Style) -> anyhow::Result<Conclusion> {
    let summary = Summary::of(findings);
    let limits = verdict::limits(&summary, plan, &Limits::measure(LIMITS, LIMITS_TIME)?);
    for limit in &limits {
        println!("{} {limit}", style.bold("limit:"));
    }
    let verdicts = verdict::verdicts(&summary, plan);
    for verdict in &verdicts {
        println!("{}", verdict.line(style));
    }
    Ok(Conclusion { limits, verdicts })
}

/// Writes plan, measurements and summary as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(
    path: &Path,
    plan: &Plan,
    findings: &Findings,
    conclusion: Conclusion,
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
        limits: conclusion.limits,
        verdicts: &conclusion.verdicts,
        findings,
    }
    .write(path)
}
