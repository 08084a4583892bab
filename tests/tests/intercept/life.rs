//! Pods, configurations and HNP itself come and go.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use hnp_tests::pod::cgroup2_mount;
use hnp_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{FAR, Intercepting};

#[test]
fn rules_are_loaded_again() {
    let mut it = Intercepting::start("reload", "");
    let server = it.serve(FAR, |mut stream| stream.write_all(b"here"));
    assert_eq!(it.ends_by(&server.address().to_string()), "b'here'");
    it.node
        .rewrite_config("[[intercept.rules]]\ncidrs = [\"203.0.113.0/24\"]\naction = \"deny\"");
    it.node.log().await_line(&["configuration reloaded"]);
    let to = server.address().to_string();
    assert_eq!(it.ends_by(&to), "ConnectionRefusedError");
    it.node.rewrite_config("");
    wait::until("the rule to be gone", || match it.ends_by(&to) {
        said if said == "b'here'" => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_new_hnp_takes_over_from_one_that_was_killed() {
    let mut it = Intercepting::start("killed", "[intercept]\nfailure = \"closed\"");
    let server = it.serve(FAR, |mut stream| stream.write_all(b"here"));
    let to = server.address().to_string();
    assert_eq!(it.ends_by(&to), "b'here'");
    it.node.signal(Signal::SIGKILL);
    it.node.exit_code();
    assert_eq!(it.ends_by(&to), "ConnectionRefusedError", "fails closed");
    it.restart();
    it.node.log().await_line(&["taken over"]);
    assert_eq!(it.ends_by(&to), "b'here'");
    let listed = it.intercept(&["--list"]).success();
    assert!(listed.contains(&it.label()), "{listed}");
    // What the kernel counted before is not lost.
    let refused = ["decision=\"failed_closed\""];
    let metrics = it.node.metrics();
    assert_eq!(
        metrics.sum_where("hnp_intercept_kernel_total", &refused),
        1.0
    );
    assert!(it.node.log().to_string().contains("close_reason=hnp_away"));
}

#[test]
fn an_orderly_end_leaves_pods_to_the_next_and_detaching_does_not() {
    let mut it = Intercepting::start("ended", "");
    let server = it.serve(FAR, |mut stream| {
        let peer = stream.peer_addr()?.ip().to_string();
        stream.write_all(peer.as_bytes())
    });
    let to = server.address().to_string();
    it.node.signal(Signal::SIGTERM);
    assert_eq!(it.node.exit_code(), 0);
    assert_eq!(it.ends_by(&to), "b'10.77.0.2'", "fails open");
    it.restart();
    assert_eq!(it.ends_by(&to), "b'10.77.0.2'");
    it.line(server.address());
    let label = it.label();
    it.intercept(&["--detach", &label]).success();
    let listed = it.intercept(&["--list"]).success();
    assert!(!listed.contains(&label), "{listed}");
    assert_eq!(it.ends_by(&to), "b'10.77.0.2'", "left alone");
    assert_eq!(it.pins(), Vec::<String>::new());
    let again = it.intercept(&["--detach", &label]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("no pod"), "{}", again.stderr);
}

#[test]
fn a_deleted_pod_leaves_nothing() {
    let it = Intercepting::start("deleted", "");
    let netns = fs::read_link(it.pod.netns.path()).unwrap();
    let holds = |it: &Intercepting| {
        let held = it.node.descriptors();
        held.iter()
            .filter(|held| **held == netns.to_string_lossy())
            .count()
    };
    assert!(holds(&it) > 0, "HNP has it open while it serves the pod");
    let server = it.serve(FAR, |mut stream| {
        stream.write_all(b"here")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let mut client = it.pod.command("python3");
    client.args([
        "-c",
        &format!(
            "import socket,time\ns=socket.create_connection(('{FAR}',{}))\ns.recv(9)\ntime.sleep(1000)",
            server.port()
        ),
    ]);
    let mut client = client.spawn().unwrap();
    server.await_accepted(1);
    let mark = it.node.log().mark();
    it.pod.delete_cgroup();
    client.wait().unwrap();
    it.node.log().await_line_after(mark, &["the pod is gone"]);
    wait::until("the namespace to be let go", || match holds(&it) {
        0 => Ok(()),
        held => Err(held.to_string()),
    });
    assert_eq!(it.pins(), Vec::<String>::new());
    assert_eq!(it.intercept(&["--list", "--json"]).success().trim(), "[]");
    assert_eq!(it.node.metrics().require("hnp_intercept_pods"), 0.0);
}

#[test]
fn connections_from_before_are_counted_and_closed_on_request() {
    let it = Intercepting::unattached("before", |node| node);
    let server = it.serve(FAR, |mut stream| {
        stream.write_all(b"here")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let code = format!(
        "import socket\n\
         s = socket.create_connection(('{FAR}', {}))\n\
         try:\n\
         \x20   while s.recv(9): pass\n\
         except OSError as e: print(type(e).__name__)",
        server.port()
    );
    std::thread::scope(|scope| {
        let client = scope.spawn(|| it.python(&code).success());
        server.await_accepted(1);
        let said = it.attach().success();
        assert!(said.contains("1 connections from before go on"), "{said}");
        let cgroup = it.pod.cgroup.to_str().unwrap();
        let said = it
            .intercept(&["--cgroup", cgroup, "--close-existing"])
            .success();
        assert!(
            said.contains("1 connections from before were closed"),
            "{said}"
        );
        assert_eq!(client.join().unwrap().trim(), "ConnectionAbortedError");
    });
}

#[test]
fn what_an_hnp_that_has_ended_left_can_be_detached() {
    let mut it = Intercepting::start("leftover", "[intercept]\nfailure = \"closed\"");
    let server = it.serve(FAR, |mut stream| stream.write_all(b"here"));
    let to = server.address().to_string();
    it.node.signal(Signal::SIGTERM);
    assert_eq!(it.node.exit_code(), 0);
    assert_eq!(it.ends_by(&to), "ConnectionRefusedError");
    let said = it.intercept(&["--detach", "all"]).success();
    assert!(said.contains("no hnp runs; 1 pods"), "{said}");
    assert_eq!(it.ends_by(&to), "b'here'");
}

#[test]
fn an_hnp_that_hangs_counts_as_gone() {
    let mut it = Intercepting::start("hang", "");
    let server = it.serve(FAR, |mut stream| stream.write_all(b"here"));
    let to = server.address();
    let code = format!(
        "import socket\n\
         s = socket.create_connection(('{}', {}), 1)\n\
         try: print(s.recv(9))\n\
         except OSError as e: print(type(e).__name__)",
        to.ip(),
        to.port()
    );
    it.node.signal(Signal::SIGSTOP);
    // It still listens, so that the kernel accepts for it, until its heartbeat is too old.
    let mut tries = 0;
    wait::until("the heartbeat to be missed", || {
        tries += 1;
        match it.python(&code).success().trim() {
            "b'here'" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    assert!(tries > 1, "HNP was gone at once");
    it.node.signal(Signal::SIGCONT);
    wait::until("HNP to have connections again", || {
        assert_eq!(it.python(&code).success().trim(), "b'here'");
        let line = it.node.log().lines();
        match line
            .iter()
            .any(|line| line.contains("bytes_down=4") && line.contains("action=relay"))
        {
            true => Ok(()),
            false => Err("not relayed".to_owned()),
        }
    });
}

#[test]
fn a_pod_in_the_hosts_network_is_refused() {
    let it = Intercepting::unattached("host", |node| node);
    let cgroup = cgroup2_mount().join(format!("hnp-test-hostnetwork-{}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    let mut sleeping = std::process::Command::new("sh")
        .args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec sleep infinity"])
        .arg(&cgroup)
        .spawn()
        .unwrap();
    wait::until("the process", || {
        match fs::read_to_string(cgroup.join("cgroup.procs"))
            .unwrap()
            .as_str()
        {
            "" => Err("not there".to_owned()),
            _ => Ok(()),
        }
    });
    let refused = it.intercept(&["--pid", &sleeping.id().to_string()]);
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    let empty = it.intercept(&["--cgroup", cgroup.to_str().unwrap()]);
    wait::until("the cgroup to go", || {
        fs::remove_dir(&cgroup).map_err(|error| error.to_string())
    });
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("hostNetwork"), "{}", refused.stderr);
    assert!(empty.stderr.contains("has no process"), "{}", empty.stderr);
    let none = it.intercept(&["--cgroup", "/no/such/cgroup"]);
    assert!(
        none.stderr.contains("no cgroup v2 directory"),
        "{}",
        none.stderr
    );
}

#[test]
fn observers_are_told_of_every_connection() {
    let rules = "[log]\naccess = false\n[[intercept.rules]]\ncidrs = [\"203.0.113.8/32\"]\naction = \"deny\"";
    let it = Intercepting::start("observed", rules);
    let mut observer = BufReader::new(UnixStream::connect(it.control()).unwrap());
    observer
        .get_mut()
        .write_all(b"{\"do\":\"observe\"}\n")
        .unwrap();
    let mut next = || -> Value {
        let mut line = String::new();
        observer.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next()["pods"][0]["pod"], it.label());
    let server = it.serve(FAR, |mut stream| {
        stream.read_to_end(&mut Vec::new())?;
        stream.write_all(b"here")?;
        stream.shutdown(Shutdown::Write)
    });
    assert_eq!(it.exchange(server.address(), "hello"), "here");
    assert_eq!(it.ends_by("203.0.113.8:443"), "ConnectionRefusedError");
    // Kernel and workers tell by ways of their own: the order is theirs.
    let mut seen: Vec<Value> = (0..3).map(|_| next()).collect();
    seen.sort_by_key(|event| event["event"].as_str().unwrap().to_owned());
    let kinds: Vec<&str> = seen
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["denied", "ended", "redirected"]);
    assert_eq!(seen[0]["rule"], 1);
    assert_eq!(seen[1]["end"]["bytes_up"], 5, "{seen:#?}");
    assert_eq!(seen[1]["end"]["bytes_down"], 4);
    assert_eq!(seen[1]["destination"], server.address().to_string());
    assert!(
        seen.iter().all(|event| event["process"] == "python3"),
        "{seen:?}"
    );
}
