//! Whose programs are attached: this build's, or another's.

use std::collections::{BTreeSet, HashMap};

use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::{ProgramInfo, loaded_programs},
};
use hnp_common::{BUILD_SECTION, Build};
use sha2::{Digest as _, Sha256};

/// What [`Build`] holds of an object: the version of this HNP, and the beginning of the object's SHA-256, for versions are built more
/// than once.
pub(super) fn version(object: &[u8]) -> String {
    let hash = Sha256::digest(object);
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}+{hash}", env!("CARGO_PKG_VERSION"))
}

/// As the kernel takes it.
pub(super) fn build(has_set_retval: bool, version: &str) -> Build {
    let mut build = Build {
        has_set_retval: has_set_retval.into(),
        version: [0; 63],
    };
    // The last byte stays zero.
    for (byte, own) in build.version[..62].iter_mut().zip(version.bytes()) {
        *byte = own;
    }
    build
}

/// By what a program is known again. Two that have all of it in common do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The kernel's hash of the instructions (`bpf_prog_info.tag`), which leaves out what they refer to in maps.
    tag: u64,
    /// The numbers of the maps that it uses, but for its constants: each object has these of its own.
    maps: BTreeSet<u32>,
    /// Its constants. `None` where it uses none, or was built before there were any.
    build: Option<Build>,
}

impl Identity {
    /// `None` where the kernel does not tell.
    pub(super) fn of(program: &ProgramInfo) -> Option<Self> {
        let mut identity = Self {
            tag: program.tag(),
            maps: BTreeSet::new(),
            build: None,
        };
        for id in program.map_ids().ok()?? {
            let map = MapInfo::from_id(id).ok()?;
            match map.name_as_str()? {
                BUILD_SECTION => identity.build = constants(id),
                // Of builds that had no section for it.
                name if name.starts_with(".rodata") => {}
                _ => drop(identity.maps.insert(id)),
            }
        }
        Some(identity)
    }

    /// Whether it uses this map.
    pub(super) fn uses(&self, map: u32) -> bool {
        self.maps.contains(&map)
    }

    /// Which build of HNP it is of.
    pub(super) fn version(&self) -> Option<String> {
        let version = &self.build?.version;
        let length = version.iter().position(|byte| *byte == 0)?;
        let text = str::from_utf8(&version[..length]).ok()?;
        // It comes from the kernel, and goes to logs and terminals.
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (plain && length > 0).then(|| text.to_owned())
    }
}

fn constants(id: u32) -> Option<Build> {
    let map = Map::Array(MapData::from_id(id).ok()?);
    let map: Array<MapData, Build> = map.try_into().ok()?;
    map.get(&0, 0).ok()
}

/// The programs that were asked about, by their numbers: a node's pods share a few.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<u32, Option<Identity>>);

impl Known {
    /// `None` where the kernel does not tell.
    pub(super) fn identity(&mut self, program: u32) -> Option<&Identity> {
        self.0
            .entry(program)
            .or_insert_with(|| {
                let info = loaded_programs()
                    .flatten()
                    .find(|info| info.id() == program);
                Identity::of(&info?)
            })
            .as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_versions_that_the_kernel_can_hold() {
        let (one, other) = (version(b"one"), version(b"other"));
        assert!(one != other && one.starts_with(env!("CARGO_PKG_VERSION")));
        let identity = |version: &str| Identity {
            tag: 1,
            maps: BTreeSet::new(),
            build: Some(build(true, version)),
        };
        assert_eq!(identity(&one).version(), Some(one));
        assert_eq!(
            identity(&"9".repeat(100)).version().map(|text| text.len()),
            Some(62)
        );
        assert_eq!(identity("").version(), None);
        assert_eq!(identity("\x1b[2J").version(), None);
    }
}
