//! Which CPU a process runs on.
//!
//! Left to the scheduler, three processes on two CPUs are put now together, now apart, and a wake-up across CPUs (out of idle, in a
//! virtual machine) costs many times one on the same CPU: two measurements of the same proxy then differ by a factor of five.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where the processes of a measurement run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Where the scheduler puts them.
    Free,
    /// All on one CPU: what counts is what each costs, not how fast another CPU wakes up.
    Together,
    /// The proxy on a CPU of its own, generator and upstream on the others.
    Apart,
}

/// Who is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The proxy under test.
    Proxy,
    /// Upstream or generator.
    Other,
}

impl Placement {
    /// For a heading: which CPUs are used.
    pub fn words(self) -> &'static str {
        match self {
            Placement::Free => "",
            Placement::Together => " (all processes on one CPU)",
            Placement::Apart => " (the proxy alone on its CPU)",
        }
    }

    /// Puts a process (threads that it starts later follow their parent) where its role belongs. With one CPU there is no choice.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn put(self, pid: i32, role: Role) -> io::Result<()> {
        // What this process may use; it places others and never itself.
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let cpus: Vec<usize> = (0..CpuSet::count())
            .filter(|&cpu| all.is_set(cpu).unwrap_or(false))
            .collect();
        let mut chosen = CpuSet::new();
        for (place, &cpu) in cpus.iter().enumerate() {
            let last = place + 1 == cpus.len();
            let wanted = match (self, role) {
                (Placement::Free, _) => true,
                (Placement::Together, _) | (Placement::Apart, Role::Proxy) => last,
                (Placement::Apart, Role::Other) => !last || cpus.len() == 1,
            };
            if wanted {
                chosen.set(cpu)?;
            }
        }
        // Each thread has a set of its own.
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let Some(thread) = task?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            sched_setaffinity(Pid::from_raw(thread), &chosen)?;
        }
        Ok(())
    }
}
