//! A kernel as Debian ships it, and its modules.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt::Release;
use crate::{
    install::{self, Debian},
    shell::say,
};

/// A kernel that a release of Debian ships.
#[derive(Clone, Copy)]
pub(super) struct Shipped {
    pub(super) version: &'static str,
    release: &'static str,
}

pub(super) const SHIPPED: [Shipped; 2] = [
    Shipped {
        version: "6.1",
        release: "bookworm",
    },
    Shipped {
        version: "6.12",
        release: "trixie",
    },
];

/// The flavour that is installed by default. The one for clouds is a third in size, but lacks 9P: what this machine has could
/// not be shared with it.
const PACKAGE: &str = "linux-image-amd64";

/// A kernel that is here.
pub(super) struct Kernel {
    /// As `uname -r` has it.
    pub(super) name: String,
    /// What a boot loader starts.
    pub(super) image: PathBuf,
    modules: Modules,
}

/// A module with what it needs before it.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

impl Shipped {
    /// The kernel, fetched into `directory` unless an earlier run has done so.
    pub(super) fn fetch(&self, directory: &Path) -> Result<Kernel> {
        let tree = directory.join(PACKAGE);
        if !tree.exists() {
            say(format_args!(
                "fetching Linux {} of Debian {} (the kernel that tests run on)",
                self.version, self.release
            ));
            let release = Release::open(self.release, directory.join("apt"))?;
            let package = release.behind(PACKAGE)?;
            if !package.starts_with(&format!("linux-image-{}.", self.version)) {
                bail!(
                    "Debian {} ships {package}, not Linux {} any more",
                    self.release,
                    self.version
                );
            }
            release.unpack(&package, &tree)?;
        }
        Kernel::found_in(&tree)
    }
}

impl Kernel {
    /// The kernel in a package's files.
    fn found_in(tree: &Path) -> Result<Self> {
        let boot = tree.join("boot");
        let name = fs::read_dir(&boot)
            .with_context(|| format!("cannot read {}", boot.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()))
            .with_context(|| format!("no kernel in {}", boot.display()))?;
        // Newer releases have everything below `usr`.
        let modules = ["usr/lib/modules", "lib/modules"]
            .map(|path| tree.join(path).join(&name))
            .into_iter()
            .find(|path| path.join("modules.builtin").exists())
            .with_context(|| format!("no modules in {}", tree.display()))?;
        Ok(Self {
            image: boot.join(format!("vmlinuz-{name}")),
            modules: Modules::found_in(&modules)?,
            name,
        })
    }

    /// These modules and those they need, in an order in which they can be loaded.
    pub(super) fn modules(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut loaded = Vec::new();
        for name in wanted {
            self.modules
                .add(name, &mut loaded)
                .with_context(|| format!("module {name} of Linux {}", self.name))?;
        }
        Ok(loaded)
    }
}

struct Modules {
    /// Files by module name, in which `-` and `_` are the same.
    files: BTreeMap<String, PathBuf>,
    built_in: Vec<String>,
}

impl Modules {
    fn found_in(directory: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(next) = directories.pop() {
            for entry in fs::read_dir(&next)? {
                let path = entry?.path();
                if path.is_dir() && !path.is_symlink() {
                    directories.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let list = fs::read_to_string(directory.join("modules.builtin"))?;
        let built_in = list
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, built_in })
    }

    fn add(&self, name: &str, loaded: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) || loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let file = self
            .files
            .get(&name)
            .with_context(|| format!("there is no {name}"))?;
        let data = read(file)?;
        for dependency in dependencies(&data) {
            self.add(&dependency, loaded)?;
        }
        loaded.push(Module { name, data });
        Ok(())
    }
}

/// `kernel/net/tls/tls.ko.xz` holds `tls`.
fn module_name(path: &Path) -> Option<String> {
    let (name, compression) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(compression, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

/// The module as the kernel loads it.
fn read(file: &Path) -> Result<Vec<u8>> {
    const XZ: Debian = Debian {
        package: "xz-utils",
        brings: "xz",
        why: "unpacks kernel modules",
    };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => {
            install::debian(&[XZ])?;
            let output = Command::new("xz")
                .args(["--decompress", "--stdout"])
                .arg(file)
                .output()
                .context("cannot start xz")?;
            if !output.status.success() {
                bail!("xz: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} is compressed in a way not known here", file.display()),
    }
}

/// The modules that one says it needs: its `.modinfo` section is text like `depends=ccm,gcm`, each ended by a zero.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = &module[start + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(0)])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=cryptd,crypto-simd\0name=aesni_intel\0";
        assert_eq!(dependencies(module), ["cryptd", "crypto-simd"]);
        assert!(dependencies(b"\0depends=\0name=gcm\0").is_empty());
        assert!(dependencies(b"no module").is_empty());
    }

    #[test]
    fn modules_are_known_by_their_files() {
        let name = |path| module_name(Path::new(path));
        assert_eq!(
            name("kernel/arch/x86/crypto/aesni-intel.ko").as_deref(),
            Some("aesni_intel")
        );
        assert_eq!(name("kernel/net/tls/tls.ko.xz").as_deref(), Some("tls"));
        assert_eq!(name("modules.dep"), None);
    }
}
