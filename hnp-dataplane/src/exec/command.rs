//! The command: started inside the cgroup, with everything of its environment as it was, and waited for.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use thiserror::Error;

use super::signals::{self, Signals};

/// How long a command that has stopped is given to go on at once, as the shell's `fg` may have made it.
const STOPPED: Duration = Duration::from_millis(50);

/// What the command is to find as hnp found it.
pub(crate) struct Before {
    /// Blocked signals.
    pub(crate) signals: SigSet,
    /// Soft and hard limit of open files.
    pub(crate) open_files: Option<(rlim_t, rlim_t)>,
}

/// Why the command does not run.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("{0}: command not found")]
    NotFound(String),
    #[error("cannot run {0}: {1}")]
    NotExecutable(String, io::Error),
    #[error("cannot run {0}: the interpreter or loader that it names does not exist")]
    NoInterpreter(String),
    #[error("cannot put the command into its cgroup: {0}")]
    Cgroup(io::Error),
}

impl StartError {
    /// As shells have it: 127 and 126; 1 for what is not the command's fault.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            StartError::NotFound(_) => 127,
            StartError::NotExecutable(..) | StartError::NoInterpreter(_) => 126,
            StartError::Cgroup(_) => 1,
        }
    }
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
}

impl Running {
    /// Starts `words` in the cgroup whose `cgroup.procs` is `door`. It stays in hnp's process group, and so at its terminal.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start(
        words: &[OsString],
        door: File,
        before: Before,
    ) -> Result<Running, StartError> {
        let program = words.first().map_or(OsStr::new(""), OsString::as_os_str);
        let (mut verdict, report) = io::pipe().map_err(StartError::Cgroup)?;
        let mut command = process::Command::new(program);
        command.args(words.iter().skip(1));
        let enter = move || {
            if let Err(error) = (&door).write_all(b"0") {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                // Without the report it is taken for a fault of the command, and is reported all the same.
                let _ = (&report).write_all(&number.to_ne_bytes());
                return Err(error);
            }
            if let Some((soft, hard)) = before.open_files {
                setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
            }
            before.signals.thread_set_mask()?;
            Ok(())
        };
        #[expect(
            unsafe_code,
            reason = "what runs between fork and exec is unsafe by signature"
        )]
        // SAFETY: between fork and exec, `enter` makes system calls only: no memory is allocated, no lock is taken. An error
        // that holds a number of the system allocates nothing either.
        unsafe {
            command.pre_exec(enter);
        }
        let started = command.spawn();
        // Closes this process's writing end.
        drop(command);
        match started {
            Ok(child) => Ok(Running {
                pid: Pid::from_raw(child.id() as i32),
            }),
            Err(error) => {
                let mut number = [0; 4];
                if verdict.read_exact(&mut number).is_ok() {
                    let number = i32::from_ne_bytes(number);
                    return Err(StartError::Cgroup(io::Error::from_raw_os_error(number)));
                }
                let name = program.to_string_lossy().into_owned();
                Err(match error.kind() {
                    io::ErrorKind::NotFound if is_there(program) => StartError::NoInterpreter(name),
                    io::ErrorKind::NotFound => StartError::NotFound(name),
                    _ => StartError::NotExecutable(name, error),
                })
            }
        }
    }

    /// Waits for its end, and passes signals on meanwhile. Its exit code, 128+n where signal n ended it.
    ///
    /// # Errors
    /// When signals cannot be read.
    pub(crate) async fn wait(&self, signals: &Signals) -> io::Result<u8> {
        loop {
            let sent = signals.next().await?;
            if sent.signal == Signal::SIGCHLD {
                if let Some(code) = self.look().await {
                    return Ok(code);
                }
            } else if sent.is_for(self.pid.as_raw() as u32) {
                // It may have ended: then there is nobody to tell.
                let _ = kill(self.pid, sent.signal);
            }
        }
    }

    /// Reaps whoever has ended (as the first process of a container, hnp inherits orphans) and follows a command that stops.
    async fn look(&self) -> Option<u8> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.pid => return Some(code as u8),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.pid => {
                    return Some(128 + signal as u8);
                }
                Ok(WaitStatus::Stopped(pid, _)) if pid == self.pid => self.stop_too().await,
                Ok(WaitStatus::StillAlive) => return None,
                Err(Errno::EINTR) | Ok(_) => {}
                // Somebody else has reaped it: how it ended, nobody knows.
                Err(_) => return Some(1),
            }
        }
    }

    /// The shell waits for hnp, which is its child: it has to stop for the shell to take the terminal back.
    async fn stop_too(&self) {
        tokio::time::sleep(STOPPED).await;
        if signals::in_foreground() && self.is_stopped() {
            let _ = raise(Signal::SIGSTOP);
            // Continued by now; so must be the command, if only hnp was.
            let _ = kill(self.pid, Signal::SIGCONT);
        }
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    }
}

/// Whether a program is where it is looked for: at its path, or in `PATH` if it has none.
fn is_there(program: &OsStr) -> bool {
    if program.as_encoded_bytes().contains(&b'/') {
        return Path::new(program).exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        let start = |program: &str| {
            let before = Before {
                signals: SigSet::empty(),
                open_files: None,
            };
            let door = File::options().write(true).open("/dev/null").unwrap();
            Running::start(&[program.into()], door, before).unwrap_err()
        };
        let missing = start("/nonexistent/program");
        assert_eq!(missing.exit_code(), 127);
        assert_eq!(
            missing.to_string(),
            "/nonexistent/program: command not found"
        );
        let directory = start("/");
        assert_eq!(directory.exit_code(), 126);
        assert!(
            directory.to_string().contains("cannot run /: "),
            "{directory}"
        );
    }

    #[test]
    fn a_door_that_is_closed_is_no_fault_of_the_command() {
        let before = Before {
            signals: SigSet::empty(),
            open_files: None,
        };
        let door = File::options().write(true).open("/dev/full").unwrap();
        let error = Running::start(&["true".into()], door, before).unwrap_err();
        assert!(matches!(error, StartError::Cgroup(_)), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}
