//! What is said over the control socket: one JSON object a line, a request and its answer; after `observe`, events without end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Intercept a pod, named by its cgroup or by one of its processes.
    Attach {
        /// The cgroup's directory, or its path below the mount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cgroup: Option<PathBuf>,
        /// A process of the pod.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Close the connections that it has made before, for its programs to make new ones.
        #[serde(default)]
        close_existing: bool,
    },
    /// Intercept a pod no longer; without a cgroup, none.
    Detach {
        /// The cgroup's directory, its path below the mount, or the pod's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<String>,
    },
    /// Which pods are intercepted.
    List,
    /// Tell of every connection, until the caller hangs up.
    Observe,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Response {
    /// It was done.
    Done {
        /// The pods that it is about.
        pods: Vec<PodReport>,
    },
    /// It was not.
    Failed {
        /// What went wrong, whose fault it is and what to do.
        error: String,
    },
}

/// A pod that is intercepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    /// What people call it: its uid, or the last part of its cgroup's path.
    pub pod: String,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
    /// HNP's port on `127.0.0.1` in its network namespace.
    pub port4: u16,
    /// HNP's port on `[::1]` there; 0 where it has no IPv6.
    pub port6: u16,
    /// Which build of HNP its programs are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
    /// Connections that it had made before, as it was attached to: those that go on without HNP, and those that were closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_before: Option<FromBefore>,
    /// What the kernel counted, by name.
    pub counters: Vec<(String, u64)>,
}

/// Connections that a pod had made before HNP was attached to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromBefore {
    /// They go on as they are: HNP does not have them.
    pub left: usize,
    /// They were closed on request.
    pub closed: usize,
}
