//! Python and Node packages, kept below `target` so that nothing of the user's is touched.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Debian, debian};
use crate::shell::{find_program, output, run, say, target};

/// A Python environment with these packages (`"requests==2.32.3"`: always pinned) beside those that earlier calls
/// put there. Returns its `bin` directory: `.join("python")` runs with them.
///
/// # Errors
/// When Python is missing and cannot be installed, or pip fails.
pub(crate) fn python_venv(packages: &[&str]) -> Result<PathBuf> {
    let dir = target().join("venv");
    let bin = dir.join("bin");
    install(&dir, "Python", packages, "==", |missing| {
        if !bin.join("python").exists() {
            run(Command::new(python()?)
                .args(["-m", "venv", "--clear"])
                .arg(&dir))?;
        }
        run(Command::new(bin.join("python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(missing))
    })?;
    Ok(bin)
}

/// A directory whose `node_modules` holds these packages (`"undici@6.21.0"`: always pinned) beside those of earlier
/// calls. Run `node` with scripts in it, or with `NODE_PATH` set to its `node_modules`.
///
/// # Errors
/// When Node or npm is missing and cannot be installed, or npm fails.
pub(crate) fn npm(packages: &[&str]) -> Result<PathBuf> {
    debian(&[
        Debian {
            package: "nodejs",
            brings: "node",
            why: "runs the Node client that the tests try",
        },
        Debian {
            package: "npm",
            brings: "npm",
            why: "fetches the Node client that the tests try",
        },
    ])?;
    let dir = target().join("node");
    install(&dir, "Node", packages, "@", |missing| {
        run(Command::new("npm")
            .current_dir(&dir)
            .args([
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--save-exact",
                "--prefix",
                ".",
            ])
            .args(missing))
    })?;
    Ok(dir)
}

/// A program that `go install` builds from `module` (`"path@version"`: always pinned), below `target/go/bin`.
///
/// # Errors
/// When Go is missing and cannot be installed, or the build fails.
pub(crate) fn go_tool(name: &str, module: &str, why: &'static str) -> Result<PathBuf> {
    let bin = target().join("go/bin");
    let program = bin.join(name);
    if program.exists() {
        return Ok(program);
    }
    debian(&[Debian {
        package: "golang-go",
        brings: "go",
        why,
    }])?;
    say(format_args!(
        "building {module} below {}: {why}",
        bin.display()
    ));
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    run(Command::new("go")
        .env("GOBIN", &bin)
        .current_dir(&bin)
        .args(["install", module]))?;
    Ok(program)
}

/// Installs those packages that the record in `dir` does not hold yet, and records them.
fn install(
    dir: &Path,
    language: &str,
    packages: &[&str],
    separator: &str,
    install: impl FnOnce(&[&str]) -> Result<()>,
) -> Result<()> {
    let record = dir.join("hnp-installed.txt");
    if missing(&record, packages).is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Two verbs may run at once; the second waits here and then finds nothing left to do.
    let lock = File::create(dir.with_extension("lock"))?;
    lock.lock()?;
    let missing = missing(&record, packages);
    if missing.is_empty() {
        return Ok(());
    }
    say(format_args!(
        "installing {language} packages below {}: {}",
        dir.display(),
        missing.join(", ")
    ));
    install(&missing)?;
    let name = |package: &str| {
        package
            .rsplit_once(separator)
            .map_or(package, |(name, _)| name)
            .to_owned()
    };
    let replaced: Vec<String> = missing.iter().copied().map(name).collect();
    // Read only now: creating the environment anew clears the directory, and the record with it.
    let mut lines: Vec<String> = read(&record)
        .into_iter()
        .filter(|line| !replaced.contains(&name(line)))
        .collect();
    lines.extend(missing.into_iter().map(str::to_owned));
    fs::write(&record, lines.join("\n"))
        .with_context(|| format!("cannot write {}", record.display()))
}

fn missing<'a>(record: &Path, packages: &[&'a str]) -> Vec<&'a str> {
    let there = read(record);
    packages
        .iter()
        .copied()
        .filter(|package| !there.iter().any(|line| line == package))
        .collect()
}

fn read(record: &Path) -> Vec<String> {
    // No record, nothing installed.
    let text = fs::read_to_string(record).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A Python that can make environments; Debian splits that part off.
fn python() -> Result<PathBuf> {
    let able = |python: &PathBuf| {
        output(Command::new(python).args(["-c", "import venv, ensurepip"])).is_some()
    };
    if let Some(python) = find_program("python3").filter(able) {
        return Ok(python);
    }
    debian(&[
        Debian {
            package: "python3",
            brings: "/usr/bin/python3",
            why: "runs the Python clients that the tests try",
        },
        Debian {
            package: "python3-venv",
            brings: "/usr/share/doc/python3-venv",
            why: "gives them an environment of their own",
        },
    ])?;
    Ok(PathBuf::from("/usr/bin/python3"))
}
