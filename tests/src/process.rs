//! Child processes with a deadline, killed when dropped.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// A child process that is waited for by a thread of its own, so that its end is an event.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// Locked by nobody: the lock only makes a process something that threads can share.
    ended: Mutex<Receiver<ExitStatus>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Takes over a child whose pipes have been taken out of it.
    #[must_use]
    pub fn new(mut child: Child) -> Process {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let (send, ended) = mpsc::channel();
        thread::spawn(move || {
            let status = child.wait().unwrap();
            // Nobody listens any more when the guard went first.
            let _ = send.send(status);
        });
        Process {
            pid,
            ended: Mutex::new(ended),
            status: None,
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal, unless the process has ended (its id may then be another's).
    pub fn signal(&mut self, signal: Signal) {
        if self.ended_within(Duration::ZERO).is_none() {
            let _ = signal::kill(self.pid, signal);
        }
    }

    /// The exit status, if the process ends within `time`.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.ended.get_mut().unwrap().recv_timeout(time).ok();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // The thread has reaped it, or is about to: a killed process does not stay.
        let _ = self.ended_within(Duration::from_secs(10));
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote, as text.
    pub stderr: String,
}

impl Outcome {
    /// Its output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its output as text, when it ended with 0.
    ///
    /// # Panics
    /// When it did not.
    pub fn success(&self) -> String {
        assert!(
            self.status.success(),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            describe(self.status),
            self.text(),
            self.stderr
        );
        self.text()
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("ended by signal {signal:?}"),
    }
}

/// Runs a program to its end and collects what it wrote.
///
/// # Panics
/// When it cannot be started or is not done within `limit`, made longer by [`crate::patient`].
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    run_with(command, limit, Stdio::null(), read_all)
}

/// All of an output.
#[must_use]
pub fn read_all(mut output: Box<dyn Read + Send>) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = output.read_to_end(&mut all);
    all
}

/// Like [`run`], with `stdin` for the program's standard input and `consume` reading what it writes to its standard output.
///
/// # Panics
/// When it cannot be started or is not done within `limit`.
pub fn run_with(
    command: &mut Command,
    limit: Duration,
    stdin: Stdio,
    consume: impl FnOnce(Box<dyn Read + Send>) -> Vec<u8> + Send + 'static,
) -> Outcome {
    let limit = crate::patient(limit);
    let name = format!("{command:?}");
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
    let stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let stdout = thread::spawn(move || consume(Box::new(stdout)));
    let stderr: JoinHandle<String> = thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stderr.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let mut process = Process::new(child);
    let status = process.ended_within(limit);
    process.signal(Signal::SIGKILL);
    let stdout = stdout.join().unwrap();
    let stderr = stderr.join().unwrap();
    let Some(status) = status else {
        panic!(
            "{name} was not done after {limit:?}\n--- stdout\n{}\n--- stderr\n{stderr}",
            String::from_utf8_lossy(&stdout)
        );
    };
    Outcome {
        status,
        stdout,
        stderr,
    }
}
