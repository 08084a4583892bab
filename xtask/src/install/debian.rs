//! Packages of the distribution.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::shell::{as_root, find_program, run, say};

/// A Debian package, known to be there by a file that it brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debian {
    /// The package's name.
    pub(crate) package: &'static str,
    /// A program it brings, looked for in `PATH`; or, when it starts with `/`, any file.
    pub(crate) brings: &'static str,
    /// What it is wanted for, as a sentence part: "a peer of the benchmark".
    pub(crate) why: &'static str,
}

impl Debian {
    fn is_there(&self) -> bool {
        if self.brings.starts_with('/') {
            Path::new(self.brings).exists()
        } else {
            find_program(self.brings).is_some()
        }
    }
}

/// Installs those packages that are missing, with no service started by it, now or at the next boot.
///
/// # Errors
/// On a system without `apt-get`, without root or `sudo -n`, or when apt fails; the message holds the command to type.
pub(crate) fn debian(wanted: &[Debian]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|package| !package.is_there())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.package).collect();
    for package in &missing {
        say(format_args!(
            "installing Debian package {} ({})",
            package.package, package.why
        ));
    }
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if find_program("apt-get").is_none() {
        bail!(
            "{} missing, and no apt-get here: install what `{by_hand}` would",
            names.join(", ")
        );
    }
    run(as_root("sh", "installing Debian packages")?
        .args(["-c", SCRIPT, "install"])
        .args(&names))
    .with_context(|| format!("try `{by_hand}` by hand"))?;
    match missing.iter().find(|package| !package.is_there()) {
        Some(package) => bail!(
            "{} is installed, but brought no {}",
            package.package,
            package.brings
        ),
        None => Ok(()),
    }
}

/// `policy-rc.d` answering 101 is Debian's way to say "install, but start nothing"; services that a package enables
/// are disabled again, so that a reboot does not start them either. What was there before is left alone.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
install() { apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null; }
# A fresh machine has no package lists yet, and old lists name packages that are gone.
install "$@" 2>/dev/null || { apt-get update -qq; install "$@"; }
if command -v systemctl >/dev/null; then
    for package in "$@"; do
        if [ -e "/lib/systemd/system/$package.service" ]; then
            systemctl --quiet disable "$package.service" || true
        fi
    done
fi
"#;
