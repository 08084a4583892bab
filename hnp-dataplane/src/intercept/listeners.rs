//! HNP's listeners in a pod.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::redirect::{NetNs, NetnsCookie};
use crate::uring::{Listener, ListenerOptions};

/// Listeners in a pod.
pub(super) struct Listening {
    pub(super) by_worker: Vec<Vec<OwnedFd>>,
    /// On `127.0.0.1` and `[::1]`; 0 where there is no IPv6.
    pub(super) ports: (u16, u16),
    pub(super) cookie: NetnsCookie,
}

/// A listener for each worker and family, on two free ports of the namespace's loopback interface.
pub(super) fn listen(netns: &NetNs, workers: usize, backlog: u32) -> io::Result<Listening> {
    let bind = |address: IpAddr| -> io::Result<(u16, Vec<OwnedFd>)> {
        let options = ListenerOptions { backlog };
        let first = Listener::bind(SocketAddr::new(address, 0), &options)?;
        let address = socket2::SockRef::from(&first).local_addr()?;
        let address = address.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut all = vec![first];
        for _ in 1..workers {
            all.push(Listener::bind(address, &options)?);
        }
        Ok((address.port(), all))
    };
    let both = || -> io::Result<_> {
        let v4 = bind(Ipv4Addr::LOCALHOST.into())?;
        Ok((v4, bind(Ipv6Addr::LOCALHOST.into()).ok()))
    };
    let ((port4, v4), v6) = netns.run(both).map_err(io::Error::other)??;
    let cookie = NetnsCookie::of_socket(&v4[0])?;
    let (port6, v6) = v6.unwrap_or_default();
    let mut by_worker: Vec<Vec<OwnedFd>> = v4.into_iter().map(|one| vec![one]).collect();
    for (worker, listener) in by_worker.iter_mut().zip(v6) {
        worker.push(listener);
    }
    Ok(Listening {
        by_worker,
        ports: (port4, port6),
        cookie,
    })
}
