//! Packages from Debian's archive, of releases that this machine does not run.
//!
//! apt itself fetches them and verifies Debian's signatures, with settings and state of their own below `target`: what this
//! machine has configured, installed or cached is not touched. Of this machine's settings the address of the archive is
//! read, and apt keeps using what is set about proxies.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    install::{self, Debian},
    shell::{as_root, output, run, shown},
};

const KEYS: Debian = Debian {
    package: "debian-archive-keyring",
    brings: "/usr/share/keyrings/debian-archive-keyring.gpg",
    why: "verifies what comes from Debian's archive",
};

/// One release of Debian, as apt sees it.
pub(super) struct Release {
    /// Where apt's settings, lists and packages are.
    directory: PathBuf,
    settings: PathBuf,
}

impl Release {
    /// Fetches the lists of a release, such as `bookworm`, keeping everything in `directory`.
    ///
    /// # Errors
    /// When this machine has no apt or knows no archive of Debian's, or when apt fails; apt's own words are in the message.
    pub(super) fn open(name: &str, directory: PathBuf) -> Result<Self> {
        install::debian(&[KEYS])?;
        for wanted in ["lists/partial", "cache/archives/partial", "packages"] {
            let wanted = directory.join(wanted);
            fs::create_dir_all(&wanted)
                .with_context(|| format!("cannot make {}", wanted.display()))?;
        }
        let sources = directory.join("sources.list");
        let archive = archive()?;
        let line = format!(
            "deb [signed-by={} arch=amd64 target=Packages] {archive} {name} main\n",
            KEYS.brings
        );
        write(&sources, &line)?;
        let settings = directory.join("apt.conf");
        let here = directory.display();
        // No file is named for what is installed: nothing is.
        let text = format!(
            "Dir::State \"{here}\";\n\
             Dir::State::status \"/dev/null\";\n\
             Dir::Cache \"{here}/cache\";\n\
             Dir::Etc::sourcelist \"{}\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n",
            sources.display()
        );
        write(&settings, &text)?;
        let release = Self {
            directory,
            settings,
        };
        release.apt("apt-get", &["update", "-qq", "--error-on=any"])?;
        Ok(release)
    }

    /// The package that stands behind one without files of its own: `linux-image-amd64` depends on the kernel of the day.
    pub(super) fn behind(&self, package: &str) -> Result<String> {
        let text = self.apt("apt-cache", &["depends", "--important", package])?;
        text.lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no package: {}", text.trim()))
    }

    /// Fetches a package and unpacks its files into `into`, which appears complete or not at all.
    pub(super) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let packages = self.directory.join("packages");
        self.apt("apt-get", &["download", "-qq", package])?;
        let prefix = format!("{package}_");
        let file = fs::read_dir(&packages)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            })
            .with_context(|| format!("apt-get download brought no {prefix}…"))?;
        let unfinished = into.with_extension("part");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&file)
            .arg(&unfinished))?;
        fs::rename(&unfinished, into).with_context(|| format!("cannot make {}", into.display()))?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("APT_CONFIG", &self.settings)
            .env("LC_ALL", "C")
            .current_dir(self.directory.join("packages"));
        let line = shown(&command);
        let output = command
            .output()
            .with_context(|| format!("cannot start `{line}`"))?;
        if !output.status.success() {
            bail!(
                "`APT_CONFIG={} {line}` failed: {}",
                self.settings.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The address of Debian's archive: the one this machine installs from.
fn archive() -> Result<String> {
    if let Ok(address) = env::var("HNP_DEBIAN_ARCHIVE") {
        return Ok(address);
    }
    let configured = || {
        let targets = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(CREATED_BY) $(ORIGIN) $(LABEL) $(REPO_URI)",
        ]))?;
        archive_among(&targets)
    };
    if let Some(address) = configured() {
        return Ok(address);
    }
    // Whose the sources are is known once their lists are there.
    run(as_root("apt-get", "fetching apt's lists")?.args(["update", "-qq"]))?;
    configured().context(
        "apt installs from no archive of Debian's on this machine: \
         put the address of one into the environment variable HNP_DEBIAN_ARCHIVE",
    )
}

fn archive_among(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let address = line.strip_prefix("Packages Debian Debian ")?;
        Some(address.to_owned())
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_neither_security_nor_somebody_elses() {
        let targets = "Packages $(ORIGIN) $(LABEL) http://unknown.test/\n\
                       Packages Debian Debian-Security http://debian.test/debian-security/\n\
                       Packages Somebody Debian http://somebody.test/\n\
                       Translations Debian Debian http://debian.test/translations/\n\
                       Packages Debian Debian http://debian.test/debian/\n";
        assert_eq!(
            archive_among(targets).as_deref(),
            Some("http://debian.test/debian/")
        );
        assert_eq!(archive_among(""), None);
    }
}
