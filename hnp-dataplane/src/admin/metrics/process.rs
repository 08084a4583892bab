//! What the kernel says about this process.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

/// Figures of the moment; `None` is what could not be read (no `/proc`), and is then left out of a scrape.
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            cpu_seconds: getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
                [usage.user_time(), usage.system_time()]
                    .iter()
                    .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
                    .sum()
            }),
            resident_bytes: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: status_field(&status, "VmSize:").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads:"),
            // The directory's own descriptor is open while it is listed.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _hard)| soft),
        }
    }
}

/// The number of a line such as `VmRSS: 12345 kB`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let before = Process::read();
        let held: Vec<fs::File> = (0..10)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let after = Process::read();
        // Other tests of this process open and close descriptors meanwhile: only a lower bound is certain.
        assert!(after.open_fds.unwrap() >= held.len() as u64);
        assert!(after.max_fds.unwrap() >= after.open_fds.unwrap());
        assert!(before.cpu_seconds.unwrap() <= after.cpu_seconds.unwrap());
        assert!(after.cpu_seconds.unwrap() > 0.0);
        assert!(after.resident_bytes.unwrap() > 100 << 10);
        assert!(after.virtual_bytes.unwrap() > after.resident_bytes.unwrap());
        assert!(after.threads.unwrap() >= 1);
    }
}
