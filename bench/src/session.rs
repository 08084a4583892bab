//! A session of measurements: everybody is started, then measured in turns (A B C A B C), so that what disturbs the machine for a
//! while disturbs everybody.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::figures::{Figures, KIB, Metric, figures};
use crate::load::{Generator, Load, Order};
use crate::peers::{Peer, Programs, Running};
use crate::placement::{Placement, Role};
use crate::route::Route;
use crate::scenario::{Pace, Scenario};
use crate::upstream::Upstream;
use crate::usage::ProcessTree;

/// The name of "no proxy".
pub const DIRECT: &str = "direct";

/// Descriptors that a proxy uses for other things than tunnels.
const RESERVE: u64 = 1000;

/// What to measure, how often, and whom.
#[derive(Debug)]
pub struct Plan {
    /// What.
    pub scenarios: Vec<Scenario>,
    /// Measurements of each.
    pub rounds: usize,
    /// How long each.
    pub pace: Pace,
    /// Whom, beside the direct way.
    pub peers: Vec<Peer>,
    /// Where their programs are.
    pub programs: Programs,
    /// Instead of what each scenario wants.
    pub placement: Option<Placement>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Key of the scenario.
    pub scenario: &'static str,
    /// Name of the peer.
    pub peer: &'static str,
    /// From 0.
    pub round: usize,
    /// What was measured.
    pub figures: Figures,
}

/// Something that could not be measured.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    /// Key of the scenario; none: all of them.
    pub scenario: Option<&'static str>,
    /// Name of the peer.
    pub peer: &'static str,
    /// What was in the way.
    pub why: String,
}

/// All that a session found out.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// The measurements.
    pub records: Vec<Record>,
    /// What could not be measured.
    pub gaps: Vec<Gap>,
    /// What else should be known.
    pub remarks: Vec<String>,
}

impl Findings {
    /// Enters what a measurement has come to.
    pub(crate) fn enter(
        &mut self,
        scenario: &'static str,
        peer: &'static str,
        round: usize,
        measured: anyhow::Result<Figures>,
    ) {
        match measured {
            Ok(figures) => self.records.push(Record {
                scenario,
                peer,
                round,
                figures,
            }),
            Err(error) => self.gaps.push(Gap {
                scenario: Some(scenario),
                peer,
                why: format!("round {}: {error:#}", round + 1),
            }),
        }
    }

    /// Enters that somebody cannot be measured at all.
    pub(crate) fn does_not_start(&mut self, peer: &'static str, error: &anyhow::Error) {
        self.gaps.push(Gap {
            scenario: None,
            peer,
            why: format!("{error:#}"),
        });
    }
}

/// A session as far as its order goes: contestants by number.
pub(crate) trait Turns {
    type Scenario;

    /// How many contestants there are.
    fn contestants(&self) -> usize;

    /// Starts one, anew if it runs.
    fn start(&mut self, index: usize);

    /// Measures one of them once.
    fn step(&mut self, scenario: &Self::Scenario, index: usize, round: usize)
    -> anyhow::Result<()>;
}

/// Measures in turns what is `steady`, and then once each what is `held`.
pub(crate) fn in_turns<S: Turns>(
    session: &mut S,
    steady: &[S::Scenario],
    held: &[S::Scenario],
    rounds: usize,
) -> anyhow::Result<()> {
    let contestants = session.contestants();
    for index in 0..contestants {
        session.start(index);
    }
    for round in 0..rounds {
        for scenario in steady {
            for turn in 0..contestants {
                // Nobody always comes first.
                session.step(scenario, (turn + round) % contestants, round)?;
            }
        }
    }
    for scenario in held {
        for index in 0..contestants {
            // Memory that an earlier load left behind would hide what this one takes.
            session.start(index);
            session.step(scenario, index, 0)?;
        }
    }
    Ok(())
}

/// Somebody who is measured: a proxy, or nobody.
struct Contestant {
    name: &'static str,
    peer: Option<Peer>,
    running: Option<Running>,
    gone: bool,
}

struct Session<'a> {
    plan: &'a Plan,
    upstream: Upstream,
    contestants: Vec<Contestant>,
    /// That a proxy has descriptors for.
    most_tunnels: u32,
    findings: Findings,
    progress: ProgressBar,
}

impl Plan {
    /// Measures everything. What a peer cannot do becomes a gap in the findings.
    ///
    /// # Errors
    /// When the upstream cannot be started or ends.
    pub fn run(&self) -> anyhow::Result<Findings> {
        let descriptors = raise_descriptor_limit()?;
        let direct = Contestant {
            name: DIRECT,
            peer: None,
            running: None,
            gone: false,
        };
        let proxies = self.peers.iter().map(|peer| Contestant {
            name: peer.name,
            peer: Some(*peer),
            running: None,
            gone: false,
        });
        let steps = self
            .scenarios
            .iter()
            .map(|scenario| if scenario.holds() { 1 } else { self.rounds })
            .sum::<usize>();
        let mut session = Session {
            plan: self,
            upstream: Upstream::start()?,
            contestants: proxies.chain([direct]).collect(),
            most_tunnels: u32::try_from(descriptors.saturating_sub(RESERVE) / 2)
                .unwrap_or(u32::MAX),
            findings: Findings::default(),
            progress: bar(steps * (self.peers.len() + 1)),
        };
        session.measure_all()?;
        session.progress.finish_and_clear();
        Ok(session.findings)
    }
}

impl Session<'_> {
    fn measure_all(&mut self) -> anyhow::Result<()> {
        let (mut held, steady): (Vec<Scenario>, Vec<Scenario>) = self
            .plan
            .scenarios
            .iter()
            .partition(|scenario| scenario.holds());
        for scenario in &mut held {
            if scenario.tunnels > self.most_tunnels {
                scenario.tunnels = self.most_tunnels;
                self.findings.remarks.push(format!(
                    "{}: only {} tunnels, as many as this machine's limit of descriptors allows; raise it (ulimit -Hn)",
                    scenario.title, scenario.tunnels
                ));
            }
        }
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
        let Some(peer) = contestant.peer.filter(|_| !contestant.gone) else {
            return;
        };
        contestant.running = None;
        match peer.start(&self.plan.programs, self.upstream.ports) {
            Ok(running) => contestant.running = Some(running),
            Err(error) => {
                contestant.gone = true;
                self.findings.does_not_start(peer.name, &error);
            }
        }
    }

    fn step(&mut self, scenario: &Scenario, index: usize, round: usize) -> anyhow::Result<()> {
        let Some(contestant) = self.contestants.get(index) else {
            return Ok(());
        };
        let name = contestant.name;
        self.progress
            .set_message(format!("{name}: {}", scenario.title));
        if !contestant.gone {
            let route = match &contestant.running {
                Some(running) => running.route,
                None => Route::Direct {
                    upstream: self.upstream.ports,
                },
            };
            let pid = contestant.running.as_ref().map(Running::id);
            let measured = self.measure(scenario, route, pid);
            self.findings.enter(scenario.key, name, round, measured);
            let open = self.upstream.quiet()?;
            if open > 0 {
                self.findings.remarks.push(format!(
                    "{name} left {open} connections to the upstream open after {}",
                    scenario.title
                ));
            }
        }
        self.progress.inc(1);
        Ok(())
    }
}

impl Session<'_> {
    fn measure(
        &mut self,
        scenario: &Scenario,
        route: Route,
        pid: Option<u32>,
    ) -> anyhow::Result<Figures> {
        let placement = self.plan.placement.unwrap_or(scenario.placement);
        let processes = pid.map(ProcessTree::of).transpose()?;
        for &pid in processes.iter().flat_map(ProcessTree::pids) {
            placement
                .put(pid, Role::Proxy)
                .context("cannot choose the proxy's CPU")?;
        }
        placement.put(i32::try_from(self.upstream.id())?, Role::Other)?;
        if scenario.holds() {
            // One tunnel, used: the code it runs is then in memory, and only what tunnels themselves take is counted.
            let order = Order {
                load: Load::PingPong,
                route,
                tunnels: 1,
                warm_up: Duration::ZERO,
                window: Duration::from_millis(20),
                processes: None,
            };
            Generator::start(&order)?.outcome()?;
            self.upstream.quiet()?;
        }
        let before = processes.as_ref().map(ProcessTree::rss).transpose()?;
        let sourced = self.upstream.counters()?.sourced;
        let order = Order {
            load: scenario.load,
            route,
            tunnels: scenario.tunnels,
            warm_up: self.plan.pace.warm_up,
            window: self.plan.pace.window,
            processes: processes.clone(),
        };
        let mut generator = Generator::start(&order)?;
        placement.put(i32::try_from(generator.id())?, Role::Other)?;
        let outcome = generator.outcome()?;
        if !scenario.holds() {
            return Ok(figures(scenario.load, &outcome));
        }
        // The generator holds its tunnels until it is dropped, at the end of this function.
        let tunnels = f64::from(scenario.tunnels);
        let mut figures = Figures::new();
        if scenario.load == Load::Stalled {
            let taken = self.upstream.standstill()? - sourced;
            figures.insert(Metric::TakenPerTunnel, taken as f64 / KIB / tunnels);
        }
        if let (Some(processes), Some(before)) = (&processes, before) {
            // Signed: a proxy may have given memory back.
            let grown = processes.rss()? as f64 - before as f64;
            figures.insert(Metric::RssPerTunnel, grown / KIB / tunnels);
        }
        Ok(figures)
    }
}

/// As many descriptors as this process may have, for everybody it starts; tells how many.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .context("cannot raise the limit of descriptors")?;
    Ok(most)
}

pub(crate) fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {pos}/{len} {msg}")
    {
        bar.set_style(style);
    }
    bar
}
