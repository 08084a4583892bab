//! The group `kernel`: what it is asked for and does not give.

use hnp_tests::{bin, node, seccomp};

use crate::{Found, Host};

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
    // Who may mount one, does: this is about who may not.
    let hide = "mount -t tmpfs none /sys/fs/bpf";
    host.check_after("-m", hide, "--intercept")
        .says("kernel/bpffs", "ok", &["hnp run mounts one"]);
    let without = |flags: &str| {
        let line = format!(
            "{hide}; exec setpriv --bounding-set=-sys_admin --inh-caps=-all {} check --json --config {} {flags}",
            bin::hnp().display(),
            host.config_file().display()
        );
        host.check_after("-m", &line, flags)
    };
    without("--intercept").fails(
        "kernel/bpffs",
        &["not in a BPF file system", "mount -t bpf"],
    );
    let found = without("");
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
