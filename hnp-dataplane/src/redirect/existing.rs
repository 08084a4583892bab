//! Connections that a pod made before the programs were attached.
//!
//! The hooks see `connect()`, and that is over. The kernel lists TCP sockets (sock_diag(7)), with the cgroup that each was made
//! in, and closes one when it is told to (`SOCK_DESTROY`): its program then sees `ECONNABORTED`, its peer a reset.

use std::{
    collections::HashSet,
    fs, io,
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use self::wire::{Family, Found};
use super::{NetNs, RedirectError};

mod wire;

/// A TCP connection, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end. A v4-mapped address is given as IPv4.
    pub remote: SocketAddr,
    family: Family,
    id: wire::Id,
}

impl Existing {
    /// The connections that sockets of `cgroup`, or of one below, have opened in the namespace. Attach first: what is opened then
    /// is captured, and what was captured leads to loopback, which is left out here.
    ///
    /// Those that were accepted are left out as well. The kernel does not tell the two apart: whatever has the port of a socket
    /// that listens in the namespace counts as accepted.
    ///
    /// # Errors
    /// When the namespace or the cgroup cannot be used, or the kernel cannot list sockets (`CONFIG_INET_DIAG`).
    pub fn find(netns: &NetNs, cgroup: &Path) -> Result<Vec<Self>, RedirectError> {
        let mut cgroups = HashSet::new();
        numbers(cgroup, &mut cgroups).map_err(|error| RedirectError::Path {
            doing: "read the cgroup",
            path: cgroup.to_owned(),
            error,
        })?;
        let found = netns
            .run(|| {
                let mut found = list(Family::V4)?;
                // A kernel without IPv6 has no such sockets.
                found.extend(list(Family::V6).unwrap_or_default());
                Ok(found)
            })?
            .map_err(|error: io::Error| cannot("list", &error))?;
        let listening: HashSet<u16> = found
            .iter()
            .filter(|one| one.listens)
            .map(|one| one.local.port())
            .collect();
        Ok(found
            .into_iter()
            .filter(|one| {
                !one.listens
                    && cgroups.contains(&one.cgroup)
                    && !listening.contains(&one.local.port())
                    && !one.remote.ip().is_loopback()
            })
            .map(|one| Self {
                local: one.local,
                remote: one.remote,
                family: one.family,
                id: one.id,
            })
            .collect())
    }

    /// Closes connections, for their programs to make new ones; how many were still there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, `CAP_NET_ADMIN` is missing, or the kernel was built without
    /// `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(netns: &NetNs, connections: &[Self]) -> Result<usize, RedirectError> {
        netns
            .run(|| {
                connections.iter().try_fold(0, |count, connection| {
                    match ask(&wire::destroy(connection.family, &connection.id), |_| {}) {
                        Ok(()) => Ok(count + 1),
                        // It has ended meanwhile.
                        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(count),
                        Err(error) => Err(error),
                    }
                })
            })?
            .map_err(|error: io::Error| cannot("close", &error))
    }
}

/// The numbers of a cgroup and those below.
fn numbers(cgroup: &Path, into: &mut HashSet<u64>) -> io::Result<()> {
    into.insert(fs::metadata(cgroup)?.ino());
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that is deleted meanwhile has no sockets.
            let _ = numbers(&entry.path(), into);
        }
    }
    Ok(())
}

fn list(family: Family) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    ask(&wire::list(family), |message| {
        found.extend(wire::found(message));
    })?;
    Ok(found)
}

/// Asks the kernel about sockets of the calling thread's namespace, and takes its messages until it has said all.
fn ask(request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
    // The kernel fills 32 KiB at a time, if that is offered.
    let mut buffer = vec![0; 1 << 15];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for message in wire::Messages::new(&buffer[..length]) {
            match message {
                wire::Message::Data(data) => each(data),
                wire::Message::End(0) => return Ok(()),
                wire::Message::End(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

fn cannot(doing: &str, error: &io::Error) -> RedirectError {
    let why = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "this kernel cannot close sockets (CONFIG_INET_DIAG_DESTROY is not set); \
             restart the pod, or leave those connections as they are"
                .to_owned()
        }
        Some(libc::ENOENT) => {
            "this kernel cannot list sockets: load the module tcp_diag, or build it with CONFIG_INET_DIAG".to_owned()
        }
        Some(libc::EPERM) => "CAP_NET_ADMIN is missing; run hnp as root, or grant that".to_owned(),
        _ => error.to_string(),
    };
    RedirectError::Kernel {
        doing: format!("{doing} connections from before"),
        why,
    }
}
