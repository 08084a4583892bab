//! Rust components and tools built with cargo.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, find_program, output, run, say};

/// A program that `cargo install` builds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CargoTool {
    /// The crate, and the program it brings.
    pub(crate) name: &'static str,
    /// The version installed where the tool is missing.
    pub(crate) version: &'static str,
    /// What it is wanted for.
    pub(crate) why: &'static str,
}

/// 0.10 is the last bpf-linker that uses the LLVM inside rustc: later ones want one from the system.
const BPF_LINKER: CargoTool = CargoTool {
    name: "bpf-linker",
    version: "0.10.0",
    why: "links the eBPF programs",
};

/// Checks licences, bans and sources of the dependencies.
pub(crate) const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    why: "checks the dependencies' licences and sources",
};

/// Builds and runs the fuzz targets.
pub(crate) const CARGO_FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    why: "builds and runs the fuzz targets",
};

/// All that building the eBPF programs needs: `rust-src` and bpf-linker. Without them `hnp` builds too, but with a
/// stub in their place.
///
/// # Errors
/// When one of them is missing and cannot be installed.
pub(crate) fn bpf_tools() -> Result<()> {
    rust_component(
        "rust-src",
        "the eBPF programs are built with a `core` of their own",
    )?;
    cargo_tool(BPF_LINKER)
}

/// A component of the pinned toolchain: `rust-src`, `clippy`, `rustfmt`.
///
/// # Errors
/// When it is missing and rustup is, too, or fails.
pub(crate) fn rust_component(name: &str, why: &str) -> Result<()> {
    let sysroot = sysroot().context("cannot find the Rust toolchain that runs this")?;
    let brings = match name {
        "rust-src" => "lib/rustlib/src/rust/library/Cargo.lock",
        "clippy" => "bin/cargo-clippy",
        "rustfmt" => "bin/cargo-fmt",
        _ => bail!("no file is known to show that the component {name} is there"),
    };
    if sysroot.join(brings).exists() {
        return Ok(());
    }
    say(format_args!("installing the Rust component {name} ({why})"));
    run(Command::new("rustup")
        .current_dir(crate::shell::root())
        .args(["component", "add", name]))
    .with_context(|| {
        format!(
            "{name} is missing from the toolchain in {}",
            sysroot.display()
        )
    })
}

/// A tool of cargo's; any version from the wanted one on will do.
///
/// # Errors
/// When it is missing or too old and cannot be built.
pub(crate) fn cargo_tool(tool: CargoTool) -> Result<()> {
    let CargoTool { name, version, why } = tool;
    let found = installed_version(name);
    if found.is_some_and(|found| Some(found) >= parse_version(version)) {
        return Ok(());
    }
    say(format_args!(
        "installing {name} {version} ({why}); this compiles for a few minutes"
    ));
    run(cargo()
        .args(["install", name, "--version", version, "--locked", "--quiet"])
        // A tool that runs for seconds is not worth minutes of link-time optimization.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0"))?;
    if find_program(name).is_none() {
        bail!(
            "{name} is installed, but not in PATH: add cargo's bin directory (~/.cargo/bin) to PATH"
        );
    }
    Ok(())
}

/// The nightly toolchain, which only fuzzing needs.
///
/// # Errors
/// When it is missing and rustup is, too, or fails.
pub(crate) fn nightly() -> Result<()> {
    let toolchains = rustup_home().join("toolchains");
    let there = toolchains.read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("nightly-"))
        })
    });
    if there {
        return Ok(());
    }
    say("installing the nightly toolchain (fuzzing needs sanitizer flags that only nightly has)");
    run(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))
}

/// The version of an installed tool, as `--version` tells it.
fn installed_version(name: &str) -> Option<(u32, u32, u32)> {
    let program = find_program(name)?;
    let mut command = Command::new(program);
    // A cargo subcommand is started with its own name first.
    if let Some(verb) = name.strip_prefix("cargo-") {
        command.arg(verb);
    }
    output(command.arg("--version"))?
        .split_whitespace()
        .find_map(parse_version)
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// The toolchain's directory. Cargo tells its own path to what it runs, which saves starting rustc.
fn sysroot() -> Option<PathBuf> {
    let from_cargo = env::var_os("CARGO")
        .and_then(|cargo| Some(Path::new(&cargo).parent()?.parent()?.to_owned()))
        .filter(|dir| dir.join("bin/rustc").exists() && dir.join("lib/rustlib").exists());
    from_cargo.or_else(|| {
        let mut rustc = Command::new("rustc");
        rustc
            .current_dir(crate::shell::root())
            .args(["--print", "sysroot"]);
        output(&mut rustc).map(|path| PathBuf::from(path.trim()))
    })
}

fn rustup_home() -> PathBuf {
    match env::var_os("RUSTUP_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".rustup"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse_version("0.10.0"), Some((0, 10, 0)));
        assert!(parse_version("0.10.0") > parse_version("0.9.15"));
        assert_eq!(parse_version("bpf-linker"), None);
    }
}
