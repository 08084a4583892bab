//! Builds everything that is tested, and finds the test programs.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::program::Program;
use crate::shell::{cargo, shown};

/// What the build brought.
pub(crate) struct Built {
    /// The test programs, in cargo's order by crate and suite.
    pub(crate) programs: Vec<Program>,
    /// The `hnp` that the suites start.
    pub(crate) node: PathBuf,
}

impl Built {
    /// The names that `--suite` takes.
    pub(super) fn suites(&self) -> String {
        let names: Vec<_> = self
            .programs
            .iter()
            .map(|program| program.suite.as_str())
            .collect();
        names.join(", ")
    }
}

/// Builds the workspace's tests, and the binaries that they start.
///
/// # Errors
/// When something does not compile; rustc has said what.
pub(super) fn everything() -> Result<Built> {
    // Neither benchmarks nor examples: they hold no tests.
    let made = build("test", &["--no-run", "--lib", "--bins", "--tests"])?;
    Ok(Built {
        node: node_among(&made)?,
        programs: programs_among(&made)?,
    })
}

/// Builds those tests of the workspace that these arguments of `cargo test` choose, and `hnp`.
///
/// # Errors
/// When something does not compile; rustc has said what.
pub(crate) fn only(tests: &[&str]) -> Result<Built> {
    // For a test of its own crate, cargo builds `hnp` unasked, and as `everything` does: `cargo build` would build most libraries again,
    // with other features.
    let arguments = [&["--no-run", "--test", "config_command"], tests].concat();
    let made = build("test", &arguments)?;
    Ok(Built {
        node: node_among(&made)?,
        programs: programs_among(&made)?,
    })
}

/// What cargo says of each executable that it built.
fn build(verb: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = cargo();
    command
        .args([verb, "--workspace", "--locked"])
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let line = shown(&command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = child
        .stdout
        .take()
        .context("cargo's output was asked for")?;
    let mut executables = Vec::new();
    for message in BufReader::new(stdout).lines() {
        let message: Value =
            serde_json::from_str(&message?).context("cargo's messages are JSON")?;
        if message["executable"].is_string() {
            executables.push(message);
        }
    }
    if !child.wait()?.success() {
        bail!("the tests do not build (`{line}`)");
    }
    Ok(executables)
}

/// The `hnp` that is not itself a test program.
fn node_among(messages: &[Value]) -> Result<PathBuf> {
    messages
        .iter()
        .find(|message| {
            let target = &message["target"];
            message["profile"]["test"] != true
                && target["kind"][0] == "bin"
                && target["name"] == "hnp"
        })
        .and_then(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("the build brought no binary `hnp`")
}

fn programs_among(messages: &[Value]) -> Result<Vec<Program>> {
    let mut programs = messages
        .iter()
        .filter(|message| message["profile"]["test"] == true)
        .map(program)
        .collect::<Result<Vec<_>>>()?;
    programs.sort_by(|one, other| {
        (&one.package, &one.suite, &one.executable).cmp(&(
            &other.package,
            &other.suite,
            &other.executable,
        ))
    });
    Ok(programs)
}

fn program(message: &Value) -> Result<Program> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = Path::new(
        message["manifest_path"]
            .as_str()
            .context("cargo names the manifest")?,
    );
    let directory = manifest
        .parent()
        .context("a manifest is in a directory")?
        .to_owned();
    let package = package(
        message["package_id"].as_str().unwrap_or_default(),
        &directory,
    );
    // Unit tests go by their crate, suites by their file.
    let suite = match message["target"]["kind"][0].as_str() {
        Some("test") => text(&message["target"]["name"]),
        _ => package.clone(),
    };
    Ok(Program {
        package,
        suite,
        executable: text(&message["executable"]).into(),
        directory,
    })
}

/// `path+file:///checkout/tests#hnp-tests@0.1.0`; without the name where the directory has the same.
fn package(id: &str, directory: &Path) -> String {
    match id
        .rsplit_once('#')
        .and_then(|(_, spec)| spec.split_once('@'))
    {
        Some((name, _)) => name.to_owned(),
        None => directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_known_by_its_id() {
        let named = package(
            "path+file:///src/hnp/tests#hnp-tests@0.1.0",
            Path::new("/src/hnp/tests"),
        );
        assert_eq!(named, "hnp-tests");
        let by_directory = package(
            "path+file:///src/hnp/xtask#0.1.0",
            Path::new("/src/hnp/xtask"),
        );
        assert_eq!(by_directory, "xtask");
    }
}
