//! Another build of HNP takes over: its programs in the place of those that are attached.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use aya::programs::{
    links::{FdLink, PinnedLink},
    loaded_programs,
};
use hnp_common::ABI;
use hnp_dataplane::redirect::{
    Action, Attached, CompiledRules, Counter, Pins, PodPolicy, Programs, RulesId,
};
use hnp_tests::wait;

use super::{Bpffs, Setup, pod::POD4, pod::Pod};

/// The hooks that are attached where QUIC is left alone.
const HOOKS: usize = 7;
const TO: &str = "tcp 203.0.113.7:443";

/// The programs of another build: the same, but that 1 is put into the result's register by an instruction of another width.
fn another_build() -> Vec<u8> {
    let mut object = Programs::embedded().unwrap().to_vec();
    for instruction in object.chunks_exact_mut(8) {
        if matches!(instruction[0], 0xb4 | 0xb7) && instruction[1..] == [0, 0, 0, 1, 0, 0, 0] {
            instruction[0] ^= 0xb4 ^ 0xb7;
        }
    }
    object
}

fn load(object: &[u8], pins: &Pins) -> (Programs, RulesId) {
    let mut programs = Programs::load_object(object, Some(pins.clone())).unwrap();
    let rules = CompiledRules::compile(&[], Action::Relay).unwrap();
    let rules = programs.add_rules(&rules).unwrap();
    (programs, rules)
}

fn expected() -> String {
    format!("203.0.113.7:443 203.0.113.7:443 {POD4}")
}

/// The numbers of programs.
fn numbers(programs: &Programs) -> BTreeSet<u32> {
    let reports = programs.reports().unwrap();
    reports.iter().map(|report| report.id).collect()
}

/// The numbers of the programs behind the links that are pinned for the pod.
fn attached(bpffs: &Bpffs, abi: u32, attached: u64) -> BTreeSet<u32> {
    let pod = bpffs.0.path().join(format!("v{abi}/pods/{attached}"));
    let pins = fs::read_dir(pod).unwrap();
    pins.map(|pin| {
        let link: FdLink = PinnedLink::from_pin(pin.unwrap().path()).unwrap().into();
        link.info().unwrap().program_id()
    })
    .collect()
}

/// What they do, by the kernel's hash of their instructions.
fn tags(programs: &BTreeSet<u32>) -> BTreeSet<u64> {
    let there = loaded_programs().flatten();
    there
        .filter(|info| programs.contains(&info.id()))
        .map(|info| info.tag())
        .collect()
}

/// The kernel frees what nobody holds in its own time.
fn await_gone(programs: &BTreeSet<u32>) {
    wait::until("the old programs to be gone", || {
        let there = loaded_programs().flatten().map(|info| info.id());
        match there.filter(|id| programs.contains(id)).count() {
            0 => Ok(()),
            count => Err(format!("{count} are there")),
        }
    });
}

/// Runs `work` again and again while the pod makes connections, each of which must be answered with where it was meant to go: a
/// direct one finds no route. How often.
fn while_connecting(pod: &Pod, count: u32, mut work: impl FnMut()) -> usize {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let said = pod.client(&[&format!("many {count} 1")]);
            done.store(true, Ordering::Relaxed);
            said
        });
        let mut times = 0;
        while !done.load(Ordering::Relaxed) && !client.is_finished() {
            work();
            times += 1;
        }
        assert_eq!(client.join().unwrap(), ["all right"]);
        times
    })
}

#[test]
fn another_builds_programs_are_replaced_while_a_pod_connects() {
    let Some(it) = Setup::new("upgrade") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    drop(acceptor);
    let (bpffs, other) = (Bpffs::new(), another_build());
    let pins = Pins::open(bpffs.0.path()).unwrap();
    let (mut old, rules) = load(&other, &pins);
    let acceptor = pod.acceptor(|| old.destinations().unwrap());
    let policy = acceptor.policy(rules);
    let first = old.attach(&pod.cgroup, 1, &policy).unwrap();
    assert_eq!(first.replaced().programs, 0);
    let cgroup = first.cgroup_number();
    drop(first);
    let (mut new, _) = load(Programs::embedded().unwrap(), &pins);
    assert_ne!(old.version(), new.version());

    // There and back again: an upgrade, and a downgrade.
    let replace = |programs: &mut Programs, from: &str| {
        let attached = programs.attach(&pod.cgroup, 1, &policy).unwrap();
        let replaced = attached.replaced();
        assert_eq!(replaced.programs, HOOKS, "{:?}", replaced.failed);
        let versions: Vec<&str> = replaced.versions.iter().map(String::as_str).collect();
        assert_eq!(versions, [from]);
        assert_eq!(attached.version(), programs.version());
    };
    let (old_version, new_version) = (old.version().to_owned(), new.version().to_owned());
    let times = while_connecting(&pod, 3000, || {
        replace(&mut new, &old_version);
        replace(&mut old, &new_version);
    });
    assert!(times > 10, "{times}");
    assert_eq!((acceptor.found().len(), acceptor.missed()), (3000, 0));
    assert_eq!(new.count(1, Counter::Relayed).unwrap(), 3000);
    assert_eq!(new.count(1, Counter::Bypassed).unwrap(), 0);

    replace(&mut new, &old_version);
    let (old_numbers, new_numbers) = (numbers(&old), numbers(&new));
    assert!(attached(&bpffs, ABI, cgroup).is_subset(&new_numbers));
    drop(old);
    await_gone(&old_numbers);
    assert_eq!(pod.client(&[TO]), [expected()]);

    // The same build once more replaces nothing: a restart.
    let (mut again, _) = load(Programs::embedded().unwrap(), &pins);
    let attached_again = again.attach(&pod.cgroup, 1, &policy).unwrap();
    assert_eq!(attached_again.replaced().programs, 0);
    assert!(attached(&bpffs, ABI, cgroup).is_subset(&new_numbers));
    again.detach(attached_again).unwrap();
    pins.remove().unwrap();
}

#[test]
fn a_program_that_cannot_be_replaced_goes_on() {
    let Some(it) = Setup::new("stuck") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    drop(acceptor);
    let bpffs = Bpffs::new();
    let pins = Pins::open(bpffs.0.path()).unwrap();
    let (mut old, rules) = load(&another_build(), &pins);
    let acceptor = pod.acceptor(|| old.destinations().unwrap());
    let policy = acceptor.policy(rules);
    let first = old.attach(&pod.cgroup, 1, &policy).unwrap();
    // Somebody has mixed up two pins, of programs of different types: the kernel refuses to put the one behind the other's link.
    let pin = |name: &str| {
        let number = first.cgroup_number();
        bpffs.0.path().join(format!("v{ABI}/pods/{number}/{name}"))
    };
    fs::rename(pin("hnp_sock_ops"), pin("aside")).unwrap();
    fs::rename(pin("hnp_getpeername4"), pin("hnp_sock_ops")).unwrap();
    fs::rename(pin("aside"), pin("hnp_getpeername4")).unwrap();
    let old_version = old.version().to_owned();
    drop((old, first));
    let (mut new, _) = load(Programs::embedded().unwrap(), &pins);
    let attached = new.attach(&pod.cgroup, 1, &policy).unwrap();
    let replaced = attached.replaced();
    assert_eq!(
        (replaced.programs, replaced.failed.len()),
        (HOOKS - 2, 2),
        "{replaced:?}"
    );
    let said = replaced.failed[0].to_string();
    for part in ["hnp_sock_ops", "somebody else", "detach the pod", "goes on"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(attached.version().contains("in part"), "{attached:?}");
    assert!(replaced.versions.contains(&old_version), "{replaced:?}");
    assert_eq!(pod.client(&[TO]), [expected()]);
    new.detach(attached).unwrap();
}

#[test]
fn maps_that_do_not_fit_are_made_anew() {
    let Some(it) = Setup::new("misfit") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    drop(acceptor);
    let bpffs = Bpffs::new();
    let pins = Pins::open(bpffs.0.path()).unwrap();
    let (mut old, rules) = load(Programs::embedded().unwrap(), &pins);
    let acceptor = pod.acceptor(|| old.destinations().unwrap());
    let policy = acceptor.policy(rules);
    let first = old.attach(&pod.cgroup, 1, &policy).unwrap();
    let (cgroup, old_numbers) = (first.cgroup_number(), numbers(&old));
    drop((old, first, acceptor));
    let map = |name: &str| bpffs.0.path().join(format!("v{ABI}/maps/{name}"));
    fs::rename(map("SETTINGS"), map("COUNTERS")).unwrap();

    // The same programs, but with maps of their own: those that are attached read others. What finds its policy by its link
    // cannot be replaced behind it.
    let (mut new, rules) = load(Programs::embedded().unwrap(), &pins);
    let acceptor = pod.acceptor(|| new.destinations().unwrap());
    let policy = acceptor.policy(rules);
    let taken = new.attach(&pod.cgroup, 1, &policy).unwrap();
    assert_eq!(taken.replaced().programs, HOOKS, "{:?}", taken.replaced());
    assert!(attached(&bpffs, ABI, cgroup).is_subset(&numbers(&new)));
    await_gone(&old_numbers);
    assert_eq!(pod.client(&[TO]), [expected()]);
    // Once, by the new programs alone.
    assert_eq!(new.count(1, Counter::Relayed).unwrap(), 1);
    assert_eq!(new.count(1, Counter::Bypassed).unwrap(), 0);
    drop((new, taken));
    let (mut again, _) = load(Programs::embedded().unwrap(), &pins);
    let taken = again.attach(&pod.cgroup, 1, &policy).unwrap();
    assert_eq!(taken.replaced().programs, 0);
    again.detach(taken).unwrap();
}

#[test]
fn programs_with_other_maps_are_replaced_while_a_pod_connects() {
    let Some(it) = Setup::new("versions") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    drop(acceptor);
    let bpffs = Bpffs::new();
    let pins = Pins::open(bpffs.0.path()).unwrap();
    // From an older version, and from a newer one. The old HNP still serves what it has redirected.
    for abi in [ABI - 1, ABI + 1] {
        let other = Pins::open_version(bpffs.0.path(), abi).unwrap();
        let (mut old, rules) = load(&another_build(), &other);
        let old_acceptor = pod.acceptor(|| old.destinations().unwrap());
        let old_attached = old
            .attach(&pod.cgroup, 1, &old_acceptor.policy(rules))
            .unwrap();
        let old_numbers = numbers(&old);
        let (mut new, rules) = load(Programs::embedded().unwrap(), &pins);
        let acceptor = pod.acceptor(|| new.destinations().unwrap());
        let policy = acceptor.policy(rules);
        let mut steps = 0;
        let mut attached: Option<Attached> = None;
        while_connecting(&pod, 4000, || {
            // By what was accepted, not by time, for every step to be seen by connections.
            let seen = old_acceptor.found().len() + acceptor.found().len();
            if seen < 800 * (steps + 1) || steps == 3 {
                return thread::yield_now();
            }
            steps += 1;
            match &attached {
                None => {
                    let taken = new.attach(&pod.cgroup, 1, &policy).unwrap();
                    assert_eq!(taken.replaced().programs, 0);
                    attached = Some(taken);
                }
                Some(taken) => {
                    let [found] = &*pins.others().unwrap() else {
                        panic!("{:?}", pins.others());
                    };
                    assert_eq!(found, &other);
                    assert_eq!(found.are_newer(), abi > ABI);
                    assert_eq!(found.withdraw(taken.cgroup_number()).unwrap(), steps == 3);
                }
            }
        });
        assert_eq!(steps, 3);
        let (by_old, by_new) = (old_acceptor.found().len(), acceptor.found().len());
        assert_eq!(by_old + by_new, 4000);
        assert!(by_old >= 800 && by_new >= 800, "{by_old} {by_new}");
        assert_eq!(old_acceptor.missed() + acceptor.missed(), 0);
        assert_eq!(other.waiting(), Some(0));
        other.remove().unwrap();
        assert_eq!(pins.others().unwrap(), []);
        drop((old, old_attached));
        await_gone(&old_numbers);
        assert_eq!(pod.client(&[TO]), [expected()]);
        new.detach(attached.unwrap()).unwrap();
    }
}

#[test]
fn a_replacement_that_is_killed_half_way_is_finished_by_the_next() {
    let Some(it) = Setup::new("killed") else {
        return;
    };
    let Setup { pod, acceptor, .. } = it;
    drop(acceptor);
    let bpffs = Bpffs::new();
    let pins = Pins::open(bpffs.0.path()).unwrap();
    let (mut programs, rules) = load(Programs::embedded().unwrap(), &pins);
    let acceptor = pod.acceptor(|| programs.destinations().unwrap());
    let policy = acceptor.policy(rules);
    let first = programs.attach(&pod.cgroup, 1, &policy).unwrap();
    let cgroup = first.cgroup_number();
    drop(first);
    let own = tags(&numbers(&programs));
    let (mut mixed, mut round) = (0, 0);
    // Where it is killed is chance.
    while mixed < 3 {
        round += 1;
        assert!(round < 100, "never in the middle");
        let mut replacing = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "upgrade::replacer", "--ignored", "--nocapture"])
            .env("HNP_PINS", bpffs.0.path())
            .env("HNP_CGROUP", &pod.cgroup)
            .env("HNP_PORTS", format!("{} {}", policy.port4, policy.port6))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It replaces without end: after some times, it is somewhere in the middle of one more.
        let lines = BufReader::new(replacing.stdout.take().unwrap()).lines();
        // Held open until it is dead: it is to end by the signal, not by a line that nobody reads.
        let mut done = lines
            .map(Result::unwrap)
            .filter(|line| line.contains("replaced"));
        assert_eq!(done.by_ref().take(round).count(), round);
        replacing.kill().unwrap();
        assert_eq!(replacing.wait().unwrap().signal(), Some(9));
        drop(done);
        let left = attached(&bpffs, ABI, cgroup);
        assert_eq!(left.len(), HOOKS);
        let theirs = tags(&left).difference(&own).count();
        mixed += usize::from(theirs > 0 && theirs < HOOKS);
        assert_eq!(pod.client(&[TO]), [expected()], "{left:?}");
        let taken = programs.attach(&pod.cgroup, 1, &policy).unwrap();
        assert!(taken.replaced().failed.is_empty(), "{taken:?}");
        let now = attached(&bpffs, ABI, cgroup);
        assert_eq!(now.len(), HOOKS);
        assert!(tags(&now).is_subset(&own));
        await_gone(&left.difference(&now).copied().collect());
        assert_eq!(pod.client(&[TO]), [expected()]);
    }
    assert_eq!(acceptor.missed(), 0);
    pins.remove().unwrap();
}

#[test]
#[ignore = "the process that another test kills"]
fn replacer() {
    let var = |name: &str| env::var(name).unwrap();
    let pins = Pins::open(&PathBuf::from(var("HNP_PINS"))).unwrap();
    let ports = var("HNP_PORTS");
    let (port4, port6) = ports.split_once(' ').unwrap();
    let mut builds = [another_build(), Programs::embedded().unwrap().to_vec()]
        .map(|object| load(&object, &pins));
    loop {
        for (programs, rules) in &mut builds {
            let mut policy = PodPolicy::new(*rules, port4.parse().unwrap(), port6.parse().unwrap());
            policy.source4 = Some(POD4.parse().unwrap());
            let cgroup = PathBuf::from(var("HNP_CGROUP"));
            let attached = programs.attach(&cgroup, 1, &policy).unwrap();
            // Cargo's harness has not ended its own line yet.
            println!("\nreplaced {}", attached.replaced().programs);
        }
    }
}
