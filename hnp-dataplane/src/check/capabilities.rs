//! What this process may do (capabilities(7)), against what the configuration needs.

use super::Subject;
use super::report::{Group, Item};

const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
pub(super) const CAP_SYS_ADMIN: u32 = 21;
pub(super) const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What interception needs: the item's name, the capability, whether `CAP_SYS_ADMIN` stands for it, and what for.
const INTERCEPTION: [(&str, u32, bool, &str); 5] = [
    ("cap-bpf", CAP_BPF, true, "to load eBPF programs"),
    (
        "cap-net-admin",
        CAP_NET_ADMIN,
        true,
        "to load and attach eBPF programs to sockets",
    ),
    (
        "cap-perfmon",
        CAP_PERFMON,
        true,
        "for the verifier to let eBPF programs compute with pointers",
    ),
    (
        "cap-sys-admin",
        CAP_SYS_ADMIN,
        true,
        "to enter pods' network namespaces and to mount a BPF file system",
    ),
    (
        "cap-sys-ptrace",
        CAP_SYS_PTRACE,
        false,
        "to find the network namespaces of other users' processes",
    ),
];

/// Below which ports are privileged, where the kernel does not say.
const LOW_PORTS: u16 = 1024;

pub(super) fn look(subject: &Subject) -> Vec<Item> {
    let mut group = Group::new("capabilities");
    let has = effective();
    for (name, capability, admin_will_do, purpose) in INTERCEPTION {
        let word = name.replace('-', "_").to_ascii_uppercase();
        if has.has(capability) || (admin_will_do && has.has(CAP_SYS_ADMIN)) {
            group.ok(name, format!("{word} is there, {purpose}"));
            continue;
        }
        group.lacks(
            subject.intercept,
            name,
            format!("{word} is missing, {purpose}"),
            format!(
                "run hnp as root, or grant {word} (securityContext.capabilities.add, AmbientCapabilities=)"
            ),
        );
    }
    low_ports(&mut group, subject, has);
    group.items
}

fn low_ports(group: &mut Group, subject: &Subject, has: Capabilities) {
    let first_free = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first_free = std::fs::read_to_string(first_free);
    let first_free = first_free.ok().and_then(|text| text.trim().parse().ok());
    let first_free = first_free.unwrap_or(LOW_PORTS);
    let config = subject.config();
    let addresses = config.listener.address.iter().chain(&config.admin.address);
    let Some(low) = addresses
        .map(|address| address.port())
        .find(|port| *port < first_free)
    else {
        return;
    };
    let name = "cap-net-bind-service";
    if has.has(CAP_NET_BIND_SERVICE) {
        group.ok(
            name,
            format!("CAP_NET_BIND_SERVICE is there, for port {low}"),
        );
        return;
    }
    group.fail(
        name,
        format!("CAP_NET_BIND_SERVICE is missing, which port {low} needs"),
        format!("grant CAP_NET_BIND_SERVICE, or choose a port from {first_free} on"),
    );
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    pub(super) fn has(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }
}

/// What is in effect; nothing where the kernel does not say.
pub(super) fn effective() -> Capabilities {
    Capabilities(parse(&super::limits::read("/proc/self/status")))
}

fn parse(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "CapPrm:\t0000000000000000\nCapEff:\t0000008000001000\nCapBnd:\t0\n";
        let set = Capabilities(parse(status));
        assert!(set.has(CAP_BPF) && set.has(CAP_NET_ADMIN));
        assert!(!set.has(CAP_SYS_ADMIN));
        assert_eq!(parse(""), 0);
    }
}
