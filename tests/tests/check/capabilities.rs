//! The group `capabilities`: each that is missing is named.

use std::process::Command;

use hnp_tests::bin;

use crate::{Found, Host};

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
        .fails(
            "kernel/ebpf-programs",
            &["it lacks CAP_PERFMON;", "CAP_PERFMON"],
        )
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
