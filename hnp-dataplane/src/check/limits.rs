//! What the kernel grants this process, against what is configured.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, Uid, sysconf};

use super::Subject;
use super::capabilities::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE, effective};
use super::report::{Group, Item};
use crate::run::limits::OTHERS;
use crate::uring::PIPE_SIZE;

/// With fewer connections than these, HNP is of no use.
const FEWEST: u64 = 64;
/// Local ports that most kernels have to give, and a little less.
const LOCAL_PORTS: u32 = 16_384;
/// Buffers that fill 100 Mbit/s at a round trip of 80 ms.
const BUFFER: u64 = 1 << 20;
/// Pages of all TCP buffers together: 64 MiB at 4 KiB each.
const TCP_MEMORY: u64 = 16_384;
/// Pipes of bulk streams that most kernels grant anyone.
const PIPES: u64 = 64;
/// What HNP locks in memory on kernels that count it.
const LOCKED: u64 = 8 << 20;
/// From this Linux on, rings are not counted as locked memory (and eBPF maps are not since 5.11).
const LOCKED_NO_MORE: (u32, u32) = (5, 12);

pub(super) fn look(subject: &Subject) -> Vec<Item> {
    let mut group = Group::new("limits");
    open_files(&mut group, subject);
    backlog(&mut group, subject);
    local_ports(&mut group, subject);
    tcp_memory(&mut group);
    pipes(&mut group);
    locked_memory(&mut group);
    group.items
}

fn open_files(group: &mut Group, subject: &Subject) {
    let connections = subject.config().limits.connections as u64;
    let wanted = connections * 2 + OTHERS;
    // `hnp run` raises the soft limit itself.
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let room = limit.saturating_sub(OTHERS) / 2;
    let detail = format!(
        "the limit is {limit}, which is enough for {room} connections; limits.connections is {connections}"
    );
    let remedy = "raise it (LimitNOFILE=, ulimit -Hn), or lower limits.connections";
    match () {
        () if limit >= wanted => group.ok("open-files", detail),
        () if room < FEWEST => group.fail("open-files", detail, remedy),
        () => group.warn("open-files", detail, remedy),
    }
    let Some(most) = numbers("/proc/sys/fs/file-max").first().copied() else {
        return;
    };
    let detail = format!("fs.file-max is {most}, for all processes together");
    match most >= wanted {
        true => group.ok("file-max", detail),
        false => group.warn(
            "file-max",
            format!("{detail}; limits.connections takes {wanted}"),
            format!("`sysctl fs.file-max={}`", wanted * 2),
        ),
    }
}

fn backlog(group: &mut Group, subject: &Subject) {
    let backlog = u64::from(subject.config().listener.backlog);
    let Some(most) = numbers("/proc/sys/net/core/somaxconn").first().copied() else {
        return;
    };
    let detail = format!("net.core.somaxconn is {most}, listener.backlog {backlog}");
    match most >= backlog {
        true => group.ok("backlog", detail),
        false => group.warn(
            "backlog",
            format!("{detail}: connections that come at once are refused earlier"),
            format!("`sysctl net.core.somaxconn={backlog}`, or lower listener.backlog"),
        ),
    }
}

fn local_ports(group: &mut Group, subject: &Subject) {
    let [first, last] = numbers("/proc/sys/net/ipv4/ip_local_port_range")[..] else {
        return;
    };
    let count = (last + 1).saturating_sub(first);
    let detail = format!(
        "{first} to {last}: at most {count} connections at once to one address and port of the upstream"
    );
    match count >= u64::from(LOCAL_PORTS) {
        true => group.ok("local-ports", detail),
        false => group.warn(
            "local-ports",
            detail,
            "`sysctl net.ipv4.ip_local_port_range=\"10240 65535\"`",
        ),
    }
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports");
    for address in &subject.config().listener.address {
        let port = u64::from(address.port());
        if (first..=last).contains(&port) && !lists(&reserved, port) {
            group.warn(
                "reserved-port",
                format!("port {port} is one of the local ports, so that an outgoing connection may hold it when hnp starts"),
                format!("`sysctl net.ipv4.ip_local_reserved_ports={port}`, or choose another listener.address"),
            );
        }
    }
}

/// Whether a list like `80,8000-8100` names a port.
fn lists(list: &str, port: u64) -> bool {
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

fn tcp_memory(group: &mut Group) {
    for (name, file, key) in [
        (
            "receive-buffers",
            "/proc/sys/net/ipv4/tcp_rmem",
            "net.ipv4.tcp_rmem",
        ),
        (
            "send-buffers",
            "/proc/sys/net/ipv4/tcp_wmem",
            "net.ipv4.tcp_wmem",
        ),
    ] {
        let [least, usual, most] = numbers(file)[..] else {
            continue;
        };
        let detail = format!("{key} lets a connection have {} KiB", most >> 10);
        match most >= BUFFER {
            true => group.ok(name, detail),
            false => group.warn(
                name,
                format!("{detail}: too little for fast connections over long ways"),
                format!("`sysctl {key}=\"{least} {usual} {}\"`", BUFFER * 4),
            ),
        }
    }
    let [low, pressure, most] = numbers("/proc/sys/net/ipv4/tcp_mem")[..] else {
        return;
    };
    let page = page_size();
    let detail = format!(
        "net.ipv4.tcp_mem lets all connections have {} MiB together",
        most.saturating_mul(page) >> 20
    );
    match most >= TCP_MEMORY {
        true => group.ok("tcp-memory", detail),
        false => group.warn(
            "tcp-memory",
            format!("{detail}: many busy connections will stall"),
            format!(
                "`sysctl net.ipv4.tcp_mem=\"{} {} {}\"`",
                low.max(TCP_MEMORY),
                pressure.max(TCP_MEMORY * 3 / 2),
                TCP_MEMORY * 2
            ),
        ),
    }
}

/// Users without privilege get small pipes once theirs have so many pages (pipe(7)), and splicing is slow then.
fn pipes(group: &mut Group) {
    let name = "pipes";
    let wanted = PIPE_SIZE as u64;
    if let Some(most) = numbers("/proc/sys/fs/pipe-max-size").first().copied()
        && most < wanted
    {
        group.warn(
            name,
            format!("fs.pipe-max-size is {most}, HNP's pipes would have {wanted} bytes"),
            format!("`sysctl fs.pipe-max-size={wanted}`"),
        );
        return;
    }
    let has = effective();
    let soft = numbers("/proc/sys/fs/pipe-user-pages-soft");
    let soft = soft.first().copied().unwrap_or_default();
    let each = wanted / page_size();
    if soft == 0 || has.has(CAP_SYS_ADMIN) || has.has(CAP_SYS_RESOURCE) {
        group.ok(
            name,
            format!("of {} KiB, as many as are needed", wanted >> 10),
        );
        return;
    }
    let user = Uid::effective();
    let count = soft / each.max(1);
    let detail = format!(
        "user {user} may have {count} of {} KiB (fs.pipe-user-pages-soft is {soft}); bulk streams beyond that cost more CPU time",
        wanted >> 10
    );
    let remedy = format!(
        "`sysctl fs.pipe-user-pages-soft={}`, or grant CAP_SYS_RESOURCE",
        soft.max(each * 1024)
    );
    match count >= PIPES {
        true => group.ok(name, detail),
        false => group.warn(name, detail, remedy),
    }
}

fn locked_memory(group: &mut Group) {
    let name = "locked-memory";
    let version = super::kernel::version();
    if version.is_some_and(|version| version >= LOCKED_NO_MORE) {
        group.ok(
            name,
            "this kernel does not count rings and eBPF maps as such",
        );
        return;
    }
    let (_, limit) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or_default();
    let detail = format!(
        "the limit is {} KiB, and this kernel counts rings as such",
        limit >> 10
    );
    match limit >= LOCKED || effective().has(CAP_SYS_RESOURCE) {
        true => group.ok(name, detail),
        false => group.warn(name, detail, "raise it (LimitMEMLOCK=infinity, ulimit -l)"),
    }
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

/// A file of the kernel's; empty where it cannot be read.
pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The numbers in a file of the kernel's; none where it cannot be read.
pub(super) fn numbers(path: &str) -> Vec<u64> {
    let text = read(path);
    text.split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_single_ones_and_ranges() {
        for (list, port, listed) in [
            ("", 7777, false),
            ("\n", 7777, false),
            ("7777\n", 7777, true),
            ("80,7000-7999\n", 7777, true),
            ("80,8000-8999\n", 7777, false),
        ] {
            assert_eq!(lists(list, port), listed, "{list:?}");
        }
    }
}
