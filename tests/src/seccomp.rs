//! A child that may not use io_uring, as container runtimes have it by default.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::{io, thread};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Starts `command` under a filter that answers `io_uring_setup(2)` with `EPERM` and lets everything else pass.
///
/// A filter belongs to a thread and is inherited by what it starts: so a thread that is about to end takes it, and nothing else of this
/// process is touched.
///
/// # Errors
/// When the program cannot be started.
///
/// # Panics
/// When the kernel refuses the filter.
pub fn spawn_without_io_uring(mut command: Command) -> io::Result<Child> {
    thread::spawn(move || {
        let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        )
        .unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        command.spawn()
    })
    .join()
    .unwrap()
}
