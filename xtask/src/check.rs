//! `cargo xtask check`: everything that can be said without running the code.

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    install,
    shell::{self, bold, cargo, green, red, root, say, target},
};

/// Checks formatting, lints, documentation and dependencies. All of them are tried, whatever fails.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask check          # what CI does\n  cargo xtask check --fix    # format, and let clippy \
                        fix what it can, first"
)]
pub(crate) struct Args {
    /// Formats the code and applies clippy's suggestions before checking.
    #[arg(long)]
    fix: bool,
}

/// Licences, bans and sources. Advisories need a database that is fetched from the network on every run, and change
/// without any change here: they are left to a scheduled job.
const DENY: [&str; 4] = ["check", "licenses", "bans", "sources"];

pub(crate) fn run(args: &Args) -> Result<()> {
    install::rust_component("rustfmt", "checks the formatting")?;
    install::rust_component("clippy", "finds mistakes")?;
    install::bpf_tools()?;
    install::cargo_tool(install::CARGO_DENY)?;
    if args.fix {
        for (_, mut command) in formatting(&[]) {
            shell::run(&mut command)?;
        }
        shell::run(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
        ]))?;
    }

    let mut failed = Vec::new();
    let mut timings = Vec::new();
    for (name, mut command) in steps() {
        say(bold(&name));
        let start = Instant::now();
        if let Err(error) = shell::run(&mut command) {
            say(red(&format!("{error:#}")));
            failed.push(name.clone());
        }
        timings.push((name, start.elapsed()));
    }

    say(bold("summary"));
    for (name, took) in &timings {
        let verdict = if failed.contains(name) {
            red("failed")
        } else {
            green("ok")
        };
        say(format_args!(
            "{:>6.1} s  {name}: {verdict}",
            took.as_secs_f64()
        ));
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} checks: {}",
            failed.len(),
            timings.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

/// The manifest of the main workspace.
const MAIN: &str = "Cargo.toml";

/// What is checked, cheapest first.
fn steps() -> Vec<(String, Command)> {
    let mut steps = formatting(&["--check"]);
    for (name, manifest) in manifests() {
        let mut deny = cargo();
        deny.args(["deny", "--manifest-path", manifest])
            .args(["--config", "deny.toml", "--log-level", "error"])
            .args(DENY);
        steps.push((format!("dependencies of {name}"), deny));
    }

    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    steps.push(("clippy".to_owned(), clippy));

    let mut ebpf = cargo();
    ebpf.current_dir(root().join("hnp-ebpf"))
        .args([
            "clippy",
            "--locked",
            "--release",
            "--target",
            "bpfel-unknown-none",
        ])
        .args(["-Z", "build-std=core", "--", "-D", "warnings"])
        // As hnp-dataplane's build script does it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target().join("hnp-ebpf"));
    steps.push(("clippy of hnp-ebpf".to_owned(), ebpf));

    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
        "--quiet",
    ])
    .env("RUSTDOCFLAGS", "-D warnings");
    steps.push(("documentation".to_owned(), doc));
    steps
}

fn formatting(args: &[&str]) -> Vec<(String, Command)> {
    manifests()
        .into_iter()
        .map(|(name, manifest)| {
            let mut fmt = cargo();
            fmt.args(["fmt", "--manifest-path", manifest]);
            // `--all` means the members of a workspace, but of a lone crate also the crates it depends on by path.
            if manifest == MAIN {
                fmt.arg("--all");
            }
            fmt.args(args);
            (format!("formatting of {name}"), fmt)
        })
        .collect()
}

/// The workspaces of this checkout: crates for other targets and toolchains cannot be in the main one.
fn manifests() -> Vec<(&'static str, &'static str)> {
    let all = [
        ("the workspace", MAIN),
        ("hnp-ebpf", "hnp-ebpf/Cargo.toml"),
        ("fuzz", "fuzz/Cargo.toml"),
    ];
    all.into_iter()
        .filter(|(_, manifest)| root().join(manifest).exists())
        .collect()
}
