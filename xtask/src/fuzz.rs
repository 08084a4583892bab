//! `cargo xtask fuzz`: runs the fuzz targets.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    install,
    shell::{self, bold, root, say},
};

/// Runs each fuzz target for a while, starting from its seeds, on the nightly toolchain.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz                           # every target for a minute\n  \
                        cargo xtask fuzz request_head --seconds 600"
)]
pub(crate) struct Args {
    /// The targets to run; all of them when none is named.
    targets: Vec<String>,
    /// How long to run each target.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!(
            "no fuzz target is called {unknown}; there are: {}",
            all.join(", ")
        );
    }
    install::nightly()?;
    install::cargo_tool(install::CARGO_FUZZ)?;
    let wanted = if args.targets.is_empty() {
        &all
    } else {
        &args.targets
    };
    let mut failed = Vec::new();
    for name in wanted {
        // Apart, so that what does not build is not taken for a crash.
        shell::run(&mut cargo_fuzz("build", name))?;
    }
    for name in wanted {
        say(bold(&format!("fuzzing {name} for {} s", args.seconds)));
        if let Err(error) = fuzz(name, args.seconds) {
            say(format_args!(
                "{error:#}; the input is in fuzz/artifacts/{name}"
            ));
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("fuzzing {}", failed.join(", "));
    }
    say(format_args!(
        "{} fuzzed for {} s each, no crash",
        wanted.join(", "),
        args.seconds
    ));
    Ok(())
}

fn fuzz(name: &str, seconds: u32) -> Result<()> {
    let mut run = cargo_fuzz("run", name);
    // The corpus, which grows, first: libFuzzer writes what it finds to the first directory. Then the seeds.
    run.arg(corpus(name)?);
    let seeds = Path::new("fuzz/seeds").join(name);
    if root().join(&seeds).is_dir() {
        run.arg(seeds);
    }
    run.args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-print_final_stats=1",
    ]);
    shell::run(&mut run)
}

fn cargo_fuzz(verb: &str, target: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(root())
        .args(["run", "nightly", "cargo", "fuzz", verb, target])
        // A parser under test has no use for eBPF programs.
        .env("HNP_EBPF", "stub");
    // What the pinned toolchain told xtask must not reach another one.
    for name in ["CARGO", "LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

fn corpus(name: &str) -> Result<std::path::PathBuf> {
    let corpus = Path::new("fuzz/corpus").join(name);
    let path = root().join(&corpus);
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(corpus)
}

/// The fuzz targets: one file each.
fn targets() -> Result<Vec<String>> {
    let dir = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
