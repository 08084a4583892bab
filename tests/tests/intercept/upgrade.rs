//! An HNP of another build, or with maps of another version, was there before.

use std::io::Write;
use std::net::SocketAddr;

use hnp_dataplane::redirect::{
    Action, CompiledRules, Pins, PodPolicy, Programs, Replaced, WithoutHnp,
};
use hnp_tests::Server;
use nix::sys::signal::Signal;

use crate::fixture::{FAR, Intercepting};

/// What the running HNP knows.
const ABI: u32 = 1;

#[test]
fn an_upgrade_replaces_the_programs_while_a_pod_connects() {
    let mut it = Intercepting::start("upgraded", "");
    let own = list(&it);
    end(&mut it);
    // An HNP of another build was there meanwhile: that is a downgrade, and the one that comes back an upgrade.
    let pins = Pins::open(it.pinned()).unwrap();
    let (other, replaced) = another_hnp(&it, &pins);
    assert_eq!(replaced, 7);
    while_connecting(&mut it, |it| {
        it.restart();
        let log = it.node.log();
        log.await_line(&["replaced 7 programs of version", &other, &own]);
        log.await_line(&["taken over"]);
    });
    assert_eq!(list(&it), own);
    assert_ne!(own, other);
}

#[test]
fn an_older_versions_maps_are_replaced_while_a_pod_connects() {
    supersedes("older", ABI - 1, "programs of an older HNP");
}

#[test]
fn a_newer_versions_maps_are_replaced_with_a_warning() {
    supersedes("newer", ABI + 1, "start the newer one");
}

fn supersedes(name: &str, abi: u32, said: &str) {
    let mut it = Intercepting::unattached(name, |node| node);
    // Once it answers, it has looked for other versions.
    it.intercept(&["--list"]).success();
    let directory = it.pinned().join(format!("v{abi}"));
    let pins = Pins::open_version(it.pinned(), abi).unwrap();
    another_hnp(&it, &pins);
    end(&mut it);
    assert!(directory.exists(), "what comes while it runs is left alone");
    while_connecting(&mut it, |it| {
        it.restart();
        let log = it.node.log();
        log.await_line(&[said]);
        let version = format!("maps are of version {abi}");
        log.await_line(&["replaced the programs of an HNP", &version]);
        log.await_line(&[
            &format!("maps of version {abi} are removed"),
            "0 connections",
        ]);
    });
    assert!(!directory.exists());
    assert_eq!(it.pins().len(), 1);
}

#[test]
fn detaching_all_leaves_nothing_of_other_versions() {
    let mut it = Intercepting::start("everything", "");
    let pins = Pins::open_version(it.pinned(), ABI + 1).unwrap();
    another_hnp(&it, &pins);
    end(&mut it);
    let said = it.intercept(&["--detach", "all"]).success();
    assert!(said.contains("no hnp runs; 1 pods"), "{said}");
    // The file system has files of its own.
    let mut left = std::fs::read_dir(it.pinned()).unwrap();
    assert!(left.all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .starts_with('v')
    }));
}

/// The build that the pod's programs are of.
fn list(it: &Intercepting) -> String {
    let listed = it.intercept(&["--list"]).success();
    let mut lines = listed.lines();
    let line = lines.find_map(|line| line.trim().strip_prefix("programs of hnp "));
    line.unwrap_or_else(|| panic!("{listed}")).to_owned()
}

fn end(it: &mut Intercepting) {
    it.node.signal(Signal::SIGTERM);
    assert_eq!(it.node.exit_code(), 0);
}

/// Another build attaches to the pod, and ends: its version, and how many programs it replaced.
fn another_hnp(it: &Intercepting, pins: &Pins) -> (String, usize) {
    let mut object = Programs::embedded().unwrap().to_vec();
    // The same, but that 1 is put into the result's register by an instruction of another width.
    for instruction in object.chunks_exact_mut(8) {
        if matches!(instruction[0], 0xb4 | 0xb7) && instruction[1..] == [0, 0, 0, 1, 0, 0, 0] {
            instruction[0] ^= 0xb4 ^ 0xb7;
        }
    }
    let mut programs = Programs::load_object(&object, Some(pins.clone())).unwrap();
    let rules = CompiledRules::compile(&[], Action::Relay).unwrap();
    let mut policy = PodPolicy::new(programs.add_rules(&rules).unwrap(), 1, 1);
    policy.without_hnp = WithoutHnp::Open;
    let attached = programs.attach(&it.pod.cgroup, 1, &policy).unwrap();
    let replaced: &Replaced = attached.replaced();
    assert!(replaced.failed.is_empty(), "{replaced:?}");
    (programs.version().to_owned(), replaced.programs)
}

/// The pod connects without pause, and every time gets an answer; at the end through HNP.
fn while_connecting(it: &mut Intercepting, work: impl FnOnce(&mut Intercepting)) {
    let server = it.serve(FAR, |mut stream| stream.write_all(b"here"));
    let directory = tempfile::tempdir().unwrap();
    let stop = directory.path().join("stop");
    let code = format!(
        "import os, socket\n\
         count = 0\n\
         while not os.path.exists('{}'):\n\
         \x20   s = socket.create_connection(('{FAR}', {}))\n\
         \x20   assert s.recv(9) == b'here', count\n\
         \x20   s.close()\n\
         \x20   count += 1\n\
         print(count)",
        stop.display(),
        server.port()
    );
    let mut client = it.pod.command("python3");
    client
        .args(["-c", &code])
        .stdout(std::process::Stdio::piped());
    let client = client.spawn().unwrap();
    server.await_accepted(10);
    work(it);
    relayed(it, &server);
    std::fs::write(&stop, "").unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let count: usize = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(count > 10, "{count}");
    let metrics = it.node.metrics();
    assert_eq!(metrics.sum("hnp_intercept_lookup_misses_total"), 0.0);
}

fn relayed(it: &Intercepting, server: &Server) {
    let to: SocketAddr = server.address();
    let line = it.line(to);
    assert!(line.contains("action=relay"), "{line}");
}
