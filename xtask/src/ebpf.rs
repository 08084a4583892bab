//! `cargo xtask ebpf`: what the kernel makes of HNP's eBPF programs.

use anyhow::Result;

use crate::{
    install,
    shell::{as_root, cargo, run as run_command, target},
};

/// Installs what the eBPF programs are built with, builds them, loads each into this kernel and prints how many
/// instructions it has and how many the verifier walked through. Needs root, itself or by `sudo`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask ebpf")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    install::bpf_tools()?;
    // Of the whole workspace, so that cargo unifies features as every other verb does, and nothing is built twice.
    run_command(cargo().args(["build", "--quiet", "--workspace", "--example", "ebpf"]))?;
    let program = target().join("debug/examples/ebpf");
    run_command(as_root(&program, "loading eBPF programs")?.env("RUST_BACKTRACE", "0"))
}
