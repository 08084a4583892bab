//! Programs attached to a pod's cgroup.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};

use super::{Pins, RedirectError, programs::HOOKS};

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
}

/// Each holds a descriptor; the kernel detaches when the last one is closed and no pin is left.
#[derive(Debug)]
enum Link {
    Pinned(PinnedLink),
    Process { _link: FdLink },
}

impl Attached {
    /// The cgroup, with the links that are pinned for it.
    pub(super) fn open(path: &Path, pod: u32, pins: Option<&Pins>) -> Result<Self, RedirectError> {
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
                links.insert(hook.name, Link::Pinned(link));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
            cgroup,
            pod,
            links,
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
            && std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.cgroup)
    }

    /// The pod's number.
    #[must_use]
    pub fn pod(&self) -> u32 {
        self.pod
    }

    pub(super) fn has(&self, hook: &str) -> bool {
        self.links.contains_key(hook)
    }

    pub(super) fn add(
        &mut self,
        hook: &'static str,
        link: FdLink,
        pins: Option<&Pins>,
    ) -> Result<(), RedirectError> {
        let link = match pins {
            Some(pins) => {
                pins.make_pod(self.cgroup)?;
                let pin = pins.link(self.cgroup, hook);
                Link::Pinned(link.pin(&pin).map_err(|error| {
                    RedirectError::of_link(&format!("pin {}", pin.display()), &error)
                })?)
            }
            None => Link::Process { _link: link },
        };
        self.links.insert(hook, link);
        Ok(())
    }

    /// Detaches, in the reverse order: what redirects goes first.
    pub(super) fn end(mut self, pins: Option<&Pins>) -> Result<(), RedirectError> {
        for hook in HOOKS.iter().rev() {
            if let Some(Link::Pinned(link)) = self.links.remove(hook.name) {
                link.unpin().map_err(|error| RedirectError::Path {
                    doing: "remove a pin for",
                    path: self.path.clone(),
                    error,
                })?;
            }
        }
        pins.map_or(Ok(()), |pins| pins.remove_pod(self.cgroup))
    }
}
