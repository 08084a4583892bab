//! The proxies that are compared, each with one worker: plaintext in and mTLS out, mTLS in and mTLS out, and what comes nearest to a
//! tunnel over mTLS, all in one process.

mod envoy;
mod haproxy;
mod hnp;
mod nginx;
mod relay;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::{Entry, Speaks};
use super::manager::Ports;
use super::pki::Pki;
use crate::child::Process;
use crate::net;
use crate::peers::{LISTEN, Programs, await_start, directory, write};

/// A kind of proxy.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// What it is called in tables and on the command line.
    pub name: &'static str,
    /// What it is measured as, in a few words.
    pub about: &'static str,
    prepare: fn(&Site<'_>) -> anyhow::Result<Launch>,
}

/// HNP itself.
pub const HNP: Peer = hnp::PEER;

/// Everybody else.
pub const OTHERS: [Peer; 3] = [haproxy::PEER, nginx::PEER, envoy::PEER];

/// The machine's limit: the cheapest relay there is, without TLS.
pub(super) const RELAY: Peer = relay::PEER;
pub use relay::serve as relay;

/// What a peer needs to know to prepare its start.
struct Site<'a> {
    programs: &'a Programs,
    pki: &'a Pki,
    /// A directory of its own.
    directory: &'a Path,
    manager: Ports,
}

impl Site<'_> {
    fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        write(self.directory, name, text)
    }

    fn manager(&self) -> SocketAddr {
        SocketAddr::new(LISTEN, self.manager.mutual)
    }

    fn echo(&self) -> SocketAddr {
        SocketAddr::new(LISTEN, self.manager.echo)
    }
}

/// How to start a peer, and its doors.
struct Launch {
    command: Command,
    doors: Doors,
}

/// Where a proxy is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doors {
    /// HTTP, plaintext.
    pub(super) plain: SocketAddr,
    /// HTTP, mTLS.
    pub(super) mutual: SocketAddr,
    /// mTLS, to the echo.
    pub(super) tunnel: (SocketAddr, Speaks),
}

impl Doors {
    pub(super) fn plain(self) -> Entry {
        Entry {
            address: self.plain,
            tls: false,
            speaks: Speaks::Http,
        }
    }

    pub(super) fn mutual(self) -> Entry {
        Entry {
            address: self.mutual,
            tls: true,
            speaks: Speaks::Http,
        }
    }

    pub(super) fn tunnel(self) -> Entry {
        let (address, speaks) = self.tunnel;
        Entry {
            address,
            tls: true,
            speaks,
        }
    }
}

/// Three addresses that were free a moment ago.
fn addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let mut addresses = [SocketAddr::new(LISTEN, 0); 3];
    for address in &mut addresses {
        address.set_port(net::free_port()?);
    }
    Ok(addresses)
}

/// A proxy at work; dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    pub(super) doors: Doors,
    // Deleted after the process has ended: fields are dropped in order.
    _directory: tempfile::TempDir,
}

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Peer {
    /// Starts it and waits until it accepts connections.
    pub(super) fn start(
        &self,
        programs: &Programs,
        pki: &Pki,
        manager: Ports,
    ) -> anyhow::Result<Running> {
        let directory = directory()?;
        let site = Site {
            programs,
            pki,
            directory: directory.path(),
            manager,
        };
        let Launch { mut command, doors } = (self.prepare)(&site)?;
        let process = await_start(self.name, &mut command, directory.path(), doors.plain)?;
        Ok(Running {
            process,
            doors,
            _directory: directory,
        })
    }
}
