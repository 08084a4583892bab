//! What every verb needs: where things are, how to talk, how to run a program.

use std::{
    env,
    ffi::OsStr,
    fmt,
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    // xtask is only ever run from the checkout that built it.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Cargo's target directory: all that xtask makes or fetches for itself goes below it.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// True where a skipped test has to count as a failure: on CI.
pub(crate) fn no_skip() -> bool {
    let on = |name| env::var(name).is_ok_and(|value| !matches!(&*value, "" | "0" | "false"));
    on("CI") || on("HNP_CI_NO_SKIP")
}

/// A `cargo` of the pinned toolchain, run at the root of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        // `cargo xtask` is itself `cargo run`: what that told xtask about xtask must not reach other builds,
        // where it would only make cargo see a changed environment and build again.
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command, its output going where xtask's goes.
///
/// # Errors
/// When it cannot be started or does not succeed; the message holds the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// A command run as root: by `sudo` when xtask is not.
///
/// # Errors
/// When neither is possible; `purpose` says what for.
pub(crate) fn as_root(program: impl AsRef<OsStr>, purpose: &str) -> Result<Command> {
    if output(Command::new("id").arg("-u")).is_some_and(|uid| uid.trim() == "0") {
        return Ok(Command::new(program));
    }
    if output(Command::new("sudo").args(["-n", "true"])).is_none() {
        bail!("{purpose} needs root: run as root, or allow `sudo` without a password");
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    Ok(command)
}

/// What a command prints on its standard output, or nothing when it is not there or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut line = String::new();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let word = word.to_string_lossy();
        if !line.is_empty() {
            line.push(' ');
        }
        if word.is_empty() || word.contains(char::is_whitespace) {
            line.push_str(&format!("'{word}'"));
        } else {
            line.push_str(&word);
        }
    }
    line
}

/// The first program of this name in `PATH`, or where Debian puts daemons, which only root has in its `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(daemons)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Says what xtask does, on the standard error.
pub(crate) fn say(message: impl fmt::Display) {
    let mut err = io::stderr().lock();
    // Where nobody can read, nothing is lost.
    let _ = writeln!(err, "{} {message}", bold("xtask:"));
}

/// Bold, on a terminal.
pub(crate) fn bold(text: &str) -> String {
    paint(text, "1")
}

/// Green, on a terminal.
pub(crate) fn green(text: &str) -> String {
    paint(text, "32")
}

/// Red, on a terminal.
pub(crate) fn red(text: &str) -> String {
    paint(text, "31")
}

fn paint(text: &str, colour: &str) -> String {
    static COLOUR: OnceLock<bool> = OnceLock::new();
    let wanted = COLOUR.get_or_init(|| {
        io::stderr().is_terminal()
            && io::stdout().is_terminal()
            && env::var_os("NO_COLOR").is_none()
    });
    if *wanted {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
