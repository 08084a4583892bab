//! What operators do with it: start it wrong, start it with nothing, look at it, change it, end it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use hnp_tests::client::{connect, refused, try_connect};
use hnp_tests::node::{self, Metrics};
use hnp_tests::process::{self, Outcome};
use hnp_tests::{DEADLINE, Node, Port, Server, exchange, origin, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

fn ping(stream: &mut TcpStream) -> io::Result<()> {
    let mut back = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"ping");
    Ok(())
}

// ---- configuration ----

/// `hnp ARGUMENTS` with this configuration file.
fn hnp_with(config: &str, arguments: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hnp.toml");
    fs::write(&file, config).unwrap();
    let mut command = node::hnp();
    command.args(arguments).arg("--config").arg(file);
    process::run(&mut command, DEADLINE)
}

#[test]
fn mistakes_in_the_file_end_it_with_2_and_say_where_and_what_to_write() {
    for (config, parts) in [
        (
            "workers = 1\n[limits]\nconections = 5\n",
            ["hnp.toml:3", "conections", "connections"],
        ),
        (
            "[timeouts]\n\nhead = \"ten\"\n",
            ["hnp.toml:3", "head", "10s"],
        ),
        ("backend = \"kqueue\"\n", ["hnp.toml:1", "kqueue", "epoll"]),
        (
            "[[policy.allow]]\ncidrs = [\"10.0.0.0/33\"]\n",
            ["hnp.toml:2", "10.0.0.0/33", "cidrs"],
        ),
        ("[listener\n", ["hnp.toml:1", "listener", "]"]),
        (
            "[auth]\nhtpasswd = \"nowhere\"\n",
            ["hnp.toml:2", "nowhere", "htpasswd"],
        ),
    ] {
        for arguments in [&["run"][..], &["config", "check"]] {
            let outcome = hnp_with(config, arguments);
            let said = format!("{}{}", outcome.text(), outcome.stderr);
            assert_eq!(
                outcome.status.code(),
                Some(2),
                "{arguments:?} {config}\n{said}"
            );
            for part in parts {
                assert!(
                    said.contains(part),
                    "{arguments:?}: nothing about {part} in\n{said}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_is_not_there_and_an_unknown_flag_end_it_with_2() {
    let missing = process::run(
        node::hnp().args(["run", "--config", "/nowhere/hnp.toml"]),
        DEADLINE,
    );
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(missing.stderr.contains("/nowhere/hnp.toml"), "{missing:?}");
    let flag = process::run(node::hnp().args(["run", "--confg", "x"]), DEADLINE);
    assert_eq!(flag.status.code(), Some(2), "{flag:?}");
    assert!(flag.stderr.contains("--config"), "{flag:?}");
}

#[test]
fn a_good_file_is_checked_and_shown_without_secrets() {
    let config = "[upstream]\nurl = \"https://app.example.com\"\n[upstream.parent]\nurl = \"http://user:s3cret@10.0.0.1:3128\"\n";
    let check = hnp_with(config, &["config", "check"]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let show = hnp_with(config, arguments).success();
        assert!(
            show.contains("app.example.com") && show.contains("10.0.0.1:3128"),
            "{show}"
        );
        assert!(!show.contains("s3cret"), "{show}");
    }
    let json: Value =
        serde_json::from_str(&hnp_with(config, &["config", "show", "--json"]).success()).unwrap();
    assert!(json.is_object(), "{json}");
}

#[test]
fn an_address_in_use_ends_it_with_1_and_says_which() {
    let (taken, admin) = (Server::echo(), Port::take());
    let config = format!(
        "listener.address = \"{}\"\nadmin.address = \"{}\"\nbackend = \"{}\"",
        taken.address(),
        admin.address(),
        node::backend()
    );
    let outcome = hnp_with(&config, &["run"]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains(&taken.address().to_string()),
        "{outcome:?}"
    );
}

#[test]
fn with_no_file_the_environment_is_enough() {
    let upstream = Server::echo();
    let other = Server::echo();
    let node = Node::builder()
        .without_file()
        .env("PROXY_URL", &format!("http://{}", upstream.address()))
        .start();
    let mut tunnel = connect(node.address(), upstream.address());
    ping(&mut tunnel.stream).unwrap();
    refused(node.address(), other.address(), "").expect_refusal(
        403,
        "destination_ip_prohibited",
        &[],
    );
    // Where it would have listened, and what it makes of the url.
    let shown = process::run(
        node::hnp()
            .args(["config", "show"])
            .env("PROXY_URL", "https://app.harness.io"),
        DEADLINE,
    );
    let shown = shown.success();
    assert!(
        shown.contains("0.0.0.0:7777") && shown.contains("https://app.harness.io"),
        "{shown}"
    );
}

// ---- the end ----

#[test]
fn sigterm_with_nothing_to_do_ends_it_at_once_with_0() {
    let mut node = Node::start();
    ping(&mut connect(node.address(), Server::echo().address()).stream).unwrap();
    let started = Instant::now();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code(), 0, "{}", node.log());
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

/// Waits until the listener is closed.
fn await_refused(node: &Node) {
    wait::until(
        "new connections to be refused",
        || match TcpStream::connect(node.address()) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

#[test]
fn sigterm_refuses_what_is_new_and_lets_tunnels_finish() {
    let mut node = Node::builder().config("timeouts.drain = \"25s\"").start();
    let echo = Server::echo();
    let mut tunnels: Vec<TcpStream> = (0..8)
        .map(|_| connect(node.address(), echo.address()).stream)
        .collect();
    assert_eq!(node.admin("/readyz").status, 200);
    node.signal(Signal::SIGTERM);
    await_refused(&node);
    assert_eq!(
        node.admin("/readyz").status,
        503,
        "clients should be sent elsewhere"
    );
    assert_eq!(node.admin("/healthz").status, 200, "nobody should kill it");
    assert_eq!(node.metrics().require("hnp_draining"), 1.0);
    for stream in &mut tunnels {
        ping(stream).unwrap();
    }
    assert!(node.is_running());
    let started = Instant::now();
    for mut stream in tunnels {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "an orderly end");
    }
    assert_eq!(node.exit_code(), 0, "{}", node.log());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "it waited for nobody: {:?}",
        started.elapsed()
    );
}

#[test]
fn a_tunnel_that_does_not_finish_is_ended_by_force_and_the_exit_code_says_so() {
    let mut node = Node::builder().config("timeouts.drain = \"500ms\"").start();
    let echo = Server::echo();
    let mut stream = connect(node.address(), echo.address()).stream;
    let started = Instant::now();
    node.signal(Signal::SIGTERM);
    // However it is told, it is told.
    let end = stream.read(&mut [0]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(node.exit_code(), 1, "{}", node.log());
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(400) && took < Duration::from_secs(10),
        "{took:?}"
    );
    let target = format!("target={}", echo.address());
    let line = node.log().await_line(&["log=access", &target]);
    assert!(line.contains("closed_by=hnp"), "{line}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut node = Node::builder().config("timeouts.drain = \"25s\"").start();
    let echo = Server::echo();
    let _stream = connect(node.address(), echo.address()).stream;
    node.signal(Signal::SIGTERM);
    await_refused(&node);
    let started = Instant::now();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code(), 1, "{}", node.log());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn connections_without_a_request_do_not_hold_up_the_end() {
    let mut node = Node::builder()
        .config("timeouts.drain = \"25s\"\ntimeouts.head = \"25s\"")
        .start();
    let origin = origin::plain();
    // One that has asked nothing, and one between two requests.
    let _silent = TcpStream::connect(node.address()).unwrap();
    let mut kept = TcpStream::connect(node.address()).unwrap();
    kept.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = origin.address();
    write!(
        kept,
        "GET http://{address}/head HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(exchange::read_response(&mut kept).unwrap().status, 200);
    node.await_metrics("both connections", |metrics| {
        match metrics.require("hnp_connections_active") {
            2.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    });
    let started = Instant::now();
    node.signal(Signal::SIGTERM);
    node.exit_code();
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}\n{}",
        started.elapsed(),
        node.log()
    );
}

// ---- changes ----

const NOTHING_ALLOWED: &str = "[policy]\nallow = []";

#[test]
fn sighup_loads_the_file_again_for_new_connections() {
    let mut node = Node::start();
    let echo = Server::echo();
    let mut open = connect(node.address(), echo.address()).stream;
    node.rewrite_config(NOTHING_ALLOWED);
    node.signal(Signal::SIGHUP);
    node.log().await_line(&["reloaded"]);
    refused(node.address(), echo.address(), "").expect_refusal(
        403,
        "destination_ip_prohibited",
        &[],
    );
    ping(&mut open).unwrap();
    assert!(node.metrics().sum("hnp_config_reloads_total") >= 1.0);
}

#[test]
fn a_changed_file_is_loaded_without_a_signal() {
    let mut node = Node::start();
    let echo = Server::echo();
    drop(connect(node.address(), echo.address()));
    node.rewrite_config(NOTHING_ALLOWED);
    node.log().await_line(&["reloaded"]);
    assert_eq!(refused(node.address(), echo.address(), "").status, 403);
    // And back, written over in place.
    let mark = node.log().mark();
    let text = fs::read_to_string(node.config_file()).unwrap();
    fs::write(
        node.config_file(),
        text.replace("allow = []", "allow = [{ cidrs = [\"127.0.0.0/8\"] }]"),
    )
    .unwrap();
    wait::until("the old way to be open again", || {
        match try_connect(node.address(), echo.address()) {
            Ok((response, _)) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}\n{}", node.log())),
        }
    });
    node.log().await_line_after(mark, &["reloaded"]);
}

#[test]
fn a_file_behind_the_links_of_a_mounted_config_map_is_followed() {
    // hnp.toml -> ..data/hnp.toml, ..data -> ..1: a change is one rename of ..data.
    let mut node = Node::start();
    let echo = Server::echo();
    let directory = node.directory().to_owned();
    let text = fs::read_to_string(node.config_file()).unwrap();
    fs::create_dir(directory.join("..1")).unwrap();
    fs::create_dir(directory.join("..2")).unwrap();
    fs::write(directory.join("..1/hnp.toml"), &text).unwrap();
    let policy = text.find("[[policy.allow]]").unwrap();
    let end = text[policy..]
        .find("\n[")
        .map_or(text.len(), |end| policy + end + 1);
    fs::write(
        directory.join("..2/hnp.toml"),
        format!("{}{}", &text[..policy], &text[end..]),
    )
    .unwrap();
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/hnp.toml", directory.join("link")).unwrap();
    fs::rename(directory.join("link"), node.config_file()).unwrap();
    node.signal(Signal::SIGHUP);
    node.log().await_line(&["reloaded"]);
    drop(connect(node.address(), echo.address()));

    symlink("..2", directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    wait::until("the new policy", || {
        match try_connect(node.address(), echo.address()) {
            Ok((response, _)) if response.status == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_bad_file_changes_nothing_and_is_named() {
    let mut node = Node::start();
    let echo = Server::echo();
    node.replace_config("workers = 2\n[policy]\nalow = []\n");
    node.signal(Signal::SIGHUP);
    let line = node.log().await_line(&["hnp.toml:3", "alow"]);
    assert!(line.contains("ERROR") || line.contains("error"), "{line}");
    ping(&mut connect(node.address(), echo.address()).stream).unwrap();
    node.await_metrics("the failed reload", |metrics| {
        let failed = metrics.sum("hnp_config_reloads_total")
            - metrics.sum_where("hnp_config_reloads_total", &["result=\"ok\""]);
        if failed >= 1.0 {
            Ok(())
        } else {
            Err(format!("{metrics:?}"))
        }
    });
    // A good one is taken afterwards.
    node.rewrite_config(NOTHING_ALLOWED);
    node.signal(Signal::SIGHUP);
    node.log().await_line(&["reloaded"]);
    assert_eq!(refused(node.address(), echo.address(), "").status, 403);
}

#[test]
fn many_reloads_leave_nothing_behind() {
    let mut node = Node::start();
    let echo = Server::echo();
    ping(&mut connect(node.address(), echo.address()).stream).unwrap();
    let sockets = |node: &Node| node.descriptors().len();
    let before = wait::until("a quiet node", || {
        match node.metrics().require("hnp_connections_active") {
            0.0 => Ok(sockets(&node)),
            n => Err(format!("{n} connections")),
        }
    });
    for turn in 0..25 {
        let mark = node.log().mark();
        node.rewrite_config(&format!("limits.connections = {}", 100 + turn));
        node.signal(Signal::SIGHUP);
        node.log().await_line_after(mark, &["reloaded"]);
        ping(&mut connect(node.address(), echo.address()).stream).unwrap();
    }
    wait::until("descriptors to be given back", || match sockets(&node) {
        now if now <= before + 1 => Ok(()),
        now => Err(format!(
            "{now} descriptors, {before} before: {:?}",
            node.descriptors()
        )),
    });
}

// ---- looking at it ----

#[test]
fn the_admin_address_answers() {
    let upstream = Server::echo();
    let url = format!("http://{}", upstream.address());
    let node = Node::builder()
        .config(&format!("upstream.url = \"{url}\""))
        .start();
    ping(&mut connect(node.address(), upstream.address()).stream).unwrap();

    let metrics = node.admin("/metrics");
    assert!(
        metrics.header("content-type").unwrap().contains("text"),
        "{metrics:?}"
    );
    let text = metrics.text();
    assert!(
        text.contains("# HELP hnp_tunnels_active ")
            && text.contains("# TYPE hnp_tunnels_active gauge"),
        "{text}"
    );
    let metrics = Metrics::parse(&text);
    assert_eq!(metrics.require("hnp_connections_accepted_total"), 1.0);
    assert_eq!(
        metrics.sum_where("hnp_bytes_total", &["direction=\"up\""]),
        4.0
    );

    wait::until("readiness with a line for each part", || {
        let ready = node.admin("/readyz");
        let text = ready.text();
        let listener = node.address().to_string();
        let parts = [
            "worker 0",
            "worker 1",
            "listener",
            listener.as_str(),
            "upstream",
        ];
        match ready.status {
            200 if parts.iter().all(|part| text.contains(part)) => Ok(()),
            _ => Err(format!("{ready:?}\n{text}")),
        }
    });
    assert_eq!(node.admin("/healthz").status, 200);
    assert_eq!(node.admin("/nothing").status, 404);
    let post = exchange::request(
        node.admin_address(),
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(post.status, 405);
}

#[test]
fn an_upstream_that_is_away_is_said_and_does_not_make_it_unready() {
    let nobody = Port::take();
    let url = format!("http://{}", nobody.address());
    let node = Node::builder()
        .config(&format!("upstream.url = \"{url}\""))
        .start();
    wait::until("the upstream's line", || {
        let ready = node.admin("/readyz");
        let text = ready.text();
        let line = text
            .lines()
            .find(|line| line.starts_with("upstream"))
            .unwrap_or_default();
        match ready.status {
            200 if line.contains("refused") => Ok(()),
            _ => Err(format!("{} {text}", ready.status)),
        }
    });
    assert_eq!(node.metrics().require("hnp_upstream_reachable"), 0.0);
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let node = Node::builder()
        .config("upstream.url = \"http://manager.test\"\n[upstream.parent]\nurl = \"http://user:s3cret@127.0.0.1:3128\"")
        .start();
    let config = node.admin("/config");
    assert_eq!(config.status, 200);
    let text = config.text();
    assert!(
        text.contains("manager.test") && text.contains("127.0.0.1:3128"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn the_backend_is_the_one_that_was_asked_for() {
    let node = Node::start();
    let metrics = node.metrics();
    let runs =
        |name: &str| metrics.sum_where("hnp_backend_info", &[&format!("backend=\"{name}\"")]);
    match node::backend().as_str() {
        "auto" => assert_eq!(runs("io_uring") + runs("epoll"), 2.0),
        name => assert_eq!(runs(name), 2.0, "{name}"),
    }
}

#[test]
fn where_io_uring_is_forbidden_it_serves_through_epoll_and_says_why() {
    let node = Node::builder()
        .config("backend = \"auto\"")
        .without_io_uring()
        .start();
    let line = node.log().await_line(&["io_uring", "epoll"]);
    // The cause and what to do about it.
    assert!(line.contains("seccomp"), "{line}");
    assert!(line.contains("allow") || line.contains("profile"), "{line}");
    ping(&mut connect(node.address(), Server::echo().address()).stream).unwrap();
    assert_eq!(
        node.metrics()
            .sum_where("hnp_backend_info", &["backend=\"epoll\""]),
        2.0
    );
}

#[test]
fn where_io_uring_is_forbidden_and_demanded_it_ends_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hnp.toml");
    let port = Port::take();
    fs::write(
        &file,
        format!(
            "backend = \"io_uring\"\nlistener.address = \"{}\"\n",
            port.address()
        ),
    )
    .unwrap();
    let mut command: Command = node::hnp();
    command.args(["run", "--config"]).arg(&file);
    let child = hnp_tests::seccomp::spawn_without_io_uring(command).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("io_uring") && said.contains("seccomp"),
        "{said}"
    );
}
