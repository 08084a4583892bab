//! `hnp check`: on a host where all is well, and where each single thing is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hnp_tests::dns::{Answer, NameServer};
use hnp_tests::manager::ClientAuth;
use hnp_tests::material::Material;
use hnp_tests::parent::{Manners, ParentProxy};
use hnp_tests::pki::{Leaf, Pair, Shown};
use hnp_tests::process::Process;
use hnp_tests::{DEADLINE, Node, Port, Server, bin, exchange, node, process, seccomp, wait};
use serde_json::Value;
use tempfile::TempDir;

/// A configuration, and the ports it names.
struct Host {
    directory: TempDir,
    listener: Port,
    admin: Port,
    config: String,
}

/// What `hnp check --json` said.
#[derive(Debug)]
struct Found {
    code: i32,
    items: Vec<Value>,
}

impl Host {
    fn new(config: &str) -> Host {
        Host {
            directory: tempfile::tempdir().unwrap(),
            listener: Port::take(),
            admin: Port::take(),
            config: config.to_owned(),
        }
    }

    /// With `upstream` as its manager, whose authority it knows, and to which it shows this.
    fn with_manager(url: &str, pair: Option<&Pair>) -> Host {
        let material = Material::shared();
        let mut host = Host::new(&format!(
            "[upstream]\nurl = \"{url}\"\nca = \"manager-ca.crt\"\n"
        ));
        host.file("manager-ca.crt", material.manager.pem());
        if let Some(pair) = pair {
            host.file("client.crt", &pair.certificate);
            host.file("client.key", &pair.key);
            host.config += "certificate = \"client.crt\"\nkey = \"client.key\"\n";
        }
        host
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn config_file(&self) -> PathBuf {
        let (listener, admin) = (self.listener.address(), self.admin.address());
        self.file(
            "hnp.toml",
            &format!(
                "listener.address = \"{listener}\"\nadmin.address = \"{admin}\"\nlimits.connections = 1000\n{}",
                self.config
            ),
        );
        self.directory.path().join("hnp.toml")
    }

    fn check(&self, flags: &[&str]) -> Found {
        let mut command = node::hnp();
        command.args(["check", "--json", "--config"]);
        command.arg(self.config_file()).args(flags);
        Found::of(&mut command)
    }

    /// With a shell's preparations, in namespaces of its own: mounts and network are changed for nobody else.
    fn check_after(&self, namespaces: &str, preparation: &str, flags: &str) -> Found {
        let (hnp, config) = (bin::hnp().display(), self.config_file());
        let line = format!(
            "set -e; {preparation}; exec {hnp} check --json --config {} {flags}",
            config.display()
        );
        let mut command = Command::new("unshare");
        command.arg(namespaces).args(["sh", "-c", &line]);
        Found::of(&mut command)
    }
}

impl Found {
    fn of(command: &mut Command) -> Found {
        let started = Instant::now();
        let outcome = process::run(command, DEADLINE);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        let code = outcome.status.code().unwrap();
        Found::read(code, &outcome.stdout, &outcome.stderr)
    }

    /// Whatever was found, this holds.
    fn read(code: i32, stdout: &[u8], stderr: &str) -> Found {
        let items: Vec<Value> = serde_json::from_slice(stdout).unwrap_or_else(|error| {
            panic!("{error}: {stderr}\n{}", String::from_utf8_lossy(stdout))
        });
        for item in &items {
            let text = |key: &str| item[key].as_str().unwrap_or_default();
            assert!(
                !text("group").is_empty() && !text("name").is_empty(),
                "{item}"
            );
            assert!(!text("detail").is_empty(), "{item}");
            let is_ok = text("status") == "ok";
            assert_eq!(text("remedy").is_empty(), is_ok, "{item}");
        }
        let failed = items.iter().any(|item| item["status"] == "failure");
        match code {
            0 => assert!(!failed, "{items:#?}"),
            _ => assert!(failed, "{code}: {items:#?}\n{stderr}"),
        }
        Found { code, items }
    }

    /// The items of this group and name.
    fn all(&self, id: &str) -> Vec<&Value> {
        let (group, name) = id.split_once('/').unwrap();
        let found = self.items.iter();
        found
            .filter(|item| item["group"] == group && item["name"] == name)
            .collect()
    }

    /// That one of these has this status, and says so in its cause and remedy.
    fn says(&self, id: &str, status: &str, parts: &[&str]) -> &Self {
        let all = self.all(id);
        let found = all.iter().any(|item| {
            let (detail, remedy) = (item["detail"].as_str(), item["remedy"].as_str());
            let text = format!("{} → {}", detail.unwrap(), remedy.unwrap_or_default());
            item["status"] == status && parts.iter().all(|part| text.contains(part))
        });
        assert!(
            found,
            "{id} {status} {parts:?}: {all:#?}\n{:#?}",
            self.items
        );
        self
    }

    fn fails(&self, id: &str, parts: &[&str]) -> &Self {
        assert_eq!(self.code, 1, "{:#?}", self.items);
        self.says(id, "failure", parts)
    }

    fn warns(&self, id: &str, parts: &[&str]) -> &Self {
        self.says(id, "warning", parts)
    }

    fn is_ok(&self, id: &str) -> &Self {
        self.says(id, "ok", &[])
    }
}

// ---- all is well ----

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
    let host = Host::new(&format!(
        "[upstream]\nurl = \"http://{}\"\n",
        origin.address()
    ));
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

// ---- configuration ----

#[test]
fn a_configuration_that_cannot_be_loaded_is_2() {
    let host = Host::new("limits.conections = 5\n");
    let found = host.check(&[]);
    assert_eq!(found.code, 2);
    found.says(
        "configuration/loads",
        "failure",
        &["conections", "hnp.toml"],
    );
    let mut command = node::hnp();
    command.args(["check", "--json"]);
    let found = Found::of(&mut command);
    assert_eq!(found.code, 2);
    found.says("configuration/loads", "failure", &["PROXY_URL"]);
    let outcome = process::run(node::hnp().args(["check", "--jsn"]), DEADLINE);
    assert_eq!(outcome.status.code(), Some(2));
}

#[test]
fn a_port_that_somebody_else_has_is_a_failure() {
    let host = Host::new("");
    let _taken = TcpListener::bind(host.listener.address()).unwrap();
    host.check(&[])
        .fails("configuration/listener", &["another process", "ss -ltnp"])
        .is_ok("configuration/admin");
}

#[test]
fn ports_of_a_running_hnp_are_none() {
    let node = Node::start();
    let mut command = node::hnp();
    command
        .args(["check", "--json", "--config"])
        .arg(node.config_file());
    let found = Found::of(&mut command);
    assert_eq!(found.code, 0, "{found:#?}");
    found
        .says("configuration/running", "ok", &["running and ready"])
        .says(
            "configuration/listener",
            "ok",
            &["served by the running hnp"],
        )
        .says("configuration/admin", "ok", &["served by a running hnp"]);
}

#[test]
fn somebody_else_on_the_admin_address_is_told_apart() {
    let other = Server::start(|mut stream| {
        exchange::read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 Fine\r\n\r\n{\"ok\": true}")?;
        stream.shutdown(Shutdown::Write)
    });
    let host = Host::new("");
    let found = host.check(&["--admin", &other.address().to_string()]);
    found
        .warns("configuration/running", &["is not hnp", "200 Fine"])
        .fails("configuration/admin", &["another process"]);
}

#[test]
fn an_address_of_another_host_is_a_failure() {
    Host::new("").check(&["--listen", "192.0.2.1:7777"]).fails(
        "configuration/listener",
        &["no interface", "listener.address"],
    );
}

// ---- kernel and capabilities ----

#[test]
fn io_uring_that_is_forbidden_is_a_warning_unless_it_is_demanded() {
    let host = Host::new("");
    for (backend, status, code) in [
        ("auto", "warning", 0),
        ("io_uring", "failure", 1),
        ("epoll", "ok", 0),
    ] {
        let mut command = node::hnp();
        command.args(["check", "--json", "--backend", backend, "--config"]);
        command.arg(host.config_file());
        let child = seccomp::spawn_without_io_uring(command).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let found = Found::read(output.status.code().unwrap(), &output.stdout, &stderr);
        assert_eq!(found.code, code, "{backend}");
        let parts: &[&str] = match status {
            "ok" => &["epoll"],
            _ => &["seccomp", "allow io_uring_setup"],
        };
        found.says("kernel/io-uring", status, parts);
        found.says("kernel/seccomp", "ok", &["a filter is in force"]);
    }
}

#[test]
fn without_a_bpf_file_system_interception_alone_is_impossible() {
    let host = Host::new("");
    let hide = "mount -t tmpfs none /sys/fs/bpf";
    host.check_after("-m", hide, "--intercept").fails(
        "kernel/bpffs",
        &["not in a BPF file system", "mount -t bpf"],
    );
    let found = host.check_after("-m", hide, "");
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns("kernel/bpffs", &["needed for interception only"]);
    host.check_after("-m", "mount -t bpf -o ro bpf /sys/fs/bpf", "--intercept")
        .fails("kernel/bpffs", &["cannot be written to", "writable"]);
}

#[test]
fn without_cgroup_v2_interception_alone_is_impossible() {
    let host = Host::new("");
    let hide = "umount --all --types cgroup2";
    host.check_after("-m", hide, "--intercept")
        .fails("kernel/cgroup2", &["no cgroup v2", "mount -t cgroup2"]);
    let found = host.check_after("-m", hide, "");
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns("kernel/cgroup2", &["needed for interception only"]);
}

#[test]
fn dropped_capabilities_are_named_one_by_one() {
    let host = Host::new("");
    let with = |capabilities: &str, flags: &[&str]| {
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set={capabilities}"));
        command.args(["--inh-caps=-all"]).arg(bin::hnp());
        command.args(["check", "--json", "--config"]);
        Found::of(command.arg(host.config_file()).args(flags))
    };
    let found = with("-all", &["--intercept"]);
    found
        .fails(
            "capabilities/cap-bpf",
            &["CAP_BPF is missing", "grant CAP_BPF"],
        )
        .fails("capabilities/cap-net-admin", &["grant CAP_NET_ADMIN"])
        .fails("capabilities/cap-perfmon", &["grant CAP_PERFMON"])
        .fails("capabilities/cap-sys-admin", &["grant CAP_SYS_ADMIN"])
        .fails("capabilities/cap-sys-ptrace", &["grant CAP_SYS_PTRACE"])
        .fails("kernel/ebpf-programs", &["CAP_BPF"]);
    let found = with("-all", &[]);
    assert_eq!(found.code, 0, "{found:#?}");
    found
        .warns("capabilities/cap-bpf", &["needed for interception only"])
        .warns("kernel/ebpf-programs", &["needed for interception only"]);
    // The verifier of programs that may not compute with pointers is stricter.
    with("-all,+bpf,+net_admin", &["--intercept"])
        .fails("kernel/ebpf-programs", &["verifier refuses", "CAP_PERFMON"])
        .is_ok("capabilities/cap-bpf");
    with("-all,+bpf,+net_admin,+perfmon", &["--intercept"]).is_ok("kernel/ebpf-programs");
}

#[test]
fn a_low_port_needs_a_capability() {
    let host = Host::new("");
    let line = "exec setpriv --bounding-set=-net_bind_service --inh-caps=-all sh -c";
    let command = format!(
        "'exec {} check --json --config {} --listen 0.0.0.0:80'",
        bin::hnp().display(),
        host.config_file().display()
    );
    // A network namespace of its own has the kernel's default for what a low port is.
    let found = host.check_after("-n", &format!("{line} {command}"), "");
    found
        .fails("capabilities/cap-net-bind-service", &["port 80", "grant"])
        .fails(
            "configuration/listener",
            &["0.0.0.0:80", "CAP_NET_BIND_SERVICE"],
        );
    let found = host.check_after("-n", "true", "--listen 0.0.0.0:80");
    assert_eq!(found.code, 0, "{found:#?}");
    found.is_ok("capabilities/cap-net-bind-service");
}

// ---- limits ----

#[test]
fn too_few_descriptors_are_a_warning_and_far_too_few_a_failure() {
    let host = Host::new("");
    let found = host.check_after("-m", "ulimit -n 2000", "");
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns(
        "limits/open-files",
        &["2000", "872 connections", "LimitNOFILE"],
    );
    host.check_after("-m", "ulimit -n 300", "")
        .fails("limits/open-files", &["300", "22 connections"]);
}

#[test]
fn small_queues_ranges_and_buffers_are_warnings() {
    let mut host = Host::new("");
    host.config += "listener.backlog = 512\n";
    let sysctl = "cd /proc/sys/net; echo 64 > core/somaxconn; echo '20000 33000' > ipv4/ip_local_port_range; \
                  echo '4096 16384 65536' > ipv4/tcp_rmem";
    let found = host.check_after("-n", sysctl, "");
    assert_eq!(found.code, 0, "{found:#?}");
    found
        .warns(
            "limits/backlog",
            &["64", "512", "sysctl net.core.somaxconn=512"],
        )
        .warns("limits/local-ports", &["13001", "ip_local_port_range"])
        .warns("limits/receive-buffers", &["64 KiB", "net.ipv4.tcp_rmem"])
        .warns("limits/reserved-port", &["ip_local_reserved_ports"]);
    let reserved = format!(
        "{sysctl}; echo {} > ipv4/ip_local_reserved_ports",
        host.listener.number()
    );
    assert!(
        host.check_after("-n", &reserved, "")
            .all("limits/reserved-port")
            .is_empty()
    );
}

// ---- certificates ----

#[test]
fn certificates_that_end_are_said_in_time() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Loose);
    let with = |until: i64| {
        let pair = material.agents.authority.issue(&Leaf {
            name: "ending",
            from: -30,
            until,
            ..Leaf::default()
        });
        Host::with_manager(&manager.url(), Some(&pair)).check(&[])
    };
    let found = with(5);
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns("certificates/client-certificate", &["ending", "hours"]);
    with(-1)
        .fails("certificates/client-certificate", &["ending", "expired at"])
        .fails("upstream/client-certificate", &["CertificateExpired"]);
    let later = material.agents.authority.issue(&Leaf {
        name: "later",
        from: 2,
        ..Leaf::default()
    });
    Host::with_manager(&manager.url(), Some(&later))
        .check(&[])
        .fails(
            "certificates/client-certificate",
            &["not valid before", "clock"],
        );
}

#[test]
fn a_certificate_for_something_else_is_a_warning() {
    let material = Material::shared();
    let mut host = Host::new("");
    let client = material.pods.authority.client("no server");
    host.config += "[listener.tls]\ncertificate = \"c.crt\"\nkey = \"c.key\"\n";
    host.file("c.crt", &client.certificate);
    host.file("c.key", &client.key);
    let found = host.check(&[]);
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns(
        "certificates/server-certificate",
        &["listener", "clientAuth", "issue it anew"],
    );
}

#[test]
fn every_pair_that_cannot_be_loaded_is_named() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let mut pair = material.agents.pair(Shown::Valid).unwrap().clone();
    pair.key = material.agents.pair(Shown::Revoked).unwrap().key.clone();
    let mut host = Host::with_manager(&manager.url(), Some(&pair));
    host.config += "[listener.tls]\ncertificate = \"junk.crt\"\nkey = \"junk.crt\"\n";
    host.file("junk.crt", "this is no PEM");
    host.check(&[])
        .fails(
            "certificates/loads",
            &[
                "upstream",
                "client.key",
                "does not match",
                "key that the certificate",
            ],
        )
        .fails("certificates/loads", &["listener", "junk.crt"])
        .fails("upstream/tried", &["certificates"]);
}

// ---- upstream ----

#[test]
fn an_upstream_that_is_not_there() {
    let nobody = Port::take();
    Host::new(&format!(
        "[upstream]\nurl = \"http://{}\"\n",
        nobody.address()
    ))
    .check(&[])
    .fails(
        "upstream/connection",
        &["connection refused", "check the port"],
    );
}

#[test]
fn a_name_that_does_not_resolve_and_name_servers_that_do_not_answer() {
    let dns = NameServer::start().with_answer("silent.test", Answer::Silence);
    for (name, parts) in [
        ("missing.test", ["NXDOMAIN", "spelling"]),
        ("silent.test", ["did not answer within", "name servers"]),
    ] {
        let started = Instant::now();
        Host::new(&format!(
            "[upstream]\nurl = \"https://{name}\"\n{}",
            dns.config()
        ))
        .check(&[])
        .fails("upstream/name", &parts)
        .fails("upstream/name", &[name]);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
}

#[test]
fn an_upstream_that_says_nothing_is_not_waited_for_for_long() {
    let (silent, accepted) = Server::handing_over();
    let started = Instant::now();
    Host::new(&format!(
        "[upstream]\nurl = \"https://{}\"\n",
        silent.address()
    ))
    .check(&[])
    .fails("upstream/tls", &["not done within"]);
    // Whoever has connected was kept until here.
    drop(accepted);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_manager_of_another_authority_or_another_name() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let mut host = Host::new(&format!(
        "[upstream]\nurl = \"{}\"\nca = \"other.crt\"\n",
        manager.url()
    ));
    host.file("other.crt", material.pods.authority.pem());
    host.check(&[])
        .fails("upstream/tls", &["no authority that HNP knows", "`ca`"])
        .is_ok("upstream/connection");
    host = Host::with_manager(&manager.url(), None);
    host.config += "server-name = \"manager.test\"\n";
    host.check(&[])
        .fails("upstream/tls", &["not for manager.test", "server-name"]);
}

#[test]
fn a_manager_that_refuses_our_certificate_or_misses_one() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let nginx = material.nginx(ClientAuth::Strict);
    for url in [manager.url(), nginx.url()] {
        for version in ["1.2", "1.3"] {
            let with = |shown| {
                let mut host = Host::with_manager(&url, material.agents.pair(shown));
                host.config += &format!("min-version = \"{version}\"\n");
                host.check(&[])
            };
            with(Shown::Stranger).fails("upstream/client-certificate", &["trust the authority"]);
            with(Shown::Nothing).fails(
                "upstream/client-certificate",
                &["wants a client certificate", "set certificate and key"],
            );
            let found = with(Shown::V1);
            assert_eq!(found.code, 0, "{found:#?}");
            found.is_ok("upstream/client-certificate");
        }
    }
}

#[test]
fn an_upstream_of_http2_alone() {
    let material = Material::shared();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = material.server.write(directory.path(), "server");
    for secure in [true, false] {
        let port = Port::take();
        let mut nghttpd = Command::new("nghttpd");
        nghttpd
            .arg("--address=127.0.0.1")
            .arg(port.number().to_string());
        match secure {
            true => nghttpd.arg(&key).arg(&certificate),
            false => nghttpd.arg("--no-tls"),
        };
        let child = nghttpd.stdin(Stdio::null()).spawn();
        let _nghttpd = Process::new(child.expect("`cargo xtask test` installs nghttpd"));
        wait::until("nghttpd to listen", || {
            match node::is_listening(port.number()) {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
        let host = match secure {
            true => Host::with_manager(&format!("https://{}", port.address()), None),
            false => Host::new(&format!(
                "[upstream]\nurl = \"http://{}\"\nprotocol = \"h2\"\n",
                port.address()
            )),
        };
        let found = host.check(&[]);
        assert_eq!(found.code, 0, "{found:#?}");
        found.says("upstream/answer", "ok", &["HTTP/2"]);
    }
}

#[test]
fn what_a_parent_proxy_answers_is_explained() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let through = |manners, user: &str| {
        let parent = ParentProxy::start(manners);
        let mut host = Host::with_manager(&manager.url(), None);
        let address = parent.server.address();
        host.config += &format!("[upstream.parent]\nurl = \"http://{user}{address}\"\n");
        host.check(&[])
    };
    let authenticate = || Manners::Authenticate(manager.address(), "Basic dXNlcjpwYXNz".to_owned());
    through(authenticate(), "").fails("upstream/parent", &["407", "username and password-file"]);
    let found = through(authenticate(), "user:pass@");
    assert_eq!(found.code, 0, "{found:#?}");
    found.is_ok("upstream/parent").is_ok("upstream/tls");
    through(Manners::Answer("HTTP/1.1 403 No\r\n\r\n"), "")
        .fails("upstream/parent", &["refuses the target (403)", "policy"]);
    through(Manners::Answer("HTTP/1.1 502 No\r\n\r\n"), "")
        .fails("upstream/parent", &["cannot reach"]);
    through(Manners::Answer("SSH-2.0-x\r\n"), "").fails("upstream/parent", &["host and port"]);
}

#[test]
fn an_endpoints_upstream_is_tried_as_well() {
    let material = Material::shared();
    let nobody = Port::take();
    let host = Host::new(&format!(
        "[[endpoints]]\nserver-name = \"acme.test\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\nprefix = \"/acme\"\nupstream = \"http://{}\"\n",
        nobody.address()
    ));
    let pair = material.hnp.server(&["acme.test"]);
    host.file("a.crt", &pair.certificate);
    host.file("a.key", &pair.key);
    host.check(&[])
        .fails("upstream/connection", &["upstream of acme.test", "refused"])
        .says(
            "certificates/server-certificate",
            "ok",
            &["endpoint acme.test"],
        );
}

#[test]
fn an_upstream_that_policy_denies() {
    Host::new(
        "[upstream]\nurl = \"http://127.0.0.1:9\"\n[[policy.deny]]\ncidrs = [\"127.0.0.0/8\"]\n",
    )
    .check(&[])
    .fails("upstream/policy", &["policy.deny"]);
}

// ---- clock ----

#[test]
fn a_clock_that_differs_from_the_upstreams() {
    let origin = Server::start(|mut stream| {
        exchange::read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 503 No\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
        )?;
        stream.shutdown(Shutdown::Write)
    });
    Host::new(&format!(
        "[upstream]\nurl = \"http://{}\"\n",
        origin.address()
    ))
    .check(&[])
    .fails("clock/skew", &["ahead of", "NTP"])
    .warns("upstream/answer", &["503"]);
}

// ---- the manual ----

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
