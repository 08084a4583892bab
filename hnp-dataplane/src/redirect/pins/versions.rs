//! Pins of HNPs whose maps are of other versions, older and newer ones.
//!
//! Their programs know nothing of this version's maps, so that none is replaced behind its link: this HNP attaches its own, and
//! then lets go of those. While both are attached, whoever runs first decides: what one has rewritten, the other finds to be
//! loopback, and leaves alone.

use std::{fs, io, os::fd::AsFd as _, path::Path};

use aya::maps::{HashMap, Map, MapData};
use hnp_common::{
    ABI, CONNECT4, CONNECT6, DESTINATIONS, Destination, DestinationKey, SENDMSG4, SENDMSG6,
};

use super::{
    super::{Destinations, RedirectError, bpf},
    Pins, fault, gone,
};

/// What decides about new connections, in every version.
const DECIDING: [&str; 4] = [CONNECT4, CONNECT6, SENDMSG4, SENDMSG6];

impl Pins {
    /// The pins in the same directory that are of other versions, oldest first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn others(&self) -> Result<Vec<Self>, RedirectError> {
        let entries = fs::read_dir(&self.directory)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| fault("read", &self.directory, error))?;
        let mut versions: Vec<u32> = entries
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok())
            .filter(|abi| *abi != self.abi)
            .collect();
        versions.sort_unstable();
        let others = versions.into_iter().map(|abi| Self {
            directory: self.directory.clone(),
            abi,
        });
        Ok(others
            .filter(|other| other.root().join("pods").is_dir())
            .collect())
    }

    /// The version of the maps.
    #[must_use]
    pub fn abi(&self) -> u32 {
        self.abi
    }

    /// Whether a newer HNP has made them than this one.
    #[must_use]
    pub fn are_newer(&self) -> bool {
        self.abi > ABI
    }

    /// Takes a step towards leaving a cgroup to other programs: the first lets go of what decides about new connections, the second
    /// of the rest. Those that have been decided about but are not on their way yet need the rest, so that there should be
    /// some time between the steps. `true` is that nothing is left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn withdraw(&self, cgroup: u64) -> Result<bool, RedirectError> {
        let mut decides = false;
        for pin in DECIDING.map(|hook| self.link(cgroup, hook)) {
            if pin.exists() {
                decides = true;
                detach(&pin);
                gone(&pin, fs::remove_file)?;
            }
        }
        if !decides {
            self.remove_pod(cgroup)?;
        }
        Ok(!decides)
    }

    /// How many connections were redirected and not taken by anybody. `None` where that cannot be read.
    #[must_use]
    pub fn waiting(&self) -> Option<usize> {
        let map = MapData::from_pin(self.map(DESTINATIONS)).ok()?;
        // Fails where keys or values are of another size.
        let map: HashMap<MapData, DestinationKey, Destination> =
            Map::LruHashMap(map).try_into().ok()?;
        Destinations::new(map).waiting().ok()
    }
}

/// At once, before the pin goes. Where it is no link, or is detached, removing the pin is enough.
fn detach(pin: &Path) {
    if let Ok(link) = bpf::pinned(pin) {
        let _ = bpf::detach(link.as_fd());
    }
}
