//! Where a redirected connection was meant to go.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::maps::{HashMap, MapData, MapError};
use hnp_common::{Destination, DestinationKey};

use super::{NetnsCookie, RedirectError, programs::monotonic};

/// What the application asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalDestination {
    /// The address and port it gave to `connect()`. A v4-mapped address is given as IPv4.
    pub address: SocketAddr,
    /// The pod's number.
    pub pod: u32,
    /// The rule that decided, from 1 in the order in which rules were given; 0 is the default.
    pub rule: u32,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// The name of its thread, as it may have set it itself.
    pub comm: String,
    /// How long ago it called `connect()`.
    pub age: Duration,
}

/// The map of original destinations.
#[derive(Debug)]
pub struct Destinations {
    map: HashMap<MapData, DestinationKey, Destination>,
}

impl Destinations {
    pub(super) fn new(map: HashMap<MapData, DestinationKey, Destination>) -> Self {
        Self { map }
    }

    /// Finds and forgets where the connection from `client` was meant to go, accepted in the network namespace with this
    /// cookie. `None` is a connection that was not redirected, or forgotten: it must be closed, for where it belongs can
    /// only be guessed.
    ///
    /// # Errors
    /// When the kernel does not let the map be read or changed.
    pub fn take(
        &mut self,
        netns: NetnsCookie,
        client: SocketAddr,
    ) -> Result<Option<OriginalDestination>, RedirectError> {
        let key = DestinationKey {
            netns: netns.0,
            address: client.ip().into(),
            port: u32::from(client.port()),
            reserved: 0,
        };
        let fault = |error| RedirectError::of_map("look up an original destination", error);
        let found = match self.map.get(&key, 0) {
            Ok(found) => found,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        match self.map.remove(&key) {
            // Evicted in between, or removed by the kernel's programs: it was found all the same.
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(error)),
        }
        Ok(Some(OriginalDestination {
            address: SocketAddr::new(IpAddr::from(found.address), found.port as u16),
            pod: found.pod,
            rule: found.rule,
            pid: found.pid,
            comm: comm(&found.comm),
            age: Duration::from_nanos(monotonic().saturating_sub(found.time)),
        }))
    }

    /// How many wait to be taken. Walks the whole map.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn waiting(&self) -> Result<usize, RedirectError> {
        self.map
            .keys()
            .try_fold(0, |count, key| key.map(|_| count + 1))
            .map_err(|error| RedirectError::of_map("read original destinations", error))
    }

    /// Removes those that nobody took for `age`: of connections that HNP did not live to accept. How many there were.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn sweep(&mut self, age: Duration) -> Result<usize, RedirectError> {
        let now = monotonic();
        let limit = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        // Entries come and go meanwhile; what is not seen this time is seen the next.
        let old: Vec<DestinationKey> = self
            .map
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, destination)| now.saturating_sub(destination.time) > limit)
            .map(|(key, _)| key)
            .collect();
        Ok(old
            .iter()
            .filter(|key| self.map.remove(key).is_ok())
            .count())
    }
}

/// The text before the zero byte.
pub(super) fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
