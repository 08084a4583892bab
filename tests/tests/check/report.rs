//! The whole of what it says: where all is well, to people, and that the manual explains each item.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hnp_tests::dns::NameServer;
use hnp_tests::manager::ClientAuth;
use hnp_tests::material::Material;
use hnp_tests::pki::Shown;
use hnp_tests::{DEADLINE, Server, exchange, node, process};

use crate::Host;

#[test]
fn all_is_well_with_a_strict_manager_and_interception() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let mut host = Host::with_manager(&manager.url(), material.agents.pair(Shown::Valid));
    host.config += "[listener.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\nclient-auth = \"strict\"\nclient-ca = \"pods.crt\"\n";
    host.file("server.crt", &material.listener.certificate);
    host.file("server.key", &material.listener.key);
    host.file("pods.crt", material.pods.authority.pem());
    let found = host.check_after("-m", "mount -t bpf bpf /sys/fs/bpf", "--intercept");
    assert_eq!(found.code, 0, "{found:#?}");
    for id in [
        "configuration/loads",
        "configuration/running",
        "configuration/listener",
        "configuration/admin",
        "kernel/version",
        "kernel/io-uring",
        "kernel/ktls",
        "kernel/cgroup2",
        "kernel/ebpf-programs",
        "kernel/ebpf-denial",
        "kernel/bpffs",
        "kernel/seccomp",
        "kernel/lockdown",
        "capabilities/cap-bpf",
        "capabilities/cap-net-admin",
        "capabilities/cap-perfmon",
        "capabilities/cap-sys-admin",
        "capabilities/cap-sys-ptrace",
        "limits/open-files",
        "limits/backlog",
        "limits/local-ports",
        "limits/tcp-memory",
        "limits/pipes",
        "limits/locked-memory",
        "certificates/server-certificate",
        "certificates/client-certificate",
        "certificates/client-ca",
        "certificates/upstream-ca",
        "upstream/name",
        "upstream/connection",
        "upstream/tls",
        "upstream/client-certificate",
        "upstream/answer",
        "clock/skew",
    ] {
        found.is_ok(id);
    }
    let peer = manager.connections().pop().unwrap();
    assert_eq!(peer.name.as_deref(), Some("valid"));
}

#[test]
fn people_get_groups_signs_and_a_sum_and_no_colours_in_a_file() {
    let origin = Server::start(|mut stream| {
        exchange::read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n")?;
        // It does not close: the check must not wait for that.
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    });
    let host = Host::with_upstream(&format!("http://{}", origin.address()));
    let mut command = node::hnp();
    command.args(["check", "--config"]).arg(host.config_file());
    let started = Instant::now();
    let text = process::run(&mut command, DEADLINE).success();
    assert!(started.elapsed() < Duration::from_secs(8), "{text}");
    assert!(text.starts_with("configuration\n  ✓ loads "), "{text}");
    assert!(
        text.contains("\nupstream\n") && text.contains("it answers 204"),
        "{text}"
    );
    assert!(text.trim_end().ends_with(", 0 failures"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_manual_names_every_item() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.md");
    let manual = fs::read_to_string(manual).unwrap();
    let dns = NameServer::start();
    let found = Host::new(&format!(
        "[upstream]\nurl = \"https://no.test\"\n{}",
        dns.config()
    ))
    .check(&[]);
    for item in &found.items {
        let name = item["name"].as_str().unwrap();
        assert!(manual.contains(&format!("`{name}`")), "{name}");
    }
}
