//! `cargo xtask test`: every test there is.
//!
//! Everything is built at once, then the test programs are run one after another, as cargo would: this way the suites of
//! the node under test can run once for each backend, without building anything again, and every test program that dies
//! without a word is counted as a failure.

pub(crate) mod build;
pub(crate) mod program;
pub(crate) mod tools;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::program::{Outcome, Tally};
use crate::shell::{bold, green, no_skip, red, say, target};

/// Builds and runs all tests; those of the node under test once for each backend. Ends with a line `N passed, N failed`.
///
/// Some tests need root. Where the machine does not allow a test, it is skipped and the summary says so; with `CI=true`
/// or `HNP_CI_NO_SKIP=1` in the environment that is a failure.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test                               # everything\n  \
                        cargo xtask test --suite clients               # one suite, on both backends\n  \
                        cargo xtask test --backend epoll half_close    # tests whose name holds `half_close`, on one"
)]
pub(crate) struct Args {
    /// Runs only tests whose name contains this.
    filter: Option<String>,
    /// Runs only this suite: a file in a crate's `tests`, or the name of a crate for its unit tests.
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// Runs the node under test on this backend only.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    #[value(name = "io_uring")]
    IoUring,
    Epoll,
}

impl Backend {
    /// As the configuration and `HNP_TEST_BACKEND` spell it.
    fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// The crate whose suites run once for each backend.
const SUITES: &str = "hnp-tests";

/// No test program takes as long as this. What does hangs, and is killed.
const LIMIT: Duration = Duration::from_secs(15 * 60);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    tools::install()?;
    let installed = start.elapsed();
    say(bold("building the tests"));
    let built = build::everything()?;
    let built_after = start.elapsed();
    let skipped = target().join("xtask-skipped-tests");
    let environment = program::Environment {
        node: built.node.clone(),
        skipped: skipped.clone(),
        filter: args.filter.clone(),
        limit: LIMIT,
    };

    let mut outcomes = Vec::new();
    let wanted = |suite: &str| args.suite.as_ref().is_none_or(|only| only == suite);
    for program in built
        .programs
        .iter()
        .filter(|program| wanted(&program.suite))
    {
        let backends: &[Option<Backend>] = match args.backend {
            _ if program.package != SUITES => &[None],
            Some(Backend::IoUring) => &[Some(Backend::IoUring)],
            Some(Backend::Epoll) => &[Some(Backend::Epoll)],
            None => &[Some(Backend::IoUring), Some(Backend::Epoll)],
        };
        for backend in backends {
            // Tests that skip themselves add lines to this file.
            fs::write(&skipped, "")
                .with_context(|| format!("cannot write {}", skipped.display()))?;
            outcomes.push(program.run(backend.map(Backend::name), &environment)?);
        }
    }
    if args.suite.is_none() && args.filter.is_none() {
        outcomes.push(program::doc_tests()?);
    }
    if outcomes.is_empty() {
        bail!(
            "no suite is called {}; there are: {}",
            args.suite.as_deref().unwrap_or(""),
            built.suites()
        );
    }
    println!("\n{}", bold("Summary"));
    for (took, what) in [
        (installed, "to install tools"),
        (built_after - installed, "to build"),
        (start.elapsed() - built_after, "to run"),
    ] {
        println!("       {:>7.1} s {what}", took.as_secs_f64());
    }
    Ok(summary(&outcomes))
}

/// What ran, what failed, what was skipped; the last line is the sum.
pub(crate) fn summary(outcomes: &[Outcome]) -> ExitCode {
    for outcome in outcomes {
        let Tally { passed, failed, .. } = outcome.tally;
        let verdict = if failed == 0 {
            green("ok    ")
        } else {
            red("FAILED")
        };
        let seconds = outcome.took.as_secs_f64();
        println!(
            "{verdict} {seconds:>7.1} s {passed:>5} passed {failed:>3} failed  {}",
            outcome.name
        );
    }
    for outcome in outcomes {
        for test in &outcome.skipped {
            println!("skipped in {}: {test}", outcome.name);
        }
    }
    for outcome in outcomes {
        for failure in &outcome.failures {
            println!("{} in {}: {failure}", red("failed"), outcome.name);
        }
    }
    let total = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let skipped = total(|outcome| outcome.skipped.len());
    let passed = total(|outcome| outcome.tally.passed);
    let failed = total(|outcome| outcome.tally.failed);
    if skipped > 0 {
        println!(
            "{skipped} skipped{}",
            if no_skip() {
                ", which counts as failed here"
            } else {
                ""
            }
        );
    }
    println!("{passed} passed, {failed} failed");
    // Nothing comes after this line: people and scripts look for it there.
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
