//! Programs attached to a pod's cgroup.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};

use super::{Pins, RedirectError, bpf, programs::HOOKS};

/// Programs attached to a cgroup. Dropping this detaches them, unless they are pinned: then they go on until
/// [`Programs::detach`](super::Programs::detach).
#[derive(Debug)]
#[must_use = "what is not pinned is detached when this is dropped"]
pub struct Attached {
    pub(super) path: PathBuf,
    pub(super) directory: File,
    /// The cgroup's number, which is its directory's inode.
    pub(super) cgroup: u64,
    pub(super) pod: u32,
    links: BTreeMap<&'static str, Link>,
    pub(super) version: String,
    pub(super) replaced: Replaced,
}

/// Holds a descriptor; the kernel detaches when the last one is closed and no pin is left.
#[derive(Debug)]
pub(super) struct Link {
    link: FdLink,
    pin: Option<PathBuf>,
    /// Another is to take its place: the program behind it cannot be replaced.
    pub(super) worn: bool,
}

/// What became of the programs of another build, when what was pinned for a pod was taken over.
#[derive(Debug, Default)]
pub struct Replaced {
    /// How many were replaced by this build's.
    pub programs: usize,
    /// The builds of HNP that they were of, of those that say so.
    pub versions: BTreeSet<String>,
    /// Why others were not: they go on working.
    pub failed: Vec<RedirectError>,
}

impl Link {
    /// The number of the program behind it.
    pub(super) fn program(&self) -> Result<u32, RedirectError> {
        self.link
            .info()
            .map(|info| info.program_id())
            .map_err(|error| RedirectError::of_link("ask about a link", &error))
    }

    pub(super) fn pin(&self) -> Option<&Path> {
        self.pin.as_deref()
    }
}

impl Attached {
    /// The cgroup, with the links that are pinned for it.
    pub(super) fn open(
        path: &Path,
        pod: u32,
        version: &str,
        pins: Option<&Pins>,
    ) -> Result<Self, RedirectError> {
        let fault = |error| RedirectError::Path {
            doing: "open the cgroup",
            path: path.to_owned(),
            error,
        };
        let directory = File::open(path).map_err(fault)?;
        let cgroup = directory.metadata().map_err(fault)?.ino();
        let mut links = BTreeMap::new();
        for hook in &HOOKS {
            let Some(pin) = pins.map(|pins| pins.link(cgroup, hook.name)) else {
                break;
            };
            if pin.exists() {
                let link = PinnedLink::from_pin(&pin).map_err(|error| {
                    RedirectError::of_link(&format!("take over {}", pin.display()), &error)
                })?;
                let link = Link {
                    link: link.into(),
                    pin: Some(pin),
                    worn: false,
                };
                links.insert(hook.name, link);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
            cgroup,
            pod,
            links,
            version: version.to_owned(),
            replaced: Replaced::default(),
        })
    }

    /// The cgroup's directory.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.path
    }

    /// The cgroup's number.
    #[must_use]
    pub fn cgroup_number(&self) -> u64 {
        self.cgroup
    }

    /// Whether the cgroup is still there: a directory that was removed has no links left.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.directory
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() > 0)
            && fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.cgroup)
    }

    /// The pod's number.
    #[must_use]
    pub fn pod(&self) -> u32 {
        self.pod
    }

    /// What became of another build's programs.
    #[must_use]
    pub fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// Which build of HNP the programs are of that are attached.
    #[must_use]
    pub fn version(&self) -> String {
        let own = &self.version;
        if self.replaced.failed.is_empty() {
            return own.clone();
        }
        let others: Vec<&str> = self.replaced.versions.iter().map(String::as_str).collect();
        let others = match &*others {
            [] => "an unknown one".to_owned(),
            some => some.join(", "),
        };
        format!("{own}, in part {others}")
    }

    pub(super) fn link(&self, hook: &str) -> Option<&Link> {
        self.links.get(hook)
    }

    pub(super) fn wear(&mut self, hook: &str) {
        if let Some(link) = self.links.get_mut(hook) {
            link.worn = true;
        }
    }

    pub(super) fn has(&self, hook: &str) -> bool {
        self.links.contains_key(hook)
    }

    /// Pins a link, in the place of the one that is pinned there if there is one.
    pub(super) fn add(
        &mut self,
        hook: &'static str,
        link: FdLink,
        pins: Option<&Pins>,
    ) -> Result<(), RedirectError> {
        let Some(pins) = pins else {
            self.enter(hook, link, None);
            return Ok(());
        };
        pins.make_pod(self.cgroup)?;
        let pin = pins.link(self.cgroup, hook);
        let replaces = self.links.contains_key(hook);
        // Under another name at first, for no moment without any. (Names in a BPF file system have no dots.)
        let first = match replaces {
            true => pins.link(self.cgroup, &format!("{hook}_new")),
            false => pin.clone(),
        };
        if replaces {
            let _ = fs::remove_file(&first);
        }
        let link = link
            .pin(&first)
            .map_err(|error| RedirectError::of_link(&format!("pin {}", first.display()), &error))?;
        if replaces {
            // At once: two attached for long would count everything twice.
            if let Ok(old) = bpf::pinned(&pin) {
                let _ = bpf::detach(old.as_fd());
            }
            fs::rename(&first, &pin).map_err(|error| RedirectError::Path {
                doing: "replace the pin",
                path: pin.clone(),
                error,
            })?;
        }
        self.enter(hook, link.into(), Some(pin));
        Ok(())
    }

    fn enter(&mut self, hook: &'static str, link: FdLink, pin: Option<PathBuf>) {
        let worn = false;
        self.links.insert(hook, Link { link, pin, worn });
    }

    /// Detaches, in the reverse order: what redirects goes first.
    pub(super) fn end(mut self, pins: Option<&Pins>) -> Result<(), RedirectError> {
        for hook in HOOKS.iter().rev() {
            if let Some(Link { pin: Some(pin), .. }) = self.links.remove(hook.name) {
                fs::remove_file(pin).map_err(|error| RedirectError::Path {
                    doing: "remove a pin for",
                    path: self.path.clone(),
                    error,
                })?;
            }
        }
        pins.map_or(Ok(()), |pins| pins.remove_pod(self.cgroup))
    }
}
