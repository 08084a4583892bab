//! Runs an image on a kernel, in QEMU, and counts.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{kernel::Kernel, plan::Clock};
use crate::{
    install::{self, Debian},
    shell::{find_program, shown},
    test::program::{Outcome, Tally, failed_test, lines_of},
};

const QEMU: Debian = Debian {
    package: "qemu-system-x86",
    brings: "qemu-system-x86_64",
    why: "runs other kernels",
};

/// A machine that has not been switched on.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) image: &'a Path,
    /// Where the kernel's own messages go.
    pub(super) console: PathBuf,
    /// What its outcomes are named after.
    pub(super) name: String,
    /// Whether it sees this machine's files; it cannot write them.
    pub(super) shares: bool,
    pub(super) clock: Clock,
    /// After which it is switched off from outside.
    pub(super) limit: Duration,
}

/// Installs what is needed to run a machine.
pub(super) fn install() -> Result<()> {
    install::debian(&[QEMU])
}

impl Machine<'_> {
    /// Runs it until it has switched itself off.
    ///
    /// # Errors
    /// When QEMU cannot be started. All else that goes wrong is among the outcomes.
    pub(super) fn run(&self) -> Result<Vec<Outcome>> {
        let mut command = self.command();
        let line = shown(&command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let stdout = child.stdout.take().context("its output was asked for")?;
        let lines = lines_of(stdout, false);
        let mut report = Report::new(&self.name);
        let fault = loop {
            match lines.recv_timeout(self.limit.saturating_sub(report.start.elapsed())) {
                Ok(line) => {
                    if let Some(line) = report.add(&line) {
                        // Where nobody reads it, it is counted all the same.
                        let _ = writeln!(std::io::stdout(), "{line}");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break "it went off by itself".to_owned(),
                Err(RecvTimeoutError::Timeout) => {
                    // When it is gone already, all the better.
                    let _ = child.kill();
                    break format!("switched off: not done after {} s", self.limit.as_secs());
                }
            }
        };
        let status = child.wait()?;
        let console = fs::read_to_string(&self.console).unwrap_or_default();
        Ok(report.outcomes(&format!(
            "{fault} (QEMU: {status}), its kernel's last words:\n{}",
            last_lines(&console)
        )))
    }

    fn command(&self) -> Command {
        // Emulated also where /dev/kvm is: the same everywhere, and inside another virtual machine it is a gamble.
        let shape = match self.clock {
            // Two processors, so that there is something to race with.
            Clock::Time => "-accel tcg,thread=multi -smp 2 -cpu max",
            // A nanosecond for each instruction; while there is none to execute, on to whatever is waited for. Each step of a
            // `rep movs` counts as one: to a processor that promises nothing about it, the kernel copies words, not bytes.
            Clock::Instructions => {
                "-accel tcg,thread=single -icount shift=0,sleep=off -smp 1 -cpu max,-erms,-fsrm"
            }
        };
        // What is written over shared files is kept in memory.
        let megabytes = if self.shares { "4096" } else { "2048" };
        // A crash ends the machine; so does what would otherwise be a line in the kernel's log, then damage.
        const KERNEL: &str = "console=ttyS0 rdinit=/init panic=-1 oops=panic loglevel=5 random.trust_cpu=on mitigations=off";
        // A machine whose xtask was killed would go on computing for nobody.
        let mut command = match find_program("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", QEMU.brings]);
                command
            }
            None => Command::new(QEMU.brings),
        };
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-machine", "q35"])
            .args(shape.split(' '))
            .args(["-m", megabytes])
            .arg("-chardev")
            .arg(format!("file,id=kernel,path={}", self.console.display()))
            .args(["-serial", "chardev:kernel"])
            .args(["-chardev", "stdio,id=tests,signal=off"])
            .args(["-serial", "chardev:tests"])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", KERNEL]);
        if self.shares {
            command
                .args([
                    "-fsdev",
                    "local,id=files,path=/,security_model=none,readonly=on,multidevs=remap",
                ])
                .args(["-device", "virtio-9p-pci,fsdev=files,mount_tag=files"]);
        }
        command
    }
}

/// What the machine has said so far.
struct Report {
    machine: String,
    start: Instant,
    outcomes: Vec<Outcome>,
    state: State,
}

enum State {
    /// Not heard of, or on the way to its first step.
    Starting,
    Running(Running),
    /// Between two steps.
    Idle,
    Done,
}

struct Running {
    name: String,
    since: Instant,
    tally: Tally,
    failures: Vec<String>,
}

impl Report {
    fn new(machine: &str) -> Self {
        Self {
            machine: machine.to_owned(),
            start: Instant::now(),
            outcomes: Vec::new(),
            state: State::Starting,
        }
    }

    /// Takes in a line, and hands back what of it is for people.
    fn add(&mut self, line: &str) -> Option<String> {
        // A test program that dies leaves half a line before it.
        let (text, word) = match line.split_once("::vm:: ") {
            Some((text, word)) => (text, Some(word)),
            None => (line, None),
        };
        if let State::Running(running) = &mut self.state {
            running.tally.add(text);
            running.failures.extend(failed_test(text));
        }
        let Some(word) = word else {
            return Some(text.to_owned());
        };
        let heading = self.control(word);
        let shown: Vec<_> = [Some(text.to_owned()), heading]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        (!shown.is_empty()).then(|| shown.join("\n"))
    }

    fn control(&mut self, line: &str) -> Option<String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (verb, &mut self.state) {
            ("boot", _) => {
                let seconds = self.start.elapsed().as_secs_f64();
                return Some(format!("Linux {rest} is up after {seconds:.1} s"));
            }
            ("begin", _) => {
                self.state = State::Running(Running {
                    name: rest.to_owned(),
                    since: Instant::now(),
                    tally: Tally::default(),
                    failures: Vec::new(),
                });
                return Some(format!("{rest} on {}", self.machine));
            }
            ("skip", State::Running(running)) => {
                // It has told libtest that it passed.
                running.tally.passed = running.tally.passed.saturating_sub(1);
                running.tally.failed += 1;
                running.failures.push(format!("skipped: {rest}"));
            }
            ("end", State::Running(running)) => {
                let Tally {
                    passed,
                    failed,
                    results,
                } = running.tally;
                let fault = if rest != "0" && failed == 0 {
                    Some(format!("the test program itself: status {rest}"))
                } else if results == 0 {
                    Some("the test program ended without a result".to_owned())
                } else if passed + failed == 0 {
                    Some("the test program ran no test".to_owned())
                } else {
                    None
                };
                self.end(fault);
            }
            ("done", State::Idle) => self.state = State::Done,
            // "late" or "lacks": it goes off.
            _ => {
                self.end(Some(format!("the machine says: {line}")));
                self.state = State::Done;
            }
        }
        None
    }

    /// The step that runs is over.
    fn end(&mut self, fault: Option<String>) {
        let mut outcome = Outcome {
            name: self.machine.clone(),
            tally: Tally::default(),
            failures: Vec::new(),
            skipped: Vec::new(),
            took: self.start.elapsed(),
        };
        if let State::Running(running) = std::mem::replace(&mut self.state, State::Idle) {
            outcome.name = format!("{} on {}", running.name, self.machine);
            outcome.took = running.since.elapsed();
            outcome.tally = running.tally;
            outcome.failures = running.failures;
        }
        if let Some(fault) = fault {
            outcome.tally.failed += 1;
            outcome.failures.push(fault);
        }
        self.outcomes.push(outcome);
    }

    /// The machine is off: what came of it; `fault` is what to say if it was not done.
    fn outcomes(mut self, fault: &str) -> Vec<Outcome> {
        if !matches!(self.state, State::Done) {
            self.end(Some(fault.to_owned()));
        }
        self.outcomes
    }
}

fn last_lines(console: &str) -> String {
    const LINES: usize = 50;
    let lines: Vec<_> = console.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcomes of a machine that said this and went off: passed, failed, failures.
    fn after(said: &[&str]) -> Vec<(usize, usize, Vec<String>)> {
        let mut report = Report::new("Linux 1.0");
        for line in said {
            report.add(line);
        }
        let outcomes = report.outcomes("gone");
        outcomes
            .into_iter()
            .map(|one| (one.tally.passed, one.tally.failed, one.failures))
            .collect()
    }

    const RESULT: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured";

    #[test]
    fn what_is_done_is_counted() {
        let said = [
            "::vm:: boot 1.0",
            "::vm:: begin one",
            RESULT,
            "::vm:: end 0",
            "::vm:: done",
        ];
        assert_eq!(after(&said), [(3, 0, vec![])]);
    }

    #[test]
    fn a_machine_that_dies_is_a_failure() {
        let failed = |failed: &str| (0, 1, vec![failed.to_owned()]);
        assert_eq!(after(&[]), [failed("gone")]);
        assert_eq!(
            after(&["::vm:: boot 1.0", "::vm:: begin one", "test a ... "]),
            [failed("gone")]
        );
        let between = ["::vm:: begin one", RESULT, "::vm:: end 0"];
        assert_eq!(after(&between), [(3, 0, vec![]), failed("gone")]);
        assert_eq!(
            after(&["::vm:: boot 1.0", "::vm:: done"]),
            [failed("the machine says: done")]
        );
        let late = after(&["::vm:: begin one", "test a ... ::vm:: late after 9 s"]);
        assert_eq!(late, [failed("the machine says: late after 9 s")]);
    }

    #[test]
    fn a_program_that_says_nothing_fails_or_runs_nothing_is_a_failure() {
        let program = |result: &str, status: &str| {
            let end = format!("::vm:: end {status}");
            let said = ["::vm:: begin one", result, &end, "::vm:: done"];
            let mut outcomes = after(&said);
            assert_eq!(outcomes.len(), 1);
            let (_, failed, failures) = outcomes.remove(0);
            assert_eq!(failed, 1);
            failures[0].clone()
        };
        assert_eq!(program("", "0"), "the test program ended without a result");
        assert_eq!(
            program(RESULT, "139"),
            "the test program itself: status 139"
        );
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(program(none, "0"), "the test program ran no test");
    }

    #[test]
    fn a_skipped_test_has_failed() {
        let said = [
            "::vm:: begin one",
            RESULT,
            "::vm:: skip ktls: no tls here",
            "::vm:: end 0",
            "::vm:: done",
        ];
        assert_eq!(
            after(&said),
            [(2, 1, vec!["skipped: ktls: no tls here".to_owned()])]
        );
    }
}
