//! Processes of the benchmark: started, talked to by lines of JSON, and ended by their id, whatever happens to us.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::prctl;
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

/// How long a process has to end after it was asked to, before it is made to.
const END_LIMIT: Duration = Duration::from_secs(3);

/// A running process; dropping it ends it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command`. The kernel ends it should this process die first.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Process> {
        #[expect(
            unsafe_code,
            reason = "there is no safe way to set up a process between fork and exec"
        )]
        // SAFETY: the closure runs in the forked child before exec and makes two async-signal-safe system calls, prctl(2) and
        // sigprocmask(2).
        unsafe {
            command.pre_exec(|| {
                // What this process leaves to a thread of its own (`interrupt`) is for the child to take again.
                SigSet::empty().thread_set_mask()?;
                Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)
            });
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} ({program})"))?;
        Ok(Process {
            name: name.to_owned(),
            child,
        })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// When it has ended, with its status.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended: {status}", self.name);
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// What it prints until it ends, for one started with a piped standard output.
    ///
    /// # Errors
    /// When its output is not piped or not text.
    pub fn output(&mut self) -> anyhow::Result<String> {
        let mut output = self
            .child
            .stdout
            .take()
            .context("standard output is not piped")?;
        let mut text = String::new();
        output
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read what {} prints", self.name))?;
        Ok(text)
    }

    /// Asks it to end (SIGTERM), waits, and kills it if it does not within three seconds.
    pub fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + END_LIMIT;
        // The standard library waits without end or not at all.
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                self.signal(Signal::SIGKILL);
                let _ended = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Only while it has not been waited for is the id certainly its own.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ended_meanwhile = signal::kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process of this very binary that is asked by lines on its standard input and answers with lines of JSON on its standard
/// output. It ends when its input does.
#[derive(Debug)]
pub struct Worker {
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    process: Process,
}

impl Worker {
    /// Starts this binary with other arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, arguments: &[&str]) -> anyhow::Result<Worker> {
        let mut command =
            Command::new(std::env::current_exe().context("cannot tell where this binary is")?);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(name, &mut command)?;
        let input = process.child.stdin.take();
        let output = process
            .child
            .stdout
            .take()
            .context("a piped output is there once")?;
        Ok(Worker {
            input,
            output: BufReader::new(output),
            process,
        })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When it has ended.
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let name = &self.process.name;
        let input = self
            .input
            .as_mut()
            .context("the input is open until the end")?;
        writeln!(input, "{line}").with_context(|| format!("{name} does not listen any more"))
    }

    /// Waits for the next line.
    ///
    /// # Errors
    /// When it ends instead (its own words are on the standard error), or the line is not what is expected.
    pub fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let name = &self.process.name;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("{name} ended without an answer; its error is above");
        }
        serde_json::from_str(&line).with_context(|| format!("{name} answered {line:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input is what it ends by; the process is then waited for.
        drop(self.input.take());
    }
}
