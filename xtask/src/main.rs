//! The project's jobs, one file a verb. `cargo xtask --help` lists them.

mod bench;
mod check;
mod ebpf;
mod fuzz;
mod install;
mod run;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's jobs. Each installs what it needs and this machine lacks, and says so.
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds HNP, loads it beside a local upstream, and ends with a table of figures; `--serve` leaves it running.
    Run(run::Args),
    /// Runs all tests, those of the node under test once for each backend.
    Test(test::Args),
    /// Runs tests on the kernels that Debian ships, in QEMU.
    Vm(vm::Args),
    /// Formatting, clippy, documentation, and the dependencies' licences and sources.
    Check(check::Args),
    /// Builds the eBPF programs, loads each and shows what the kernel's verifier made of it.
    Ebpf(ebpf::Args),
    /// Compares HNP with its peers.
    Bench(bench::Args),
    /// Fuzzes each target for a while.
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args).map(success),
        Verb::Bench(args) => bench::run(&args).map(success),
        Verb::Test(args) => test::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Check(args) => check::run(&args).map(success),
        Verb::Ebpf(args) => ebpf::run(&args).map(success),
        Verb::Fuzz(args) => fuzz::run(&args).map(success),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes; a backtrace of xtask helps nobody.
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            shell::say(format_args!(
                "{} {}",
                shell::red("failed:"),
                causes.join(": ")
            ));
            ExitCode::FAILURE
        }
    }
}

fn success(_: ()) -> ExitCode {
    ExitCode::SUCCESS
}
