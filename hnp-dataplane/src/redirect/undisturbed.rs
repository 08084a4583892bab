//! Talking to the kernel's verifier without being disturbed by signals.

use std::io::ErrorKind;
use std::panic::resume_unwind;
use std::thread;

use aya::programs::ProgramError;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// How often a program is loaded anew whose verification was broken off.
const ATTEMPTS: usize = 8;

/// Runs `work` in a thread of its own with all signals blocked; what comes meanwhile goes to another thread, or waits.
///
/// The verifier gives up with `EAGAIN` when it sees a signal for the thread that it works for, be it one that the process will
/// ignore: the end of a child while `posix_spawn()` is still on its way out is enough. What io_uring has for the thread that
/// made a ring, the end of that ring included, counts as one and cannot be blocked (`TIF_NOTIFY_SIGNAL`): a thread that made
/// none is not meant. And where aya tries out what the kernel can, it takes that answer for a no, for as long as the process
/// lives.
pub(super) fn undisturbed<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // The new thread begins with the same.
    let _unblocked = Block::all();
    thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Loads a program, and again while the kernel says to try again: a frozen cgroup or io_uring disturbs without a signal.
pub(super) fn again(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    repeat(
        load,
        |error| matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == ErrorKind::WouldBlock),
    )
}

fn repeat<E>(
    mut work: impl FnMut() -> Result<(), E>,
    once_more: impl Fn(&E) -> bool,
) -> Result<(), E> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(error) if once_more(&error) => {}
            result => return result,
        }
    }
    work()
}

/// Signals stay blocked in this thread until this is dropped.
struct Block {
    before: SigSet,
}

impl Block {
    fn all() -> Self {
        let mut before = SigSet::empty();
        // Cannot fail: it is told something valid to do. If it did, nothing would be blocked, and nothing unblocked.
        let _ = pthread_sigmask(
            SigmaskHow::SIG_BLOCK,
            Some(&SigSet::all()),
            Some(&mut before),
        );
        Self { before }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn signals_are_blocked_for_as_long_as_it_takes() {
        let blocked = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGCHLD);
        assert!(!blocked());
        assert!(undisturbed(blocked));
        let here = thread::current().id();
        assert_ne!(undisturbed(|| thread::current().id()), here);
        assert!(!blocked());
        let panicked = panic::catch_unwind(|| undisturbed(|| panic!("in between")));
        assert!(panicked.is_err() && !blocked());
    }

    #[test]
    fn what_failed_is_repeated_a_few_times_only() {
        let calls = |errors: &[&'static str]| {
            let (mut calls, mut errors) = (0, errors.iter());
            let work = || {
                calls += 1;
                errors.next().map_or(Ok(()), |error| Err(*error))
            };
            let result = repeat(work, |error| *error == "again");
            (calls, result)
        };
        assert_eq!(calls(&["again", "again"]), (3, Ok(())));
        assert_eq!(calls(&["again", "wrong"]), (2, Err("wrong")));
        assert_eq!(calls(&["again"; 100]), (ATTEMPTS, Err("again")));
    }
}
