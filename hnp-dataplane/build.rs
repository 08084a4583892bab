//! Builds the eBPF programs, for `redirect::object` to embed.
//!
//! They need what not every machine has (`rust-src`, bpf-linker, their crates). Where something is missing, `hnp` builds all
//! the same: an empty object is embedded along with the reason, which is told when somebody wants to load it. An error *in*
//! the programs fails the build, as it should.
//!
//! `HNP_EBPF=stub` leaves the programs out, `HNP_EBPF=require` makes what is missing an error.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const LINKER: &str = "bpf-linker";
const INSTALL_LINKER: &str = "cargo install bpf-linker --version 0.10.0 --locked";
const TARGET: &str = "bpfel-unknown-none";

/// Why there is no object: what is missing here and how to get it, or what is wrong in the programs.
enum Fault {
    Missing(String),
    Broken(String),
}

fn main() {
    let manifest = PathBuf::from(cargo_env("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().unwrap_or(&manifest);
    let out = PathBuf::from(cargo_env("OUT_DIR"));
    for source in [
        "hnp-ebpf/Cargo.toml",
        "hnp-ebpf/Cargo.lock",
        "hnp-ebpf/src",
        "hnp-common/Cargo.toml",
        "hnp-common/src",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-env-changed=HNP_EBPF");
    println!("cargo::rerun-if-env-changed=DOCS_RS");

    let wanted = env::var("HNP_EBPF").unwrap_or_default();
    let built = match &*wanted {
        "" | "require" if env::var_os("DOCS_RS").is_none() => build(root, &out),
        "" | "require" => Err(Fault::Missing("DOCS_RS was set; unset it".into())),
        "stub" => Err(Fault::Missing("HNP_EBPF=stub was set; unset it".into())),
        other => fail(&format!(
            "HNP_EBPF={other}: must be `stub`, `require` or not set"
        )),
    };
    let (object, missing) = match built {
        Ok(object) => (object, String::new()),
        Err(Fault::Broken(why)) => fail(&why),
        Err(Fault::Missing(why)) if wanted == "require" => fail(&why),
        Err(Fault::Missing(why)) => {
            if wanted.is_empty() {
                let headline = why.lines().next().unwrap_or_default();
                println!("cargo::warning=hnp is built without its eBPF programs: {headline}");
                // Installing what is missing shows in one of these.
                println!("cargo::rerun-if-env-changed=PATH");
                for place in [cargo_bin(), components()].into_iter().flatten() {
                    println!("cargo::rerun-if-changed={}", place.display());
                }
            }
            (Vec::new(), why)
        }
    };
    write(&out.join("hnp-ebpf.o"), &object);
    write(&out.join("hnp-ebpf.missing"), missing.as_bytes());
}

fn build(root: &Path, out: &Path) -> Result<Vec<u8>, Fault> {
    let source = root.join("hnp-ebpf");
    if !source.join("Cargo.toml").exists() {
        return Err(Fault::Missing(format!(
            "their source is not in {}",
            source.display()
        )));
    }
    let sysroot = sysroot(root)?;
    if !sysroot
        .join("lib/rustlib/src/rust/library/Cargo.lock")
        .exists()
    {
        return Err(Fault::Missing(format!(
            "the toolchain in {} has no rust-src; install it with `cargo xtask ebpf` or `rustup component add rust-src`",
            sysroot.display()
        )));
    }
    if !in_path(LINKER) {
        return Err(Fault::Missing(format!(
            "{LINKER} is not in PATH; install it with `cargo xtask ebpf` or `{INSTALL_LINKER}`"
        )));
    }
    let target = shared_target(out);

    // Offline first: a machine without network builds what it has the crates for.
    let fetch = |offline: &[&str]| {
        run(cargo(&sysroot, &source, &target, "fetch")
            .arg("--quiet")
            .args(offline))
    };
    if fetch(&["--offline"]).is_err() {
        fetch(&[])
            .map_err(|why| Fault::Missing(format!("their crates cannot be fetched: {why}")))?;
    }
    run(cargo(&sysroot, &source, &target, "build").args(["--release", "--offline", "--quiet"]))
        .map_err(|why| {
            Fault::Broken(format!(
                "{why}\n(HNP_EBPF=stub builds hnp without the eBPF programs)"
            ))
        })?;
    let object = target.join(TARGET).join("release/hnp-ebpf");
    fs::read(&object).map_err(|error| Fault::Broken(format!("{}: {error}", object.display())))
}

/// A cargo of the pinned toolchain that knows nothing of the build that started it: neither its flags (a fuzzer's
/// sanitizer), nor its wrappers (clippy's), nor its toolchain.
fn cargo(sysroot: &Path, source: &Path, target: &Path, verb: &str) -> Command {
    let mut command = Command::new(sysroot.join("bin/cargo"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let about_the_user = [
            "HOME",
            "NET_",
            "HTTP_",
            "REGISTR",
            "SOURCE_",
            "MAKEFLAGS",
            "TERM_",
        ];
        let outer = match name.strip_prefix("CARGO_") {
            Some(rest) => !about_the_user.iter().any(|kept| rest.starts_with(kept)),
            None => {
                name.starts_with("RUSTC")
                    || name.starts_with("RUSTFLAGS")
                    || name.starts_with("DEP_")
            }
        };
        if outer {
            command.env_remove(&*name);
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        [sysroot.join("bin")]
            .into_iter()
            .chain(env::split_paths(&path)),
    )
    .unwrap_or(path);
    let arch = cargo_env("CARGO_CFG_TARGET_ARCH");
    command
        .current_dir(source)
        .args([verb, "--locked", "--target", TARGET, "-Z", "build-std=core"])
        .env("PATH", path)
        .env("RUSTC", sysroot.join("bin/rustc"))
        // The BPF target is of tier 3, so that even the stable compiler has to build `core` for it.
        .env("RUSTC_BOOTSTRAP", "1")
        // bpf-linker uses the LLVM inside rustc, and has to find this rustc's.
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .env("CARGO_TARGET_DIR", target)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f--cfg=bpf_target_arch=\"{arch}\""),
        );
    command
}

/// Where the pinned toolchain is: mostly the one that runs this; under another one (nightly, for fuzzing), rustup knows.
fn sysroot(root: &Path) -> Result<PathBuf, Fault> {
    let file = root.join("rust-toolchain.toml");
    let text = fs::read_to_string(&file)
        .map_err(|error| Fault::Missing(format!("{}: {error}", file.display())))?;
    let channel = text
        .lines()
        .find_map(|line| line.strip_prefix("channel")?.split('"').nth(1))
        .ok_or_else(|| Fault::Missing(format!("{} names no channel", file.display())))?;
    let rustc = cargo_env("RUSTC");
    let version = run(Command::new(&rustc).arg("-vV")).map_err(Fault::Missing)?;
    let mut ask = if version
        .lines()
        .any(|line| line == format!("release: {channel}"))
    {
        Command::new(&rustc)
    } else {
        let mut rustup = Command::new("rustup");
        rustup
            .args(["run", channel, "rustc"])
            .env("RUSTUP_AUTO_INSTALL", "0");
        rustup
    };
    let sysroot = run(ask.args(["--print", "sysroot"])).map_err(|why| {
        Fault::Missing(format!(
            "they need Rust {channel}, which is not here: {why}"
        ))
    })?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// One build of the programs for all profiles, and for clippy and rustdoc, which have a build script's output each.
fn shared_target(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
        .join("hnp-ebpf")
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Where `cargo install` puts bpf-linker.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin")).filter(|dir| dir.exists())
}

/// Where rustup keeps the list of a toolchain's components.
fn components() -> Option<PathBuf> {
    let sysroot = run(Command::new(cargo_env("RUSTC")).args(["--print", "sysroot"])).ok()?;
    let list = Path::new(sysroot.trim()).join("lib/rustlib/components");
    Some(list).filter(|file| file.exists())
}

/// Runs a command; its standard output, or what it complained about.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program}: {}: {}", output.status, errors.trim()))
    }
}

fn write(file: &Path, content: &[u8]) {
    if let Err(error) = fs::write(file, content) {
        fail(&format!("cannot write {}: {error}", file.display()));
    }
}

fn cargo_env(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo sets {name}, but it is not there")))
}

fn fail(why: &str) -> ! {
    // One line is shown as the error; the rest below it, as it came.
    println!(
        "cargo::error=the eBPF programs: {}",
        why.lines().next().unwrap_or_default()
    );
    eprintln!("{why}");
    exit(1)
}
