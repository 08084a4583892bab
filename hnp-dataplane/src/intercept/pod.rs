//! A pod that is intercepted, as the workers know it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Observers;
use crate::admin::metrics::PodCells;
use crate::redirect::{Destinations, NetNs, NetnsCookie};

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// By which the kernel's programs know it.
    pub number: u32,
    /// By which people know it: its uid, or the last part of its cgroup's path.
    pub label: Arc<str>,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// Its network namespace, which lives as long as this does.
    pub netns: NetNs,
    /// By which the kernel's programs know that.
    pub cookie: NetnsCookie,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// What is counted of it.
    pub books: Arc<PodCells>,
    /// Who is told of its connections.
    pub observers: Observers,
}

impl Pod {
    /// The client's address as the application sees it: HNP is connected to over the loopback interface.
    #[must_use]
    pub fn client(&self, peer: SocketAddr) -> SocketAddr {
        let peer_ip = peer.ip().to_canonical();
        let same_family = |address: &&IpAddr| address.is_ipv4() == peer_ip.is_ipv4();
        let own = self.addresses.iter().find(same_family);
        SocketAddr::new(own.copied().unwrap_or(peer_ip), peer.port())
    }
}

/// What a worker is told about pods.
#[derive(Debug)]
pub enum Order {
    /// Where captured connections were meant to go: comes first.
    Destinations(Destinations),
    /// Serve a pod, at these listeners in its network namespace.
    Serve {
        /// Which.
        pod: Arc<Pod>,
        /// The worker's own.
        listeners: Vec<OwnedFd>,
    },
    /// A pod is no more, or no longer HNP's: end its listeners and its connections.
    Stop(u32),
}
