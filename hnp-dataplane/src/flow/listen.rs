//! Listening: one socket for each worker and address, all of them bound before anything is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::model;
use crate::uring::{Listener, ListenerOptions};

/// How long an address may still be held by an instance that has just ended: io_uring closes its files asynchronously.
const HANDOVER: Duration = Duration::from_secs(2);

/// An address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}{}", remedy(.source, *.address))]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            " (another process listens there: `ss -ltnp 'sport = :{}'` names it; or choose another listener.address)",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            " (no interface of this host has that address: correct listener.address)".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE: grant it or choose another port)"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Binds every address once for each of `workers`: the outer list is by worker.
///
/// # Errors
/// The first address that cannot be bound; nothing is served then.
pub fn bind(
    listener: &model::Listener,
    workers: usize,
) -> Result<Vec<Vec<(SocketAddr, OwnedFd)>>, ListenError> {
    for &address in &listener.address {
        ours_alone(address).map_err(|source| ListenError { address, source })?;
    }
    let options = ListenerOptions {
        backlog: listener.backlog,
    };
    let one = || {
        let bound = listener.address.iter().map(|&address| {
            let bound = Listener::bind(address, &options);
            bound
                .map(|fd| (address, fd))
                .map_err(|source| ListenError { address, source })
        });
        bound.collect()
    };
    (0..workers).map(|_| one()).collect()
}

/// Makes sure that nobody else listens there. `SO_REUSEPORT` would let two instances of one user share the port silently; a
/// socket without it conflicts with both kinds.
fn ours_alone(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
        }
    }
}
