//! Where maps and links are pinned, so that they outlive this process.
//!
//! ```text
//! DIRECTORY/v1/maps/RULES …                     v1: the ABI
//! DIRECTORY/v1/pods/<cgroup's number>/hnp_connect4 …
//! ```
//!
//! Maps and programs are never used across versions. That there is a directory for each, with a directory for each pod in it, is
//! what holds for all: by it, an HNP of one version replaces what one of another has left (`versions`).

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use hnp_common::ABI;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};

use super::{RedirectError, cgroup::visit, cgroup2_mount};

mod versions;

/// A directory in a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    directory: PathBuf,
    abi: u32,
}

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
pub(crate) const BPF_FS: FsType = FsType(0xcafe_4a11);

impl Pins {
    /// Uses `directory`, which is made if it is not there. It must lie in a BPF file system.
    ///
    /// # Errors
    /// When it cannot be made, or is on another file system.
    pub fn open(directory: &Path) -> Result<Self, RedirectError> {
        Self::open_version(directory, ABI)
    }

    /// As an HNP whose maps are of that version would.
    ///
    /// # Errors
    /// As [`Pins::open`].
    pub fn open_version(directory: &Path, abi: u32) -> Result<Self, RedirectError> {
        let pins = Self {
            directory: directory.to_owned(),
            abi,
        };
        for made in ["maps", "pods"] {
            make(&pins.root().join(made))?;
        }
        let kind = statfs(&pins.root()).map(|status| status.filesystem_type());
        if kind != Ok(BPF_FS) {
            return Err(RedirectError::NoBpffs {
                path: directory.to_owned(),
            });
        }
        Ok(pins)
    }

    /// Mounts a BPF file system on `directory`, unless one is there.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(directory: &Path) -> Result<(), RedirectError> {
        make(directory)?;
        if statfs(directory).map(|status| status.filesystem_type()) == Ok(BPF_FS) {
            return Ok(());
        }
        let nothing: Option<&str> = None;
        mount(
            Some("bpf"),
            directory,
            Some("bpf"),
            MsFlags::empty(),
            nothing,
        )
        .map_err(|error| RedirectError::Path {
            doing: "mount a BPF file system on",
            path: directory.to_owned(),
            error: error.into(),
        })
    }

    /// The numbers of the cgroups that have links here.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn cgroups(&self) -> Result<Vec<u64>, RedirectError> {
        let pods = self.root().join("pods");
        let names = fs::read_dir(&pods)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| fault("read", &pods, error))?;
        Ok(names
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// Removes everything: detaches what is attached by these pins alone, and forgets the maps.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<(), RedirectError> {
        for cgroup in self.cgroups()? {
            self.remove_pod(cgroup)?;
        }
        let maps = self.root().join("maps");
        // Whatever they are called.
        for map in fs::read_dir(&maps).into_iter().flatten().flatten() {
            gone(&map.path(), fs::remove_file)?;
        }
        for directory in ["maps", "pods", ""] {
            gone(&self.root().join(directory), fs::remove_dir)?;
        }
        Ok(())
    }

    /// Removes the links of cgroups that are no more. The kernel has severed them.
    pub(super) fn sweep(&self) -> Result<usize, RedirectError> {
        let mut dead: HashSet<u64> = self.cgroups()?.into_iter().collect();
        if dead.is_empty() {
            return Ok(0);
        }
        visit(&cgroup2_mount()?, &mut |number, _| {
            dead.remove(&number);
        });
        for cgroup in &dead {
            self.remove_pod(*cgroup)?;
        }
        Ok(dead.len())
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root().join("maps").join(name)
    }

    pub(super) fn forget_map(&self, name: &str) -> Result<(), RedirectError> {
        gone(&self.map(name), fs::remove_file)
    }

    pub(super) fn link(&self, cgroup: u64, hook: &str) -> PathBuf {
        self.pod(cgroup).join(hook)
    }

    pub(super) fn make_pod(&self, cgroup: u64) -> Result<(), RedirectError> {
        make(&self.pod(cgroup))
    }

    /// Removes whatever is pinned for a cgroup: another build may have had other hooks.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove_pod(&self, cgroup: u64) -> Result<(), RedirectError> {
        self.retain(cgroup, |_| false)?;
        gone(&self.pod(cgroup), fs::remove_dir)
    }

    /// Removes what is pinned for a cgroup, but for links with such names.
    pub(super) fn retain(
        &self,
        cgroup: u64,
        keep: impl Fn(&str) -> bool,
    ) -> Result<(), RedirectError> {
        let Ok(pins) = fs::read_dir(self.pod(cgroup)) else {
            return Ok(());
        };
        let strange = pins
            .flatten()
            .filter(|pin| !pin.file_name().to_str().is_some_and(&keep));
        for pin in strange {
            gone(&pin.path(), fs::remove_file)?;
        }
        Ok(())
    }

    fn pod(&self, cgroup: u64) -> PathBuf {
        self.root().join("pods").join(cgroup.to_string())
    }

    fn root(&self) -> PathBuf {
        self.directory.join(format!("v{}", self.abi))
    }
}

fn make(directory: &Path) -> Result<(), RedirectError> {
    fs::create_dir_all(directory).map_err(|error| fault("make", directory, error))
}

fn gone(path: &Path, remove: fn(PathBuf) -> io::Result<()>) -> Result<(), RedirectError> {
    match remove(path.to_owned()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault("remove", path, error)),
        _ => Ok(()),
    }
}

fn fault(doing: &'static str, path: &Path, error: io::Error) -> RedirectError {
    RedirectError::Path {
        doing,
        path: path.to_owned(),
        error,
    }
}
