//! The maps that programs and user space share.

use aya::maps::{HashMap, Map, MapData, MapInfo, MapType};
use hnp_common::{
    ABI, COUNTERS, COUNTERS_CAPACITY, Capture, Counters, DESTINATIONS, DESTINATIONS_CAPACITY,
    Destination, DestinationKey, EVENTS, EVENTS_BYTES, POLICIES, Policy, RULES, RULES_CAPACITY,
    RuleKey, SETTINGS, SOCKETS, Segments, Settings,
};

use super::{
    super::{Destinations, Events, Pins, RedirectError},
    Programs,
};

/// A map that outlives the process where it pins.
pub(in crate::redirect) struct Shared {
    pub(in crate::redirect) name: &'static str,
    kind: MapType,
    /// Bytes of a key and of a value, and how many there are, as the kernel says it.
    layout: [u32; 3],
}

const fn map<Value>(name: &'static str, kind: MapType, key: usize, entries: u32) -> Shared {
    Shared {
        name,
        kind,
        layout: [key as u32, size_of::<Value>() as u32, entries],
    }
}

/// The maps that outlive the process where it pins.
pub(in crate::redirect) const MAPS: [Shared; 7] = [
    map::<Policy>(POLICIES, MapType::CgroupStorage, size_of::<[u64; 2]>(), 0),
    map::<Segments>(
        RULES,
        MapType::LpmTrie,
        size_of::<u32>() + size_of::<RuleKey>(),
        RULES_CAPACITY,
    ),
    map::<Capture>(SOCKETS, MapType::SkStorage, size_of::<u32>(), 0),
    map::<Destination>(
        DESTINATIONS,
        MapType::LruHash,
        size_of::<DestinationKey>(),
        DESTINATIONS_CAPACITY,
    ),
    map::<Counters>(
        COUNTERS,
        MapType::PerCpuHash,
        size_of::<u32>(),
        COUNTERS_CAPACITY,
    ),
    map::<Settings>(SETTINGS, MapType::Array, size_of::<u32>(), 1),
    map::<()>(EVENTS, MapType::RingBuf, 0, EVENTS_BYTES),
];

/// Lets go of pinned maps that are laid out otherwise than this build expects, although they are of the same [`hnp_common::ABI`]: who
/// made them did not number the change. All of them, for programs use them together; those that are attached keep theirs until
/// they are replaced.
pub(super) fn fit(pins: &Pins) -> Result<(), RedirectError> {
    let unfit = MAPS.iter().find_map(|map| {
        // One that is not there will be made.
        let info = MapInfo::from_pin(pins.map(map.name)).ok()?;
        let layout = [info.key_size(), info.value_size(), info.max_entries()];
        let fits = info.map_type().ok() == Some(map.kind) && layout == map.layout;
        (!fits).then_some((map, layout))
    });
    let Some((map, layout)) = unfit else {
        return Ok(());
    };
    tracing::warn!(
        "the map {} was made by another build of hnp, and is laid out otherwise (key, value and entries are {layout:?}, not {:?}) \
         under the same version {ABI}: a fault of that build or of this one; all maps are made anew, with counters that begin at zero",
        pins.map(map.name).display(),
        map.layout,
    );
    MAPS.iter().try_for_each(|map| pins.forget_map(map.name))
}

impl Programs {
    /// A handle on the original destinations. Each thread takes one of its own.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn destinations(&self) -> Result<Destinations, RedirectError> {
        let map: HashMap<MapData, _, _> = self.handle(DESTINATIONS, Map::LruHashMap)?;
        Ok(Destinations::new(map))
    }

    /// The reader of events. One at a time: two would share the events out between them.
    ///
    /// # Errors
    /// When no descriptor is free, or memory cannot be mapped.
    pub fn events(&self) -> Result<Events, RedirectError> {
        Ok(Events::new(self.handle(EVENTS, Map::RingBuf)?))
    }

    pub(super) fn map<'a, T>(&'a self, name: &str) -> Result<T, RedirectError>
    where
        T: TryFrom<&'a Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.map(name).ok_or_else(|| missing("map", name))?;
        map.try_into()
            .map_err(|error| RedirectError::of_map(&format!("use the eBPF map {name}"), error))
    }

    pub(super) fn map_mut<'a, T>(&'a mut self, name: &str) -> Result<T, RedirectError>
    where
        T: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
    {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| missing("map", name))?;
        map.try_into()
            .map_err(|error| RedirectError::of_map(&format!("use the eBPF map {name}"), error))
    }

    /// Another descriptor of a map, which lives on without this.
    fn handle<T>(&self, name: &str, kind: fn(MapData) -> Map) -> Result<T, RedirectError>
    where
        T: TryFrom<Map, Error = aya::maps::MapError>,
    {
        use std::os::fd::AsFd as _;
        let doing = format!("use the eBPF map {name}");
        let fd = match self.ebpf.map(name) {
            Some(Map::LruHashMap(data) | Map::RingBuf(data)) => data.fd().as_fd(),
            _ => return Err(missing("map", name)),
        };
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| RedirectError::of_map(&doing, aya::maps::MapError::IoError(error)))?;
        MapData::from_fd(fd)
            .and_then(|data| kind(data).try_into())
            .map_err(|error| RedirectError::of_map(&doing, error))
    }
}

fn missing(kind: &str, name: &str) -> RedirectError {
    RedirectError::Mismatch {
        what: format!("{kind} {name}"),
    }
}
