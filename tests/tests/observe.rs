//! `hnp observe` beside a node that intercepts a pod. Needs root, cgroup v2 and iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[allow(
    dead_code,
    reason = "shared with the suite `intercept`, which uses all of it"
)]
#[path = "intercept/fixture.rs"]
mod fixture;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStderr, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};

use fixture::{FAR, Intercepting};
use hnp_tests::node::hnp;
use hnp_tests::process::{self, Process};
use hnp_tests::{DEADLINE, Server, origin};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A running `hnp observe`.
struct Observer {
    process: Process,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl Observer {
    /// Observes from now on, or from its first line on.
    fn start(it: &Intercepting, arguments: &[&str]) -> Observer {
        let mut command = hnp();
        command.arg("observe").args(arguments);
        command.arg("--config").arg(it.node.config_file());
        let mut child = command.spawn().unwrap();
        Observer {
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            stderr: child.stderr.take().unwrap(),
            process: Process::new(child),
        }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line of `hnp observe`").unwrap()
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn end(mut self) -> (Option<i32>, String) {
        let status = self.process.ended_within(DEADLINE).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

fn web(it: &Intercepting) -> Server {
    it.serve(FAR, |mut stream| origin::serve(&mut stream))
}

fn get(it: &Intercepting, server: &Server, host: &str) -> String {
    let mut curl = it.pod.command("curl");
    curl.args(["-s", "--noproxy", "*", "-H", &format!("Host: {host}")]);
    curl.arg(format!("http://{}/head", server.address()));
    process::run(&mut curl, DEADLINE).text()
}

#[test]
fn connections_are_lines_in_columns() {
    let it = Intercepting::start("observe-text", "[log]\naccess = false");
    let server = web(&it);
    let mut observer = Observer::start(&it, &[]);
    // Once the head is there, nothing is missed.
    let head = observer.line();
    let columns = [
        "TIME (UTC)",
        "POD",
        "PROCESS",
        "DESTINATION",
        "NAME",
        "DECISION",
    ];
    for column in columns {
        assert!(head.contains(column), "{head}");
    }
    assert!(get(&it, &server, "first.test").contains("GET /head"));
    let line = observer.line();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1], it.label());
    assert!(cells[2].starts_with("curl["), "{line}");
    let destination = server.address().to_string();
    assert_eq!(&cells[3..6], [&*destination, "first.test", "relay"]);
    assert!(!line.contains('\x1b'), "colour is for terminals: {line}");
    assert_ne!(&cells[6..8], ["0", "B"], "bytes are counted: {line}");
    observer.process.signal(Signal::SIGINT);
    assert_eq!(observer.end(), (Some(0), String::new()));
}

#[test]
fn refusals_are_told_and_filters_filter() {
    let it = Intercepting::start(
        "observe-filter",
        "[[intercept.rules]]\nhosts = [\"*.evil.test\"]\naction = \"deny\"\n",
    );
    let server = web(&it);
    let mut all = Observer::start(&it, &["--json", "--all"]);
    let mut denied = Observer::start(&it, &["--decision", "deny", "--pod", &it.label()[..8]]);
    let mut others = Observer::start(&it, &["--pod", "no-such-pod"]);
    denied.line();
    others.line();
    // JSON has no head: it observes once it tells of something.
    let told = AtomicBool::new(false);
    let first = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !told.load(Ordering::SeqCst) {
                assert!(get(&it, &server, "good.test").contains("GET /head"));
            }
        });
        let first = all.json();
        told.store(true, Ordering::SeqCst);
        first
    });
    let client = get(&it, &server, "www.evil.test");
    assert_eq!(client, "", "it is reset");
    assert_eq!(first["pod"], it.label());
    let end = loop {
        let event = all.json();
        if event["event"] == "ended" && event["action"] == "deny" {
            break event;
        }
    };
    assert_eq!(end["name"], "www.evil.test");
    assert_eq!(
        (&end["rule"], &end["end"]["reason"]),
        (&1.into(), &"denied".into())
    );
    let line = denied.line();
    assert!(
        line.contains(" www.evil.test ") && line.contains(" deny "),
        "{line}"
    );

    // When HNP ends, so do they, and say so.
    let mut node = it.node;
    node.signal(Signal::SIGTERM);
    for observer in [all, denied, others] {
        let (code, said) = observer.end();
        assert_eq!(code, Some(1));
        assert!(said.contains("the running hnp has ended"), "{said}");
    }
}

#[test]
fn without_a_running_hnp_it_says_where_it_looked() {
    let mut command = hnp();
    command.args(["observe", "--control", "/nonexistent/control.sock"]);
    let outcome = process::run(&mut command, DEADLINE);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.stderr.contains("/nonexistent/control.sock"),
        "{outcome:?}"
    );
    let outcome = process::run(hnp().args(["observe", "--decision", "maybe"]), DEADLINE);
    assert_eq!(outcome.status.code(), Some(2));
    assert!(
        outcome
            .stderr
            .contains("relay, tunnel, mtls, direct or deny"),
        "{outcome:?}"
    );
}
