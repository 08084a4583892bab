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
    /// The `hnp` that the suites start, where they do.
    pub(crate) node: Option<PathBuf>,
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
    let built = only(&["--lib", "--bins", "--tests"])?;
    if built.node.is_none() {
        bail!("the build brought no binary `hnp`");
    }
    Ok(built)
}

/// Builds those tests of the workspace that these arguments of `cargo test` choose.
///
/// # Errors
/// When something does not compile; rustc has said what.
pub(crate) fn only(targets: &[&str]) -> Result<Built> {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-run", "--locked"])
        .args(targets)
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

    let mut programs = Vec::new();
    let mut node = None;
    for message in BufReader::new(stdout).lines() {
        let message: Value =
            serde_json::from_str(&message?).context("cargo's messages are JSON")?;
        let Some(executable) = message["executable"].as_str() else {
            continue;
        };
        let target = &message["target"];
        let name = target["name"].as_str().unwrap_or_default();
        if message["profile"]["test"] == true {
            programs.push(program(&message, name, executable)?);
        } else if target["kind"][0] == "bin" && name == "hnp" {
            node = Some(PathBuf::from(executable));
        }
    }
    if !child.wait()?.success() {
        bail!("the tests do not build (`{line}`)");
    }
    programs.sort_by(|one, other| {
        (&one.package, &one.suite, &one.executable).cmp(&(
            &other.package,
            &other.suite,
            &other.executable,
        ))
    });
    Ok(Built { programs, node })
}

fn program(message: &Value, name: &str, executable: &str) -> Result<Program> {
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
        Some("test") => name.to_owned(),
        _ => package.clone(),
    };
    Ok(Program {
        package,
        suite,
        executable: executable.into(),
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
