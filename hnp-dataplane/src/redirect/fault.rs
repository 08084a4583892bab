//! What can go wrong with eBPF, told by who can do something about it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{EbpfError, maps::MapError, programs::ProgramError, sys::SyscallError};
use thiserror::Error;

/// Why the programs cannot be loaded, attached or read.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// The build left the programs out.
    #[error("this hnp was built without its eBPF programs: {why}; then build hnp again")]
    NotBuilt {
        /// What was missing then, and how to get it.
        why: &'static str,
    },
    /// The kernel answered `EPERM` or `EACCES`.
    #[error("the kernel does not let hnp {doing}: {why}")]
    NotPermitted {
        /// What was tried.
        doing: String,
        /// Which capability is missing, or what else forbids it.
        why: String,
    },
    /// The kernel's verifier does not accept a program: a fault of HNP, or a kernel older than it supports.
    #[error(
        "the kernel's verifier refuses the eBPF program {program} ({error}): HNP needs Linux 5.15 or later; \
         on such a kernel this is a bug of HNP, to be reported with this log:\n{log}"
    )]
    Verifier {
        /// The program's name.
        program: String,
        /// What the kernel answered.
        error: io::Error,
        /// What the verifier says.
        log: String,
    },
    /// No cgroup v2 hierarchy.
    #[error(
        "no cgroup v2 is mounted here: attaching to pods needs one; mount it with \
         `mount -t cgroup2 none /sys/fs/cgroup/unified`, or hand the host's into HNP's container"
    )]
    NoCgroup2,
    /// Pins belong into a BPF file system.
    #[error(
        "{path} is not in a BPF file system, where eBPF programs are kept over restarts; mount one with \
         `mount -t bpf bpf /sys/fs/bpf`, or hand the host's into HNP's container"
    )]
    NoBpffs {
        /// Where pins were to be.
        path: PathBuf,
    },
    /// A file or directory cannot be used.
    #[error("cannot {doing} {path}: {error}")]
    Path {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// The program of another build stays behind a link.
    #[error(
        "the program behind {pin}, of another build of hnp, cannot be replaced: {why}. It goes on working as it did"
    )]
    NotReplaced {
        /// Where the link is pinned.
        pin: PathBuf,
        /// What the kernel answered, whose fault it is and what to do.
        why: String,
    },
    /// The embedded object does not hold what this `hnp` expects of it: a fault of HNP's build.
    #[error(
        "the embedded eBPF object has no {what}: hnp and hnp-ebpf do not match; build both from one checkout"
    )]
    Mismatch {
        /// The program or map that is not there, or not of its kind.
        what: String,
    },
    /// Anything else that the kernel refuses.
    #[error("cannot {doing}: {why}")]
    Kernel {
        /// What was tried.
        doing: String,
        /// The chain of causes.
        why: String,
    },
}

impl RedirectError {
    /// Classifies what aya reports about an object as a whole.
    pub(super) fn of_object(doing: &str, error: EbpfError) -> Self {
        match error {
            EbpfError::ProgramError(error) => Self::of_program(doing, "", error),
            EbpfError::MapError(error) => Self::of_map(doing, error),
            other => Self::other(doing, &other),
        }
    }

    /// Classifies what aya reports about a program.
    pub(super) fn of_program(doing: &str, program: &str, error: ProgramError) -> Self {
        match error {
            // A program without privilege is refused before the verifier says a word.
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                // Without CAP_PERFMON the verifier does not let programs compute with pointers as HNP's do.
                if forbidden(&io_error) && (log.trim().is_empty() || !is_trusted(&own_status())) {
                    return Self::not_permitted(doing);
                }
                Self::Verifier {
                    program: program.to_owned(),
                    error: io_error,
                    log,
                }
            }
            ProgramError::SyscallError(SyscallError { io_error, .. }) if forbidden(&io_error) => {
                Self::not_permitted(doing)
            }
            ProgramError::MapError(error) => Self::of_map(doing, error),
            other => Self::other(doing, &other),
        }
    }

    /// Classifies what aya reports about a map.
    pub(super) fn of_map(doing: &str, error: MapError) -> Self {
        match error {
            MapError::CreateError { io_error, .. }
            | MapError::SyscallError(SyscallError { io_error, .. })
            | MapError::IoError(io_error)
                if forbidden(&io_error) =>
            {
                Self::not_permitted(doing)
            }
            other => Self::other(doing, &other),
        }
    }

    /// What aya reports about a link or a pin.
    pub(super) fn of_link(doing: &str, error: &dyn std::error::Error) -> Self {
        Self::other(doing, error)
    }

    /// What the kernel answered when the program behind a link was to be replaced.
    pub(super) fn of_replacing(pin: &Path, hook: &str, error: io::Error) -> Self {
        let again = "detach the pod and attach to it again (`hnp intercept`)";
        let why = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                format!(
                    "the kernel does not let hnp do it: {}",
                    forbidden_why(&own_status())
                )
            }
            Some(libc::EINVAL | libc::ENOENT) => format!(
                "what is pinned there is no link of {hook} ({error}), so somebody else has changed the pins; {again}"
            ),
            _ => format!(
                "the kernel refuses ({error}); {again}, and if that does not help, report it"
            ),
        };
        Self::NotReplaced {
            pin: pin.to_owned(),
            why,
        }
    }

    fn not_permitted(doing: &str) -> Self {
        Self::NotPermitted {
            doing: doing.to_owned(),
            why: forbidden_why(&own_status()),
        }
    }

    fn other(doing: &str, error: &dyn std::error::Error) -> Self {
        // aya's messages leave the cause to `source()`.
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !why.contains(&cause_text) {
                why = format!("{why}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Kernel {
            doing: doing.to_owned(),
            why,
        }
    }
}

fn forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// capabilities(7): their bits in `CapEff`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

fn own_status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Whether the capability is among the effective ones of this `/proc/self/status`, or the one that stands for all.
fn has(status: &str, capability: u32) -> bool {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    effective & (1 << capability | 1 << CAP_SYS_ADMIN) != 0
}

fn is_trusted(status: &str) -> bool {
    has(status, CAP_PERFMON)
}

/// Which capability is missing, from `/proc/self/status`; with all there, what else forbids eBPF.
fn forbidden_why(status: &str) -> String {
    let needed = [
        (CAP_BPF, "CAP_BPF"),
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (CAP_PERFMON, "CAP_PERFMON"),
    ];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|(capability, _)| !has(status, *capability))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        "it has the capabilities, so a seccomp filter, kernel lockdown or a user namespace stands in the way".to_owned()
    } else {
        let (last, others) = missing.split_last().unwrap_or((&"", &[]));
        let and = if others.is_empty() { "" } else { " and " };
        format!(
            "it lacks {}{and}{last}; run it as root, or grant that",
            others.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_missing_capability() {
        let nothing = "Name:\thnp\nCapEff:\t0000000000000000\n";
        assert!(forbidden_why(nothing).contains("lacks CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON;"));
        let bpf_only = format!("CapEff:\t{:016x}\n", 1u64 << CAP_BPF);
        assert!(forbidden_why(&bpf_only).contains("lacks CAP_NET_ADMIN and CAP_PERFMON;"));
        let admin = format!("CapEff:\t{:016x}\n", 1u64 << CAP_SYS_ADMIN);
        assert!(forbidden_why(&admin).contains("seccomp"));
        let root = "CapEff:\t000001ffffffffff\n";
        assert!(forbidden_why(root).contains("seccomp"));
    }
}
