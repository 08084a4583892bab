//! A session of measurements, in turns (A B C A B C), as [`crate::session`] makes them of tunnels.

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;

use super::load::{Generator, Load, Order, Outcome};
use super::manager::{Counters, Manager};
use super::peers::{Peer, RELAY, Running};
use super::pki::Pki;
use super::scenario::{Door, Scenario};
use crate::figures::{Figures, GIB, KIB, Metric};
use crate::peers::{Programs, directory};
use crate::placement::{Placement, Role};
use crate::scenario::Pace;
use crate::session::{Findings, Turns, bar, in_turns, raise_descriptor_limit};
use crate::usage::ProcessTree;

/// What part of the handshakes that are to be resumed has to be.
const RESUMED: f64 = 0.99;

/// What to measure, how often, and whom.
#[derive(Debug)]
pub struct Plan {
    /// What.
    pub scenarios: Vec<Scenario>,
    /// Measurements of each.
    pub rounds: usize,
    /// How long each.
    pub pace: Pace,
    /// Whom, beside the relay without TLS.
    pub peers: Vec<Peer>,
    /// Where their programs are.
    pub programs: Programs,
    /// Instead of what each scenario wants.
    pub placement: Option<Placement>,
}

/// Somebody who is measured.
struct Contestant {
    peer: Peer,
    running: Option<Running>,
    gone: bool,
}

struct Session<'a> {
    plan: &'a Plan,
    pki: &'a Pki,
    manager: Manager,
    contestants: Vec<Contestant>,
    findings: Findings,
    progress: ProgressBar,
}

impl Plan {
    /// Measures everything. What a peer cannot do becomes a gap in the findings.
    ///
    /// # Errors
    /// When the manager cannot be started or ends.
    pub fn run(&self) -> anyhow::Result<Findings> {
        raise_descriptor_limit()?;
        let directory = directory()?;
        let pki = Pki::make(directory.path()).context("cannot make certificates")?;
        let peers = self.peers.iter().copied().chain([RELAY]);
        let contestants: Vec<Contestant> = peers
            .map(|peer| Contestant {
                peer,
                running: None,
                gone: false,
            })
            .collect();
        let steps: usize = self
            .scenarios
            .iter()
            .map(|scenario| {
                let rounds = if scenario.holds() { 1 } else { self.rounds };
                rounds * (self.peers.len() + usize::from(scenario.has_relay()))
            })
            .sum();
        let mut session = Session {
            plan: self,
            manager: Manager::start(&pki)?,
            pki: &pki,
            contestants,
            findings: Findings::default(),
            progress: bar(steps),
        };
        session.measure_all()?;
        session.progress.finish_and_clear();
        Ok(session.findings)
    }
}

impl Session<'_> {
    fn measure_all(&mut self) -> anyhow::Result<()> {
        let (held, steady): (Vec<Scenario>, Vec<Scenario>) = self
            .plan
            .scenarios
            .iter()
            .partition(|scenario| scenario.holds());
        in_turns(self, &steady, &held, self.plan.rounds)
    }
}

impl Turns for Session<'_> {
    type Scenario = Scenario;

    fn contestants(&self) -> usize {
        self.contestants.len()
    }

    /// Starts a proxy, anew if it runs. One that does not start is not tried again.
    fn start(&mut self, index: usize) {
        let Some(contestant) = self.contestants.get_mut(index) else {
            return;
        };
        if contestant.gone {
            return;
        }
        contestant.running = None;
        let started = contestant
            .peer
            .start(&self.plan.programs, self.pki, self.manager.ports);
        match started {
            Ok(running) => contestant.running = Some(running),
            Err(error) => {
                contestant.gone = true;
                self.findings.does_not_start(contestant.peer.name, &error);
            }
        }
    }

    fn step(&mut self, scenario: &Scenario, index: usize, round: usize) -> anyhow::Result<()> {
        let Some(contestant) = self.contestants.get(index) else {
            return Ok(());
        };
        let name = contestant.peer.name;
        let is_relay = name == RELAY.name;
        if is_relay && !scenario.has_relay() {
            return Ok(());
        }
        self.progress
            .set_message(format!("{name}: {}", scenario.key));
        let entry = contestant.running.as_ref().map(|running| {
            let doors = running.doors;
            let entry = match scenario.door {
                Door::Mutual if !is_relay => doors.mutual(),
                Door::Tunnel => doors.tunnel(),
                _ => doors.plain(),
            };
            (running.id(), entry)
        });
        if let Some((pid, entry)) = entry {
            let order = Order {
                load: scenario.load,
                entry,
                connections: scenario.connections,
                warm_up: self.plan.pace.warm_up,
                window: self.plan.pace.window,
                processes: Some(ProcessTree::of(pid)?),
                manager: ProcessTree::of(self.manager.id())?,
                pki: self.pki.directory().to_owned(),
            };
            let before = self.manager.counters()?;
            let measured = self.measure(scenario, &order);
            self.watch_manager(scenario, name, before)?;
            self.findings.enter(scenario.key, name, round, measured);
        }
        self.progress.inc(1);
        Ok(())
    }
}

impl Session<'_> {
    /// A proxy keeps its connections to the manager; one that does not is measured as something else than is said.
    fn watch_manager(
        &mut self,
        scenario: &Scenario,
        name: &str,
        before: Counters,
    ) -> anyhow::Result<()> {
        let now = self.manager.counters()?;
        let handshakes = now.handshakes - before.handshakes;
        let errors = now.errors - before.errors;
        let mut remark = |what: String| {
            let key = scenario.key;
            self.findings.remarks.push(format!("{name}, {key}: {what}"));
        };
        if handshakes > u64::from(2 * scenario.connections) {
            remark(format!(
                "{handshakes} handshakes with the manager, for {} connections",
                scenario.connections
            ));
        }
        if errors > 0 {
            remark(format!(
                "{errors} connections to the manager ended in an error"
            ));
        }
        Ok(())
    }

    fn measure(&mut self, scenario: &Scenario, order: &Order) -> anyhow::Result<Figures> {
        let placement = self.plan.placement.unwrap_or(scenario.placement);
        let processes = order.processes.as_ref().context("a proxy to measure")?;
        for &pid in processes.pids() {
            placement
                .put(pid, Role::Proxy)
                .context("cannot choose the proxy's CPU")?;
        }
        placement.put(i32::try_from(self.manager.id())?, Role::Other)?;
        if scenario.holds() {
            // One connection, used: the code it runs is then in memory, and only what connections themselves take is counted.
            let first = Order {
                connections: 1,
                ..order.clone()
            };
            Generator::start(&first)?.outcome()?;
        }
        let before = processes.rss()?;
        let mut generator = Generator::start(order)?;
        placement.put(i32::try_from(generator.id())?, Role::Other)?;
        let outcome = generator.outcome()?;
        if let Load::Handshakes { resume } = scenario.load {
            check_resumption(&outcome, resume)?;
        }
        if !scenario.holds() {
            return Ok(figures(scenario, &outcome));
        }
        // The generator holds its connections until it is dropped, at the end of this function.
        let grown = processes.rss()? as f64 - before as f64;
        let each = grown / KIB / f64::from(scenario.connections);
        Ok(Figures::from([(Metric::RssPerTunnel, each)]))
    }
}

/// A proxy that does not do what is measured is not measured.
fn check_resumption(outcome: &Outcome, resume: bool) -> anyhow::Result<()> {
    let (units, resumed) = (outcome.units, outcome.resumed);
    let part = resumed as f64 / units.max(1) as f64;
    if resume {
        ensure!(
            part >= RESUMED,
            "only {resumed} of {units} handshakes were resumed"
        );
    } else {
        ensure!(
            resumed == 0,
            "{resumed} of {units} handshakes were resumed, where none was to be"
        );
    }
    Ok(())
}

fn figures(scenario: &Scenario, outcome: &Outcome) -> Figures {
    let units = outcome.units as f64;
    let mut figures = Figures::new();
    if scenario.is_bulk() {
        let gib = outcome.bytes as f64 / GIB;
        figures.insert(Metric::GibPerSecond, gib / outcome.seconds);
        figures.extend(outcome.cpu.map(|cpu| (Metric::CpuPerGib, cpu / gib)));
    } else {
        figures.insert(Metric::PerSecond, units / outcome.seconds);
        if let Some(cpu) = outcome.cpu {
            figures.insert(Metric::CpuMicros, cpu * 1e6 / units);
            figures.insert(Metric::PerCpuSecond, units / cpu);
        }
        if let Some(latency) = outcome.latency {
            figures.extend([(Metric::P50, latency.p50), (Metric::P99, latency.p99)]);
        }
    }
    if let Some(cpu) = outcome.cpu {
        figures.insert(Metric::Busy, cpu / outcome.seconds * 100.0);
    }
    let load = outcome.load_cpu / outcome.seconds * 100.0;
    figures.insert(Metric::LoadBusy, load);
    if outcome.failures > 0 {
        figures.insert(Metric::Failures, outcome.failures as f64);
    }
    figures
}
