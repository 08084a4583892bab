//! The eBPF programs in a real kernel, on pods of the test's own. Needs root, cgroup v2 and iproute2.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]
#[path = "redirect/beyond.rs"]
mod beyond;
#[path = "redirect/connecting.rs"]
mod connecting;
#[path = "redirect/existing.rs"]
mod existing;
#[path = "redirect/client.rs"]
mod inside;
#[path = "redirect/limits.rs"]
mod limits;
#[path = "redirect/loading.rs"]
mod loading;
#[path = "redirect/pod.rs"]
mod pod;
#[path = "redirect/upgrade.rs"]
mod upgrade;
#[path = "redirect/ways.rs"]
mod ways;

use std::{
    fs,
    io::Read as _,
    ops::RangeInclusive,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hnp_dataplane::redirect::{
    Action, CompiledRules, Counter, EventKind, Events, Observed, Pins, PodPolicy, Programs,
    RedirectError, Rule, RulesId, WithoutHnp, cgroup2_mount,
};

use socket2::{Domain, Socket as TcpSocket, Type};

use self::pod::{Acceptor, POD4, POD6, Pod};

/// An errno of which the kernel offers only the second before 5.18.
const REFUSED: [&str; 2] = ["ECONNREFUSED", "EPERM"];

#[test]
fn every_family_reaches_hnp_and_believes_to_be_elsewhere() {
    let Some(mut it) = Setup::new("families") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    let said = it.pod.client(&[
        "tcp 203.0.113.7:443",
        "tcp [2001:db8::7]:8443",
        "tcp [::ffff:203.0.113.9]:80",
    ]);
    assert_eq!(
        said,
        [
            format!("203.0.113.7:443 203.0.113.7:443 {POD4}"),
            format!("[2001:db8::7]:8443 [2001:db8::7]:8443 {POD6}"),
            format!("203.0.113.9:80 [::ffff:203.0.113.9]:80 ::ffff:{POD4}"),
        ]
    );
    let found = it.acceptor.found();
    assert!(
        found
            .iter()
            .all(|one| one.pod == 1 && one.rule == 0 && one.pid != 0)
    );
    assert!(found.iter().all(|one| one.comm == "netns"), "{found:?}");
    assert_eq!(it.count(Counter::Relayed), 3);
    assert_eq!(it.programs.destinations().unwrap().waiting().unwrap(), 0);
}

#[test]
fn the_first_rule_decides_in_the_kernel() {
    let Some(mut it) = Setup::new("rules") else {
        return;
    };
    let server = it.pod.server("10.77.0.1:8080");
    let rules = [
        rule("10.77.0.1/32", &[9000..=9100], Action::Deny),
        rule("10.77.0.0/24", &[8000..=9050], Action::Direct),
        rule("10.77.0.1/32", &[], Action::Relay),
        rule("fd77::/64", &[], Action::Deny),
    ];
    let _attached = it.attach(&rules, |_| {});
    let served = std::thread::spawn(move || drop(server.accept().unwrap()));
    let said = it.pod.client(&[
        "tcp 10.77.0.1:9000",
        "tcp 10.77.0.1:8080",
        "tcp 10.77.0.1:9101",
        "tcp [fd77::1]:80",
        "tcp [fd78::1]:80",
        "tcp 127.0.0.1:9",
    ]);
    assert!(REFUSED.contains(&&*said[0]), "{said:?}");
    // Nobody says anything, and nothing is hidden.
    assert_eq!(said[1], format!(" 10.77.0.1:8080 {POD4}"));
    assert_eq!(said[2], format!("10.77.0.1:9101 10.77.0.1:9101 {POD4}"));
    assert!(REFUSED.contains(&&*said[3]), "{said:?}");
    assert_eq!(said[4], format!("[fd78::1]:80 [fd78::1]:80 {POD6}"));
    assert_eq!(said[5], "ECONNREFUSED", "loopback is left alone");
    served.join().unwrap();
    assert_eq!(it.count(Counter::Denied), 2);
    assert_eq!(it.count(Counter::Direct), 1);
    assert_eq!(it.count(Counter::Relayed), 2);
    assert_eq!(it.count(Counter::Bypassed), 1);
    let rules: Vec<u32> = it.acceptor.found().iter().map(|one| one.rule).collect();
    assert!(rules.contains(&3) && rules.contains(&0), "{rules:?}");
}

#[test]
fn a_direct_connection_is_observed_from_beginning_to_end() {
    let Some(mut it) = Setup::new("observed") else {
        return;
    };
    let server = it.pod.server("10.77.0.1:8080");
    let _attached = it.attach(&[rule("10.77.0.0/24", &[], Action::Direct)], |policy| {
        policy.report_beginnings = true;
        policy.report_direct = true;
    });
    let mut events = it.programs.events().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        std::io::Write::write_all(&mut stream, &[1; 123]).unwrap();
        received.len()
    });
    let said = it
        .pod
        .client(&["exchange 10.77.0.1:8080 300000", "tcp 10.77.0.1:81"]);
    assert_eq!(said, ["123", "ECONNREFUSED"]);
    assert_eq!(served.join().unwrap(), 300_000);
    let seen = wait_for(&mut events, 4);
    let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
    use EventKind::{Closed, Direct, NotMade};
    assert_eq!(kinds, [Direct, Closed, Direct, NotMade]);
    let closed = &seen[1];
    assert_eq!((closed.sent, closed.received), (300_000, 123));
    assert_eq!(closed.destination, "10.77.0.1:8080".parse().unwrap());
    assert_eq!(closed.source.unwrap().ip().to_string(), POD4);
    assert!(closed.duration > Duration::ZERO && closed.pod == 1 && closed.rule == 1);
    assert_eq!((seen[3].sent, seen[3].received), (0, 0));
}

/// Whoever connects would wait for it.
#[test]
fn beginnings_are_reported_only_where_that_is_wanted() {
    let Some(mut it) = Setup::new("beginnings") else {
        return;
    };
    let rules = [
        rule("10.77.0.0/24", &[], Action::Direct),
        rule("203.0.113.8/32", &[], Action::Deny),
    ];
    // Once: a child of another test that is just being started may hold a link that is let go, and both would report.
    let mut attached = it.attach(&rules, |_| {});
    let mut events = it.programs.events().unwrap();
    // Relayed, direct (and nobody listens there), denied.
    let connections = [
        "tcp 203.0.113.7:443",
        "tcp 10.77.0.1:81",
        "tcp 203.0.113.8:443",
    ];
    use EventKind::{Denied, Direct, NotMade, Relayed};
    for (beginnings, expected) in [
        (false, &[NotMade, Denied] as &[EventKind]),
        (true, &[Relayed, Direct, NotMade, Denied]),
        (false, &[NotMade, Denied]),
    ] {
        let mut policy = it.acceptor.policy(it.rules);
        policy.report_refusals = true;
        policy.report_direct = true;
        policy.report_beginnings = beginnings;
        it.programs.apply(&mut attached, &policy).unwrap();
        it.pod.client(&connections);
        // They come in order: with the last, all have come.
        let seen = wait_for(&mut events, expected.len());
        let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, expected, "beginnings: {beginnings}");
    }
}

#[test]
fn without_a_listener_policy_says_open_or_closed() {
    let Some(mut it) = Setup::new("gone") else {
        return;
    };
    let server = it.pod.server("10.77.0.1:8080");
    std::thread::spawn(move || while server.accept().is_ok() {});
    let mut attached = it.attach(&[], |_| {});
    let rules = it.rules;
    let nobody = |without_hnp: WithoutHnp| {
        let mut policy = PodPolicy::new(rules, 1, 1);
        policy.without_hnp = without_hnp;
        policy
    };
    it.programs
        .apply(&mut attached, &nobody(WithoutHnp::Closed))
        .unwrap();
    let said = it.pod.client(&["tcp 10.77.0.1:8080", "tcp [fd77::1]:80"]);
    assert!(
        said.iter().all(|said| REFUSED.contains(&&**said)),
        "{said:?}"
    );
    it.programs
        .apply(&mut attached, &nobody(WithoutHnp::Open))
        .unwrap();
    let direct = format!(" 10.77.0.1:8080 {POD4}");
    assert_eq!(it.pod.client(&["tcp 10.77.0.1:8080"]), [&*direct]);
    assert_eq!(it.count(Counter::FailedClosed), 2);
    assert_eq!(it.count(Counter::FailedOpen), 1);

    // It listens, but its heart stands still.
    let mut policy = it.acceptor.policy(rules);
    policy.without_hnp = WithoutHnp::Open;
    it.programs.apply(&mut attached, &policy).unwrap();
    it.programs.beat(1).unwrap();
    assert_eq!(it.pod.client(&["tcp 10.77.0.1:8080"]), [&*direct]);
    it.programs.beat(3_600_000_000_000).unwrap();
    let relayed = format!("10.77.0.1:8080 10.77.0.1:8080 {POD4}");
    assert_eq!(it.pod.client(&["tcp 10.77.0.1:8080"]), [&*relayed]);
    // Rules that are gone are no permission.
    it.programs.remove_rules(rules).unwrap();
    policy.without_hnp = WithoutHnp::Closed;
    it.programs.apply(&mut attached, &policy).unwrap();
    let said = it.pod.client(&["tcp 10.77.0.1:8080"]);
    assert!(REFUSED.contains(&&*said[0]), "{said:?}");
}

#[test]
fn two_pods_have_their_own_policies() {
    let Some(mut it) = Setup::new("one") else {
        return;
    };
    let other = Pod::new("two");
    let other_acceptor = other.acceptor(|| it.programs.destinations().unwrap());
    let _attached = it.attach(&[], |_| {});
    let deny = [rule("203.0.113.0/24", &[], Action::Deny)];
    let deny = CompiledRules::compile(&deny, Action::Relay).unwrap();
    let deny = it.programs.add_rules(&deny).unwrap();
    let _other_attached = it
        .programs
        .attach(&other.cgroup, 2, &other_acceptor.policy(deny))
        .unwrap();
    // Both pods have the same addresses: the namespace tells them apart.
    let to = ["tcp 203.0.113.7:443", "tcp 198.51.100.1:80"];
    let first = it.pod.client(&to);
    let second = other.client(&to);
    assert_eq!(first[0], format!("203.0.113.7:443 203.0.113.7:443 {POD4}"));
    assert!(REFUSED.contains(&&*second[0]), "{second:?}");
    assert_eq!(second[1], first[1]);
    assert_eq!(
        (it.acceptor.found().len(), other_acceptor.found().len()),
        (2, 1)
    );
    assert_eq!(it.programs.count(2, Counter::Denied).unwrap(), 1);
    assert_eq!(it.count(Counter::Denied), 0);
    assert_eq!(it.acceptor.missed() + other_acceptor.missed(), 0);
}

#[test]
fn thousands_of_connections_all_find_their_destination() {
    let Some(mut it) = Setup::new("thousands") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    // The client compares each answer with the destination it asked for.
    std::thread::scope(|scope| {
        for part in 0..2 {
            let pod = &it.pod;
            scope.spawn(move || {
                let said = pod.client(&[&format!("many 3000 {}", 1 + part * 3000)]);
                assert_eq!(said, ["all right"]);
            });
        }
    });
    assert_eq!((it.acceptor.found().len(), it.acceptor.missed()), (6000, 0));
    assert_eq!(it.count(Counter::Relayed), 6000);
    assert_eq!(it.programs.destinations().unwrap().waiting().unwrap(), 0);
}

#[test]
fn quic_is_refused_where_the_policy_says_so() {
    let Some(mut it) = Setup::new("quic") else {
        return;
    };
    let direct = [rule("10.77.0.9/32", &[], Action::Direct)];
    let _attached = it.attach(&direct, |policy| policy.deny_quic = true);
    let said = it.pod.client(&[
        "udp 10.77.0.1:443",
        "udp-connect 10.77.0.1:443",
        "udp [fd77::1]:443",
        "udp 10.77.0.1:53",
        "udp 10.77.0.9:443",
    ]);
    assert_eq!(said, ["EPERM", "EPERM", "EPERM", "sent", "sent"]);
    assert_eq!(it.count(Counter::QuicDenied), 3);
}

#[test]
fn a_socket_bound_to_an_interface_passes_or_is_refused() {
    let Some(mut it) = Setup::new("bound") else {
        return;
    };
    let _server = it.pod.server("10.77.0.1:8080");
    let mut attached = it.attach(&[], |_| {});
    let connect = ["bound pod0 10.77.0.1:8080"];
    assert_eq!(it.pod.client(&connect), ["connected"]);
    let mut policy = it.acceptor.policy(it.rules);
    policy.deny_bound = true;
    it.programs.apply(&mut attached, &policy).unwrap();
    let said = it.pod.client(&connect);
    assert!(REFUSED.contains(&&*said[0]), "{said:?}");
    assert_eq!(
        (it.count(Counter::Bound), it.acceptor.found().len()),
        (2, 0)
    );
}

#[test]
fn pins_outlive_the_loader_and_are_taken_over() {
    let Some(it) = Setup::new("pins") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    let bpffs = Bpffs::new();
    let pins = Pins::open(bpffs.0.path()).unwrap();
    let to = ["tcp 203.0.113.7:443"];
    let expected = [format!("203.0.113.7:443 203.0.113.7:443 {POD4}")];

    // The first HNP: redirects, and ends without a word.
    drop(acceptor);
    let mut first = Programs::load_pinned(pins.clone()).unwrap();
    let acceptor = pod.acceptor(|| first.destinations().unwrap());
    let rules = CompiledRules::compile(&[], Action::Relay).unwrap();
    let rules = first.add_rules(&rules).unwrap();
    let policy = acceptor.policy(rules);
    let attached = first.attach(&pod.cgroup, 1, &policy).unwrap();
    assert_eq!(pod.client(&to), expected);
    drop(attached);
    drop(first);
    drop(acceptor);
    let said = pod.client(&to);
    assert!(
        REFUSED.contains(&&*said[0]),
        "fail-closed without HNP: {said:?}"
    );

    // The second: takes over maps and links; what the first counted is still there.
    let mut second = Programs::load_pinned(pins.clone()).unwrap();
    let acceptor = pod.acceptor(|| second.destinations().unwrap());
    let again = CompiledRules::compile(&[], Action::Relay).unwrap();
    let again = second.add_rules(&again).unwrap();
    assert!(
        again > rules,
        "the number of rules in use was given out again"
    );
    let attached = second
        .attach(&pod.cgroup, 1, &acceptor.policy(again))
        .unwrap();
    second.remove_rules(rules).unwrap();
    assert_eq!(pod.client(&to), expected);
    assert_eq!(second.count(1, Counter::Relayed).unwrap(), 2);
    assert_eq!(second.count(1, Counter::FailedClosed).unwrap(), 1);
    assert_eq!(pins.cgroups().unwrap().len(), 1);

    // Detached: nothing is left but the maps, and then nothing at all.
    second.detach(attached).unwrap();
    assert_eq!(pod.client(&to), ["ENETUNREACH"]);
    assert_eq!(pins.cgroups().unwrap().len(), 0);
    assert_eq!(second.counted(1).unwrap(), None);
    second.remove_rules(again).unwrap();
    assert_eq!(second.rules_len().unwrap(), 0);

    // A pod that is deleted while HNP is away.
    let gone = Pod::new("deleted");
    drop(second.attach(&gone.cgroup, 2, &policy).unwrap());
    assert_eq!(second.sweep().unwrap(), 0);
    drop(gone);
    assert_eq!(second.sweep().unwrap(), 1);
    assert_eq!(pins.cgroups().unwrap().len(), 0);
    pins.remove().unwrap();
    assert!(!bpffs.0.path().join("v1").exists());
}

#[test]
#[ignore = "a measurement: how long `connect()` takes"]
fn connect_latency() {
    let Some(mut it) = Setup::new("latency") else {
        return;
    };
    // The same work behind the same loopback interface, in turns: without programs, past them, and redirected by them.
    let plain = it.acceptor.policy(it.rules).port4;
    let loopback = format!("time 2000 127.0.0.1:{plain}");
    for _ in 0..5 {
        let without = it.pod.client(&[&*loopback]);
        let attached = it.attach(&[], |_| {});
        let [bypassed, relayed] =
            [&*loopback, "time 2000 203.0.113.7:443"].map(|command| it.pod.client(&[command]));
        drop(attached);
        println!("without {without:?}, bypassed {bypassed:?}, relayed {relayed:?}");
    }
}

#[test]
#[ignore = "a measurement: what it costs to make a socket in a pod's network namespace"]
fn socket_inside_cost() {
    let pod = Pod::new("socket");
    let make = || TcpSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    for _ in 0..5 {
        let mut times = [0, 0];
        for (inside, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..10_000 {
                match inside {
                    0 => drop(make()),
                    _ => drop(pod.inside.visit(make).unwrap()),
                }
            }
            *time = start.elapsed().as_nanos() / 10_000;
        }
        println!("at home {} ns, inside a pod {} ns", times[0], times[1]);
    }
}

#[test]
fn two_instances_can_hold_one_cgroup() {
    // A rolling update has the old hnp and the new one attached at once.
    let Some(mut it) = Setup::new("twice") else {
        return;
    };
    let attached = it.attach(&[], |_| {});
    let mut new = Programs::load().unwrap();
    let rules = CompiledRules::compile(&[], Action::Relay).unwrap();
    let rules = new.add_rules(&rules).unwrap();
    let new_acceptor = it.pod.acceptor(|| new.destinations().unwrap());
    let _new_attached = new
        .attach(&it.pod.cgroup, 1, &new_acceptor.policy(rules))
        .unwrap();
    let expected = [format!("203.0.113.7:443 203.0.113.7:443 {POD4}")];
    assert_eq!(it.pod.client(&["tcp 203.0.113.7:443"]), expected);
    // Not only dropped: a child that another test starts at this moment may hold the links for a little longer.
    it.programs.detach(attached).unwrap();
    assert_eq!(it.pod.client(&["tcp 203.0.113.7:443"]), expected);
    assert_eq!(
        (it.acceptor.found().len(), new_acceptor.found().len()),
        (1, 1)
    );
}

#[test]
fn what_is_no_cgroup_is_refused_by_name() {
    let Some(mut it) = Setup::new("refused") else {
        return;
    };
    let policy = it.acceptor.policy(it.rules);
    let mut attach = |path: &str| it.programs.attach(Path::new(path), 1, &policy).unwrap_err();
    let missing = attach("/nonexistent/cgroup");
    assert!(matches!(missing, RedirectError::Path { .. }), "{missing}");
    assert!(
        missing.to_string().contains("/nonexistent/cgroup"),
        "{missing}"
    );
    let plain = attach("/tmp");
    assert!(
        plain.to_string().contains("attach eBPF programs to /tmp"),
        "{plain}"
    );
    let pins = Pins::open(tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(pins, RedirectError::NoBpffs { .. }), "{pins}");
}

#[test]
fn without_privilege_the_error_names_the_capability() {
    if Setup::new("privilege").is_none() {
        return;
    }
    // This very test in a process without capabilities: what it prints is what `load` says there.
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "load_without_capabilities",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("it lacks CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        "{said}{output:?}"
    );
}

#[test]
#[ignore = "the unprivileged half of another test"]
fn load_without_capabilities() {
    println!("load says: {}", Programs::load().unwrap_err());
}

/// A pod with HNP listening in it, and the programs loaded. Fields drop in this order.
struct Setup {
    acceptor: Acceptor,
    pod: Pod,
    programs: Programs,
    rules: RulesId,
}

impl Setup {
    /// Or nothing, having said so, where the machine does not allow it. CI counts that as a failure, so that nobody
    /// believes this was tested.
    fn new(name: &str) -> Option<Self> {
        match cgroup2_mount().and_then(|_| Programs::load()) {
            Ok(mut programs) => {
                let pod = Pod::new(name);
                let acceptor = pod.acceptor(|| programs.destinations().unwrap());
                let rules = CompiledRules::compile(&[], Action::Relay).unwrap();
                let rules = programs.add_rules(&rules).unwrap();
                Some(Self {
                    acceptor,
                    pod,
                    programs,
                    rules,
                })
            }
            Err(error) => {
                let no_skip = ["CI", "HNP_CI_NO_SKIP"].into_iter().any(|name| {
                    std::env::var(name).is_ok_and(|value| !matches!(&*value, "" | "0" | "false"))
                });
                assert!(!no_skip, "must run here: {error}");
                skipped(&error.to_string());
                None
            }
        }
    }

    /// As pod 1, with these rules and otherwise everything relayed.
    fn attach(
        &mut self,
        rules: &[Rule],
        change: impl FnOnce(&mut PodPolicy),
    ) -> hnp_dataplane::redirect::Attached {
        let compiled = CompiledRules::compile(rules, Action::Relay).unwrap();
        self.rules = self.programs.add_rules(&compiled).unwrap();
        let mut policy = self.acceptor.policy(self.rules);
        change(&mut policy);
        self.programs.attach(&self.pod.cgroup, 1, &policy).unwrap()
    }

    /// Waits until HNP has accepted what was redirected, which may be after the client is gone.
    fn accepted(&self) {
        let destinations = self.programs.destinations().unwrap();
        hnp_tests::wait::until("HNP to accept", || match destinations.waiting().unwrap() {
            0 => Ok(()),
            count => Err(format!("{count} waiting")),
        });
    }

    fn count(&self, counter: Counter) -> u64 {
        self.programs.count(1, counter).unwrap()
    }
}

/// A BPF file system of the test's own.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Pins::mount(directory.path()).unwrap();
        Self(directory)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Detached: a child of another test, just being started, may hold a descriptor still.
        nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

fn rule(network: &str, ports: &[RangeInclusive<u16>], action: Action) -> Rule {
    Rule {
        network: Some(network.parse().unwrap()),
        ports: ports.to_vec(),
        action,
    }
}

/// That many events, for which the kernel may take its time.
fn wait_for(events: &mut Events, count: usize) -> Vec<Observed> {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd as _;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    loop {
        seen.extend(std::iter::from_fn(|| events.try_next()));
        if seen.len() >= count {
            return seen;
        }
        assert!(Instant::now() < deadline, "only {seen:#?}");
        let mut ready = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, 1000_u16).unwrap();
    }
}

/// Says that the current test was skipped: on its output, and in the file by which `cargo xtask test` learns of it.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("skipped: {why}");
    if let Some(list) = std::env::var_os("HNP_TEST_SKIPPED") {
        use std::io::Write as _;
        let mut list = fs::File::options()
            .append(true)
            .create(true)
            .open(list)
            .unwrap();
        // One write, so that tests in parallel do not mix their lines.
        list.write_all(format!("{test}: {}\n", why.replace('\n', " ")).as_bytes())
            .unwrap();
    }
}
