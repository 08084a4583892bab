//! A pod with this process in it, a server outside, and HNP's programs, attached or not.

use std::{
    fmt, fs, iter,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process,
};

use hnp_dataplane::redirect::{
    Action, Attached, CompiledRules, Counter, EventKind, Events, Observed, PodPolicy, Programs,
    Rule, RulesId, cgroup2_mount,
};
use hnp_tests::pod::{PEER4, POD4, Pod};

use super::{
    clock::{Clock, settle},
    flow::{Amount, Buffers, Flow},
};

/// What HNP calls the pod.
const POD: u32 = 1;

/// What is between the pod and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Nothing,
    /// HNP's programs let connections pass, and report them.
    Direct,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "without programs",
            Self::Direct => "direct",
        })
    }
}

pub(crate) struct Scene {
    cgroup: PathBuf,
    programs: Programs,
    rules: RulesId,
    events: Events,
    /// Outside the pod, and not in its cgroup.
    listener: TcpListener,
    server: SocketAddr,
}

impl Scene {
    /// Runs `work` in a pod: with this process in the cgroup, on a thread in the network namespace.
    pub(crate) fn run(work: impl FnOnce(&mut Self) + Send) {
        let pod = Pod::new("cost");
        let listener = pod.server(&format!("{PEER4}:0"));
        listener.set_nonblocking(true).unwrap();
        let _inside = Inside::enter(&pod);
        pod.netns
            .run(|| work(&mut Self::new(pod.cgroup.clone(), listener)));
    }

    fn new(cgroup: PathBuf, listener: TcpListener) -> Self {
        let mut programs = Programs::load().unwrap();
        let direct = Rule {
            network: Some(format!("{PEER4}/32").parse().unwrap()),
            ports: Vec::new(),
            action: Action::Direct,
        };
        let rules = CompiledRules::compile(&[direct], Action::Relay).unwrap();
        Self {
            cgroup,
            rules: programs.add_rules(&rules).unwrap(),
            events: programs.events().unwrap(),
            programs,
            server: listener.local_addr().unwrap(),
            listener,
        }
    }

    /// Instructions a MiB of a flow, from before `connect()` until its end was reported and read.
    pub(crate) fn flow(&mut self, clock: &Clock, way: Way, amount: &Amount) -> f64 {
        let mut buffers = Buffers::new(amount);
        let bytes = amount.bytes_each_way();
        let count = self.count(clock, way, 1, bytes, |flow| {
            flow.exchange(amount, &mut buffers);
        });
        count / (2.0 * bytes as f64 / f64::from(1 << 20))
    }

    /// Instructions of a connection without a byte.
    pub(crate) fn connection(&mut self, clock: &Clock, way: Way) -> f64 {
        const CONNECTIONS: usize = 100;
        self.count(clock, way, CONNECTIONS, 0, |_| {}) / CONNECTIONS as f64
    }

    fn count(
        &mut self,
        clock: &Clock,
        way: Way,
        connections: usize,
        bytes: u64,
        mut work: impl FnMut(&mut Flow),
    ) -> f64 {
        let _attached = self.attach(way);
        // Once beforehand: then every buffer is there, and TCP knows the way.
        self.connections(connections, &mut work);
        settle();
        let before = self.direct();
        let (count, seen) = clock.count(|| self.connections(connections, &mut work));
        self.check(way, &seen, connections, bytes, self.direct() - before);
        count as f64
    }

    /// One after the other, from `connect()` until each was reported.
    fn connections(
        &mut self,
        connections: usize,
        work: &mut impl FnMut(&mut Flow),
    ) -> Vec<Observed> {
        let mut seen = Vec::new();
        for _ in 0..connections {
            let mut flow = Flow::connect(&self.listener, self.server);
            work(&mut flow);
            flow.close();
            // HNP has a thread for it; here it is read where it is counted.
            seen.extend(iter::from_fn(|| self.events.try_next()));
        }
        seen
    }

    /// With a policy such as `hnp run` makes it, if the programs are to be there. They are until what is returned is dropped.
    fn attach(&mut self, way: Way) -> Option<Attached> {
        // Nothing is relayed, so that nobody has to listen at these ports.
        let mut policy = PodPolicy::new(self.rules, 1, 1);
        policy.source4 = POD4.parse().ok();
        policy.report_refusals = true;
        policy.report_direct = true;
        let attach = || self.programs.attach(&self.cgroup, POD, &policy).unwrap();
        (way == Way::Direct).then(attach)
    }

    /// How many connections the programs have let pass.
    fn direct(&self) -> u64 {
        self.programs.count(POD, Counter::Direct).unwrap_or(0)
    }

    /// That the programs have seen these connections, and all of them; or none, if they are not there.
    fn check(&self, way: Way, seen: &[Observed], connections: usize, bytes: u64, counted: u64) {
        if way == Way::Nothing {
            assert_eq!((seen, counted), (&[][..], 0));
            return;
        }
        assert_eq!(counted, connections as u64);
        assert_eq!(seen.len(), connections);
        for event in seen {
            assert_eq!(event.kind, EventKind::Closed);
            assert_eq!((event.pod, event.rule), (POD, 1));
            assert_eq!(event.destination, self.server);
            assert_eq!((event.sent, event.received), (bytes, bytes));
        }
    }
}

/// This process in a pod's cgroup, until this is dropped.
struct Inside;

impl Inside {
    fn enter(pod: &Pod) -> Self {
        fs::write(pod.cgroup.join("cgroup.procs"), process::id().to_string()).unwrap();
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A pod that is dropped ends whatever is in its cgroup.
        let root = cgroup2_mount().unwrap().join("cgroup.procs");
        fs::write(root, process::id().to_string()).unwrap();
    }
}
