//! What a process and its children use: CPU time and memory.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process and all its descendants, as they were when looked up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessTree {
    pids: Vec<i32>,
}

impl ProcessTree {
    /// Looks up who descends from `root`. A peer that forks workers (nginx, Squid) is measured whole.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of(root: u32) -> io::Result<ProcessTree> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // A process may end while we look: it is then no one's child.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            // The command in parentheses may hold anything; state and parent follow the last one.
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
            parents.extend(parent.map(|parent| (pid, parent)));
        }
        let root = i32::try_from(root).map_err(io::Error::other)?;
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&parent) = pids.get(next) {
            pids.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        Ok(ProcessTree { pids })
    }

    /// Their ids, the root's first.
    pub fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// CPU time used so far, all threads (ended ones, too) of all processes, in the kernel and outside, to the nanosecond:
    /// the processes' CPU clocks, which `utime` and `stime` of `/proc/<pid>/stat` round to ticks of 10 ms.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut total = Duration::ZERO;
        for &pid in &self.pids {
            total += Duration::from(clock_getcpuclockid(Pid::from_raw(pid))?.now()?);
        }
        Ok(total)
    }

    /// Resident memory in bytes, summed over the processes (pages they share count in each).
    ///
    /// # Errors
    /// When a process is gone or its `smaps_rollup` is not ours to read.
    pub fn rss(&self) -> io::Result<u64> {
        let mut total = 0;
        for &pid in &self.pids {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let kib = rollup.lines().find_map(|line| {
                line.strip_prefix("Rss:")?
                    .split_whitespace()
                    .next()?
                    .parse::<u64>()
                    .ok()
            });
            total += kib.ok_or_else(|| {
                io::Error::other(format!("/proc/{pid}/smaps_rollup has no Rss line"))
            })? * 1024;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    #[test]
    fn a_tree_holds_the_process_and_its_children() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = ProcessTree::of(std::process::id()).unwrap();
        let of_child = ProcessTree::of(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(own.pids.contains(&pid), "{own:?} lacks {pid}");
        assert_eq!(of_child.pids, [pid]);
    }

    #[test]
    fn cpu_time_grows_with_work_and_memory_is_seen() {
        let tree = ProcessTree {
            pids: vec![i32::try_from(std::process::id()).unwrap()],
        };
        let before = tree.cpu().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert!(tree.cpu().unwrap() > before);
        assert!(tree.rss().unwrap() > 100 * 1024);
    }
}
