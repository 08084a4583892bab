//! What the report says of connections that are not simply relayed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use hnp_tests::process::{self, Process};
use hnp_tests::server::receive;
use hnp_tests::{DEADLINE, Server};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{self, Scene, code};

/// The report on `sh -c script`, and what the script said.
fn observe(scene: &Scene, options: &[&str], script: &str) -> (Value, String) {
    let report = scene.path("report.json");
    let mut exec = scene.exec();
    exec.args(["--json", "--output", &report]).args(options);
    let outcome = process::run(exec.args(["sh", "-c", script]), DEADLINE);
    let report = scene::report(&std::fs::read_to_string(report).unwrap());
    (report, outcome.success())
}

fn row<'a>(report: &'a Value, destination: &str) -> &'a Value {
    let rows = report["destinations"].as_array().unwrap();
    rows.iter()
        .find(|row| row["destination"] == destination)
        .unwrap_or_else(|| panic!("no row for {destination}: {report}"))
}

#[test]
fn rules_decide_and_the_rows_say_so() {
    let scene = Scene::new("rules");
    let servers = ["10.77.0.1:80", "10.77.0.1:81", "10.77.0.1:82"].map(|at| scene.origin(at));
    let config = scene.file(
        "hnp.toml",
        r#"
[[intercept.rules]]
cidrs = ["10.77.0.0/24"]
ports = [81]
action = "direct"
[[intercept.rules]]
cidrs = ["10.77.0.1/32"]
ports = [82]
action = "deny"
[[intercept.rules]]
hosts = ["*.evil.test"]
action = "deny"
"#,
    );
    let script = "ask() { curl -s -o /dev/null -H \"Host: $2\" http://10.77.0.1:$1/head; echo $?; }; \
                  ask 80 good.test; ask 81 x.test; ask 82 x.test; ask 80 www.evil.test";
    let (report, said) = observe(&scene, &["--config", &config], script);
    // 7: no connection; 56: it was reset.
    assert_eq!(said, "0\n0\n7\n56\n", "{report}");
    let direct = row(&report, "10.77.0.1:81");
    assert_eq!(
        (&direct["decision"], &direct["connections"]),
        (&"direct".into(), &1.into())
    );
    assert!(direct["bytes_down"].as_u64().unwrap() > 50, "{direct}");
    let denied = row(&report, "10.77.0.1:82");
    assert_eq!(
        (&denied["decision"], &denied["connections"]),
        (&"deny".into(), &1.into())
    );
    let rows = report["destinations"].as_array().unwrap();
    let by_name = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(by_name("good.test")["decision"], "relay");
    let evil = by_name("www.evil.test");
    assert_eq!(evil["decision"], "deny");
    assert!(evil["note"].as_str().unwrap().contains("rule 3"), "{evil}");
    assert_eq!(servers.map(|server| server.accepted()), [1, 1, 0]);
}

#[test]
fn what_cannot_be_reached_has_failed_and_says_why() {
    let scene = Scene::new("failed");
    let script = "curl -s http://10.77.0.1:9/; echo $?; curl -s http://127.0.0.1:9/; echo $?";
    let (report, said) = observe(&scene, &[], script);
    // To the client it was connected, or nearly (56, 7); within the host nothing is intercepted.
    assert!(["56\n7\n", "7\n7\n"].contains(&&*said), "{said}");
    assert_eq!(
        report["destinations"].as_array().unwrap().len(),
        1,
        "{report}"
    );
    let failed = row(&report, "10.77.0.1:9");
    assert_eq!(
        (&failed["connections"], &failed["failed"]),
        (&1.into(), &1.into())
    );
    assert!(
        failed["note"].as_str().unwrap().contains("refused"),
        "{failed}"
    );
    let mut exec = scene.exec();
    let outcome = process::run(exec.args(["curl", "-s", "http://10.77.0.1:9/"]), DEADLINE);
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.starts_with("10.77.0.1:9 "));
    assert!(
        line.is_some_and(|line| line.contains(" relay ") && line.contains("refused")),
        "{outcome:?}"
    );
}

#[test]
fn who_speaks_second_waits_for_nobody() {
    let scene = Scene::new("second");
    let _server = scene.pod.peer.run(|| {
        Server::on("10.77.0.1:25".parse().unwrap(), |mut stream| {
            std::io::Write::write_all(&mut stream, b"220 ready\r\n")?;
            stream.read_to_string(&mut String::new()).map(drop)
        })
    });
    let script = "python3 -c 'import socket; s = socket.create_connection((\"10.77.0.1\", 25)); print(s.recv(99).decode())'";
    let (report, said) = observe(&scene, &[], script);
    assert_eq!(said.trim(), "220 ready");
    let row = row(&report, "10.77.0.1:25");
    assert_eq!(
        (&row["name"], &row["bytes_down"]),
        (&Value::Null, &11.into())
    );
    assert!(row["longest_ms"].as_f64().unwrap() < 10_000.0, "{row}");
}

#[test]
fn what_was_sent_arrives_although_the_command_has_ended() {
    let scene = Scene::new("last-bytes");
    let (send, received) = mpsc::channel();
    let (begin, begun) = mpsc::channel::<()>();
    let begun = std::sync::Mutex::new(begun);
    let _server = scene.pod.peer.run(|| {
        Server::on("10.77.0.1:9000".parse().unwrap(), move |stream| {
            // Reads only once the command has ended.
            let _ = begun.lock().unwrap().recv();
            let _ = send.send(receive(stream));
            Ok(())
        })
    });
    // More than goes into one socket's buffer: some of it is HNP's to deliver.
    let script = "import socket; s = socket.create_connection(('10.77.0.1', 9000)); s.setblocking(False)\n\
                  n = 0\n\
                  try:\n  while n < 3000000: n += s.send(bytes(65536))\n\
                  except BlockingIOError: pass\n\
                  print(n, flush=True)";
    let mut child = scene
        .exec()
        .args(["--json", "python3", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let sent: u64 = said.trim().parse().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut exec = Process::new(child);
    begin.send(()).unwrap();
    let arrived = received.recv_timeout(DEADLINE).unwrap();
    assert_eq!((arrived.length, arrived.error), (sent, None));
    assert_eq!(code(exec.ended_within(DEADLINE).unwrap()), 0);
    let mut report = String::new();
    stderr.read_to_string(&mut report).unwrap();
    let report = scene::report(&report);
    assert_eq!(row(&report, "10.77.0.1:9000")["bytes_up"], sent);
    assert_eq!(report["connections_cut"], 0);
}

#[test]
fn connections_of_who_outlives_the_command_are_cut() {
    let scene = Scene::new("cut");
    let server = scene.pod.peer.run(|| {
        Server::on("10.77.0.1:7".parse().unwrap(), |mut stream| {
            std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
        })
    });
    // The grandchild holds its connection until that ends, and then takes its time to end: its memory has to be given back, and
    // who is ending can be moved out of no cgroup. The command ends once the connection stands.
    let grandchild = "import os, socket; memory = b'1' * (256 << 20); s = socket.create_connection(('10.77.0.1', 7)); s.send(b'x'); s.recv(1); print('stands', flush=True)\n\
                      try: s.recv(1)\n\
                      except ConnectionResetError: os._exit(0)";
    let file = scene.file("grandchild.py", grandchild);
    let fifo = scene.path("fifo");
    let script = format!(
        "mkfifo {fifo}; python3 {file} >{fifo} 2>/dev/null & while ! test -p {fifo}; do :; done; read line <{fifo}; echo $line"
    );
    let outcome = process::run(scene.exec().args(["sh", "-c", &script]), DEADLINE);
    assert_eq!(outcome.text(), "stands\n");
    assert_eq!(outcome.status.code(), Some(0));
    for part in [
        "a process of the command is still running",
        "a connection was cut",
        "cut at the end",
    ] {
        assert!(outcome.stderr.contains(part), "no {part}: {outcome:?}");
    }
    assert_eq!(scene.cgroups(), [""; 0], "left behind");
    server.await_idle();
}

#[test]
fn a_signal_ends_the_wait_for_last_bytes() {
    let scene = Scene::new("impatient");
    let (held, holds) = mpsc::channel();
    let _server = scene.pod.peer.run(|| {
        Server::on("10.77.0.1:7".parse().unwrap(), move |stream| {
            // Never ends its side.
            let _ = held.send(stream);
            Ok(())
        })
    });
    let script = "import socket; s = socket.create_connection(('10.77.0.1', 7)); s.send(b'x'); s.close(); print('ended', flush=True)";
    let mut child = scene
        .exec()
        .args(["-q", "python3", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let mut exec = Process::new(child);
    let _stream = holds.recv_timeout(DEADLINE).unwrap();
    exec.signal(Signal::SIGTERM);
    // The command's own code, if it had ended before the signal came; else the signal's.
    let code = code(exec.ended_within(Duration::from_secs(20)).unwrap());
    assert!([0, 143].contains(&code), "{code}");
}
