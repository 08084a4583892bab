//! Runs one test program and counts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::shell::{bold, cargo, no_skip, say, shown};

/// A test program as cargo built it.
pub(crate) struct Program {
    pub(crate) package: String,
    pub(crate) suite: String,
    pub(crate) executable: PathBuf,
    /// The package's directory, where cargo runs its tests.
    pub(crate) directory: PathBuf,
}

/// What all test programs are run with.
pub(super) struct Environment {
    /// The `hnp` that suites start.
    pub(super) node: PathBuf,
    /// The file to which tests add `name: reason` when they skip themselves.
    pub(super) skipped: PathBuf,
    /// Only tests whose name contains this.
    pub(super) filter: Option<String>,
    /// After which a test program is killed.
    pub(super) limit: Duration,
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// How many programs said that they were done.
    pub(crate) results: usize,
}

/// How one test program ended.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) tally: Tally,
    /// The names of failed tests, and what else went wrong.
    pub(crate) failures: Vec<String>,
    /// `name: reason` of tests that skipped themselves: neither passed nor failed.
    pub(crate) skipped: Vec<String>,
    pub(crate) took: Duration,
}

impl Program {
    /// Runs it, on a backend of the node under test if given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn run(&self, backend: Option<&str>, environment: &Environment) -> Result<Outcome> {
        let mut name = match self.suite == self.package {
            true => format!("{} (unit tests)", self.package),
            false => format!("{} {}", self.package, self.suite),
        };
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.directory)
            .args(&environment.filter)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .env("HNP_TEST_BINARY", &environment.node)
            .env("HNP_TEST_SKIPPED", &environment.skipped);
        if let Some(backend) = backend {
            name = format!("{name} [{backend}]");
            command.env("HNP_TEST_BACKEND", backend);
        }
        let mut outcome = run(name, command, environment.limit, true)?;
        let skipped = fs::read_to_string(&environment.skipped).unwrap_or_default();
        outcome.set_skipped(skipped.lines().map(str::to_owned).collect());
        Ok(outcome)
    }
}

/// The examples in the documentation, which cargo alone can run.
///
/// # Errors
/// When cargo cannot be started.
pub(super) fn doc_tests() -> Result<Outcome> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc", "--locked", "--quiet"]);
    run(
        "documentation examples".to_owned(),
        command,
        Duration::from_secs(600),
        true,
    )
}

impl Outcome {
    /// A test that skipped itself has told libtest that it passed.
    fn set_skipped(&mut self, skipped: Vec<String>) {
        // One that then failed is not among the passed.
        let as_passed = skipped.len().min(self.tally.passed);
        self.tally.passed -= as_passed;
        if no_skip() {
            self.tally.failed += as_passed;
            self.failures
                .extend(skipped.iter().map(|test| format!("skipped: {test}")));
        }
        self.skipped = skipped;
    }
}

/// `echo`: shows what it is and what it says.
fn run(name: String, mut command: Command, limit: Duration, echo: bool) -> Result<Outcome> {
    if echo {
        say(bold(&name));
    }
    let line = shown(&command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Of its own, so that what a hanging test has started can be killed with it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = child.stdout.take().context("its output was asked for")?;
    let received = lines_of(stdout, echo);

    let mut tally = Tally::default();
    let mut failures = Vec::new();
    let mut in_time = true;
    loop {
        match received.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => {
                tally.add(&line);
                failures.extend(failed_test(&line));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                in_time = false;
                kill_group(&child);
                break;
            }
        }
    }
    let status = child.wait()?;
    if let Some(fault) = fault(status, tally, in_time.then_some(()).ok_or(limit)) {
        tally.failed += 1;
        failures.push(fault);
    }
    Ok(Outcome {
        name,
        tally,
        failures,
        skipped: Vec::new(),
        took: start.elapsed(),
    })
}

/// The output line by line; `echo`: shown as it comes.
pub(crate) fn lines_of(output: impl Read + Send + 'static, echo: bool) -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel();
    thread::spawn(move || copy(output, &lines, echo));
    received
}

fn copy(from: impl Read, to: &mpsc::Sender<String>, echo: bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        if echo {
            // Where nobody reads xtask's output, tests are counted all the same.
            let _ = std::io::stdout().write_all(&line);
        }
        if to
            .send(String::from_utf8_lossy(&line).trim_end().to_owned())
            .is_err()
        {
            return;
        }
        line.clear();
    }
}

/// What is wrong beyond tests that failed.
fn fault(status: ExitStatus, tally: Tally, in_time: Result<(), Duration>) -> Option<String> {
    if let Err(limit) = in_time {
        Some(format!("killed: not done after {} s", limit.as_secs()))
    } else if !status.success() && tally.failed == 0 {
        Some(format!("the test program itself: {status}"))
    } else if tally.results == 0 {
        Some("the test program ended without a result".to_owned())
    } else {
        None
    }
}

fn kill_group(child: &Child) {
    let group = format!("-{}", child.id());
    // When it is gone already, all the better.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
}

impl Tally {
    /// Adds libtest's last line: `test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; …`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            counts
                .split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
        };
        if let (Some(passed), Some(failed)) = (count("passed"), count("failed")) {
            self.passed += passed;
            self.failed += failed;
            self.results += 1;
        }
    }
}

/// `test relay::half_close ... FAILED`.
pub(crate) fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn outcome_of(script: &str, limit: Duration) -> Outcome {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run("a test of xtask".to_owned(), command, limit, false).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn results_are_added_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.47s");
        tally
            .add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.add("test result of something else: 7 passed; 7 failed");
        assert_eq!(
            tally,
            Tally {
                passed: 14,
                failed: 2,
                results: 2
            }
        );
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(
            failed_test("test relay::reset ... FAILED").as_deref(),
            Some("relay::reset")
        );
        assert_eq!(failed_test("test relay::reset ... ok"), None);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let outcome = outcome_of("echo running 3 tests; kill -SEGV $$", LONG);
        assert_eq!(outcome.tally.failed, 1, "{:?}", outcome.failures);
        assert!(
            outcome.failures[0].contains("signal"),
            "{:?}",
            outcome.failures
        );
    }

    #[test]
    fn a_program_that_says_nothing_is_a_failure() {
        assert_eq!(outcome_of("exit 0", LONG).tally.failed, 1);
        let ended = fault(ExitStatus::from_raw(0), Tally::default(), Ok(()));
        assert_eq!(
            ended.as_deref(),
            Some("the test program ended without a result")
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let outcome = outcome_of("sleep 1000 & sleep 1000", Duration::from_millis(100));
        assert!(outcome.took < LONG);
        assert!(
            outcome.failures[0].starts_with("killed"),
            "{:?}",
            outcome.failures
        );
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        let mut outcome = outcome_of(
            "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'",
            LONG,
        );
        outcome.set_skipped(vec!["ebpf: no privilege".to_owned()]);
        assert_eq!(outcome.tally.passed, 2);
        assert_eq!(outcome.tally.failed, usize::from(no_skip()));
    }
}
