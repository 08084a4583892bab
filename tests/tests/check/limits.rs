//! The group `limits`: descriptors, queues, ports and buffers.

use crate::Host;

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
