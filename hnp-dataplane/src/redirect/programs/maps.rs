//! The maps that programs and user space share.

use aya::maps::{HashMap, Map, MapData};
use hnp_common::{COUNTERS, DESTINATIONS, EVENTS, POLICIES, RULES, SETTINGS, SOCKETS};

use super::{
    super::{Destinations, Events, RedirectError},
    Programs,
};

/// The maps that outlive the process where it pins.
pub(in crate::redirect) const MAPS: [&str; 7] = [
    POLICIES,
    RULES,
    SOCKETS,
    DESTINATIONS,
    COUNTERS,
    SETTINGS,
    EVENTS,
];

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
