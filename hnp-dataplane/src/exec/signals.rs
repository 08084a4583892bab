//! Signals while the command runs: what is sent to hnp alone is passed on, and hnp stops when the command does.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::ready::Ready;

/// What is passed on, and the news of children.
const TAKEN: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGCHLD,
];

/// The signals of this process, blocked: they wait to be read.
pub(crate) struct Blocked {
    before: SigSet,
    fd: SignalFd,
}

/// One that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) signal: Signal,
    /// Who called `kill()`; `None`: the kernel, as the terminal's keys make it do for its whole foreground group.
    pub(crate) by: Option<u32>,
}

/// The signals of this process, read one by one.
pub(crate) struct Signals {
    ready: Ready,
    fd: SignalFd,
}

impl Blocked {
    /// Blocks them for this thread and those it starts from now on.
    pub(crate) fn new() -> io::Result<Blocked> {
        let taken: SigSet = TAKEN.into_iter().collect();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&taken), Some(&mut before))?;
        let fd = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Blocked { before, fd })
    }

    /// What was blocked before, as the command is to find it.
    pub(crate) fn before(&self) -> SigSet {
        self.before
    }

    /// On the runtime that this is called on.
    pub(crate) fn read(self) -> io::Result<Signals> {
        Ok(Signals {
            ready: Ready::of(&self.fd)?,
            fd: self.fd,
        })
    }
}

impl Signals {
    /// The next one.
    pub(crate) async fn next(&self) -> io::Result<Sent> {
        loop {
            let Some(info) = self.fd.read_signal()? else {
                self.ready.wait().await?;
                continue;
            };
            let Ok(signal) = Signal::try_from(info.ssi_signo as libc::c_int) else {
                continue;
            };
            let by = (info.ssi_code <= 0).then_some(info.ssi_pid);
            return Ok(Sent { signal, by });
        }
    }
}

impl Sent {
    /// Whether `command` has to be sent it, too. It has got what the kernel sends to the foreground group, and what it sends to
    /// a group itself.
    pub(crate) fn is_for(self, command: u32) -> bool {
        self.signal != Signal::SIGCHLD && self.by.is_some_and(|sender| sender != command)
    }
}

/// Whether a shell waits at the terminal for this process's group: then it must see that the command has stopped.
pub(crate) fn in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    foreground(&stat)
}

/// proc_pid_stat(5): after the name in parentheses, state, parent, group, session, terminal, the terminal's foreground group.
fn foreground(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ').skip(2);
    let group = fields.next();
    group.is_some() && group == fields.nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_has_had_is_not_sent_again() {
        let sent = |signal, by| Sent { signal, by };
        assert!(sent(Signal::SIGTERM, Some(1)).is_for(77));
        assert!(!sent(Signal::SIGINT, None).is_for(77), "by a key");
        assert!(!sent(Signal::SIGTERM, Some(77)).is_for(77), "by itself");
        assert!(!sent(Signal::SIGCHLD, Some(77)).is_for(78));
    }

    #[test]
    fn the_foreground_is_the_terminals() {
        assert!(foreground("90 (hnp) S 80 90 80 34816 90 4194304"));
        assert!(!foreground("90 (hnp) S 80 90 80 34816 80 4194304"));
        assert!(!foreground("90 (hnp) S 80 90 80 0 -1 4194304"));
        assert!(!foreground(""));
    }
}
