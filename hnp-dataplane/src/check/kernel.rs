//! What the kernel offers. What can be tried without harm is tried; versions are only a hint.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

use super::limits::{numbers, read};
use super::report::{Group, Item};
use super::{Subject, capabilities};
use crate::config::model::Backend;
use crate::redirect::{BPF_FS, Programs, RedirectError, cgroup2_mount};
use crate::{tls, uring};

/// What interception needs (`docs/interception.md`).
const FLOOR: (u32, u32) = (5, 15);
/// The end of a verifier's log: what it stumbled over.
const LAST_WORDS: usize = 3;

pub(super) fn look(subject: &Subject) -> Vec<Item> {
    let mut group = Group::new("kernel");
    release(&mut group, subject);
    io_uring(&mut group, subject.config().backend);
    ktls(&mut group);
    cgroup2(&mut group, subject);
    programs(&mut group, subject);
    bpffs(&mut group, subject);
    unprivileged(&mut group);
    restrictions(&mut group);
    group.items
}

/// Major and minor number of the running kernel.
pub(super) fn version() -> Option<(u32, u32)> {
    parse_version(&read("/proc/sys/kernel/osrelease"))
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn release(group: &mut Group, subject: &Subject) {
    let release = read("/proc/sys/kernel/osrelease");
    let found = format!("Linux {}", release.trim());
    match parse_version(&release) {
        Some(version) if version >= FLOOR => group.ok("version", found),
        _ => group.lacks(
            subject.intercept,
            "version",
            format!("{found} is older than 5.15"),
            "run Linux 5.15 or later",
        ),
    }
}

fn io_uring(group: &mut Group, backend: Backend) {
    let name = "io-uring";
    if backend == Backend::Epoll {
        group.ok(name, "not used: backend is epoll");
        return;
    }
    let Some(why) = uring::why_unavailable() else {
        group.ok(name, "usable");
        return;
    };
    let (cause, remedy) = match why.split_once(": ") {
        Some((cause, remedy)) if !cause.ends_with("failed") => (cause, remedy.to_owned()),
        _ => (
            why.as_str(),
            "run another kernel, or set backend = \"epoll\"".to_owned(),
        ),
    };
    match backend {
        Backend::IoUring => group.fail(name, cause, remedy),
        _ => group.warn(name, format!("{cause}; HNP uses epoll instead"), remedy),
    }
}

fn ktls(group: &mut Group) {
    let detail = match tls::ktls::supported() {
        true => "usable: TLS streams can be spliced",
        false => {
            "not there: HNP does TLS by itself, at more CPU time (`modprobe tls` loads it where the kernel has it)"
        }
    };
    group.ok("ktls", detail);
}

fn cgroup2(group: &mut Group, subject: &Subject) {
    match cgroup2_mount() {
        Ok(path) => group.ok("cgroup2", format!("mounted at {}", path.display())),
        Err(RedirectError::NoCgroup2) => group.lacks(
            subject.intercept,
            "cgroup2",
            "no cgroup v2 is mounted here",
            "mount it with `mount -t cgroup2 none /sys/fs/cgroup/unified`, or hand the host's into HNP's container",
        ),
        Err(error) => group.lacks(
            subject.intercept,
            "cgroup2",
            error.to_string(),
            "mount proc in HNP's container",
        ),
    }
}

/// Loads the very programs, and lets go of them.
fn programs(group: &mut Group, subject: &Subject) {
    let programs = match Programs::load() {
        Ok(programs) => programs,
        Err(error) => {
            let (detail, remedy) = not_loaded(error);
            group.lacks(subject.intercept, "ebpf-programs", detail, remedy);
            return;
        }
    };
    let reports = programs.reports().unwrap_or_default();
    let walked: u64 = reports
        .iter()
        .filter_map(|report| report.verified)
        .map(u64::from)
        .sum();
    group.ok(
        "ebpf-programs",
        format!(
            "the verifier takes all {} ({walked} instructions walked)",
            reports.len()
        ),
    );
    let denied = match Programs::can_say_why() {
        true => "ECONNREFUSED",
        false => "EPERM (the kernel has no bpf_set_retval, which came with Linux 5.18)",
    };
    group.ok(
        "ebpf-denial",
        format!("denied connections end with {denied}"),
    );
    let compiled = reports.iter().any(|report| report.machine_code_bytes > 0);
    match compiled || reports.is_empty() {
        true => group.ok("ebpf-jit", "the programs are compiled to machine code"),
        false => group.warn(
            "ebpf-jit",
            "the kernel interprets eBPF programs, which makes connect() slower",
            "`sysctl net.core.bpf_jit_enable=1`",
        ),
    }
}

fn not_loaded(error: RedirectError) -> (String, String) {
    match error {
        RedirectError::NotBuilt { why } => (
            "this hnp was built without its eBPF programs".to_owned(),
            format!("{why}; then build hnp again"),
        ),
        RedirectError::NotPermitted { doing, why } => (
            format!("the kernel does not let hnp {doing}: {why}"),
            "run hnp as root or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, in a container whose seccomp profile allows bpf()".to_owned(),
        ),
        RedirectError::Verifier {
            program,
            error,
            log,
        } => {
            let lines: Vec<&str> = log.lines().filter(|line| !is_statistics(line)).collect();
            let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join(" / ");
            (
                format!("the verifier refuses {program} ({error}): {last}"),
                "run Linux 5.15 or later; there, report it as a bug of HNP".to_owned(),
            )
        }
        other => (
            other.to_string(),
            "run a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF; there, report it as a bug of HNP".to_owned(),
        ),
    }
}

/// What the verifier ends every log with.
fn is_statistics(line: &str) -> bool {
    let begins = ["verification time", "stack depth", "processed "];
    line.trim().is_empty() || begins.iter().any(|begin| line.starts_with(begin))
}

/// Makes a directory there and removes it.
fn bpffs(group: &mut Group, subject: &Subject) {
    let (name, pins) = ("bpffs", subject.pins.as_path());
    let there = existing(pins);
    let shown = pins.display();
    let kind = statfs(&there).map(|status| status.filesystem_type());
    if kind != Ok(BPF_FS) {
        let at = pins.parent().unwrap_or(pins);
        if capabilities::effective().has(capabilities::CAP_SYS_ADMIN) {
            group.ok(name, format!("none is at {shown} yet: hnp run mounts one"));
            return;
        }
        group.lacks(
            subject.intercept,
            name,
            format!(
                "{shown} is not in a BPF file system, where interception outlives a restart of hnp"
            ),
            format!(
                "mount one with `mount -t bpf bpf {}`, or hand the host's into HNP's container",
                at.display()
            ),
        );
        return;
    }
    // In a BPF file system no name has a dot.
    let trial = there.join(format!("hnp-check-{}", std::process::id()));
    match fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
        Ok(()) => group.ok(name, format!("{shown} can be written to")),
        Err(error) => group.lacks(
            subject.intercept,
            name,
            format!("{shown} cannot be written to: {error}"),
            "run hnp as the owner of the BPF file system, which is root mostly, and mount it writable",
        ),
    }
}

/// The path, or the nearest one above it that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn unprivileged(group: &mut Group) {
    let detail = match numbers("/proc/sys/kernel/unprivileged_bpf_disabled").first() {
        Some(0) => "every user may load eBPF programs of some kinds; HNP's need privilege",
        Some(_) => "only privileged users may load eBPF programs",
        None => "the kernel does not say who may load eBPF programs",
    };
    group.ok("unprivileged-bpf", detail);
}

/// What else may stand in the way. What does shows above.
fn restrictions(group: &mut Group) {
    let status = read("/proc/self/status");
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    let detail = match mode.map(str::trim) {
        Some("0") => "no filter is in force",
        Some("2") => "a filter is in force; where it stands in the way, it is said above",
        _ => "the kernel does not say whether a filter is in force",
    };
    group.ok("seccomp", detail);
    let lockdown = read("/sys/kernel/security/lockdown");
    let mode = lockdown
        .split(['[', ']'])
        .nth(1)
        .unwrap_or("not known, or not there");
    group.ok("lockdown", mode);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (release, version) in [
            ("6.18.44-fc-v595\n", Some((6, 18))),
            ("5.15.0-1042-aws", Some((5, 15))),
            ("6.1-rc3", Some((6, 1))),
            ("", None),
        ] {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }

    #[test]
    fn the_nearest_directory_that_is_there() {
        assert_eq!(
            existing(Path::new("/proc/nowhere/at/all")),
            Path::new("/proc")
        );
    }
}
