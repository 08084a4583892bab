//! Why a pod cannot be intercepted.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::RuleError;
use crate::redirect::RedirectError;

/// Why a pod cannot be intercepted, or not be left alone.
#[derive(Debug, Error)]
pub enum InterceptError {
    /// There is no such cgroup.
    #[error(
        "{path} cannot be intercepted: {why}; name a pod's cgroup, or one of its processes by --pid"
    )]
    NoCgroup {
        /// As given.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// There is no such process.
    #[error(
        "process {pid} cannot be intercepted: {why}; name a process that runs, as this host numbers it"
    )]
    NoProcess {
        /// As given.
        pid: u32,
        /// What the system answered.
        why: String,
    },
    /// A cgroup without a process has no network namespace.
    #[error(
        "{path} has no process whose network namespace could be entered: start the pod first (HNP must share the host's PID namespace)"
    )]
    Empty {
        /// The cgroup.
        path: PathBuf,
    },
    /// HNP's listeners would stand in the host's own namespace.
    #[error(
        "{path} is in the host's network namespace (hostNetwork): such a pod cannot be intercepted, for its connections are the \
         host's; give it a network of its own, or set HTTPS_PROXY in it"
    )]
    HostNetwork {
        /// The cgroup.
        path: PathBuf,
    },
    /// No such pod is intercepted.
    #[error("no pod {name} is intercepted; `hnp intercept --list` names those that are")]
    Unknown {
        /// As given.
        name: String,
    },
    /// HNP cannot listen in the pod.
    #[error(
        "cannot listen on the loopback interface of {path}: {error}; is it up in the pod's network namespace?"
    )]
    Listen {
        /// The cgroup.
        path: PathBuf,
        /// What the kernel answered.
        error: io::Error,
    },
    /// The pod's rules cannot be compiled.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// The kernel refuses.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}
