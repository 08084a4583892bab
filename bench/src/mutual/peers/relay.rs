//! Not a peer but a limit: a relay that receives and sends, and does nothing else.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::{Doors, Launch, Peer, Site, addresses};
use crate::mutual::load::Speaks;
use crate::net::{self, Events, Poller};
use crate::peers::LISTEN;

pub(super) const PEER: Peer = Peer {
    name: "relay",
    about: "no proxy, the machine's limit: plaintext received and sent, no TLS, no HTTP",
    prepare,
};

/// Large enough that calls cost little, small enough for the cache.
const BUFFER: usize = 256 * 1024;

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let [plain, ..] = addresses()?;
    let program = std::env::current_exe().context("cannot tell where this binary is")?;
    let mut command = Command::new(program);
    command
        .arg("copy")
        .arg(plain.port().to_string())
        .arg(SocketAddr::new(LISTEN, site.manager.plain).to_string());
    Ok(Launch {
        command,
        doors: Doors {
            plain,
            mutual: plain,
            tunnel: (plain, Speaks::Http),
        },
    })
}

/// Serves on a port until it is ended.
///
/// # Errors
/// When the port is taken or the process is out of descriptors.
pub fn serve(port: u16, upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let poller = Poller::new()?;
    poller.add(&listener, u64::MAX, true, false)?;
    let mut events = Events::new();
    let mut buffer = vec![0; BUFFER];
    let mut relay = Relay::default();
    loop {
        for ready in poller.wait(&mut events, Duration::from_secs(3600))? {
            if ready.token == u64::MAX {
                relay.accept(&listener, upstream, &poller)?;
                continue;
            }
            let index = usize::try_from(ready.token)?;
            if ready.write {
                relay.write(index, &poller)?;
            }
            if ready.read {
                relay.read(index, &mut buffer, &poller)?;
            }
        }
    }
}

/// Streams in pairs: the other end of the one at `index` is at `index ^ 1`. A benchmark is not long enough to use places again.
#[derive(Default)]
struct Relay {
    ends: Vec<Option<End>>,
}

struct End {
    stream: TcpStream,
    /// What this end has not taken yet; until it has, nothing is read from the other.
    pending: Vec<u8>,
}

impl Relay {
    fn accept(
        &mut self,
        listener: &TcpListener,
        upstream: SocketAddr,
        poller: &Poller,
    ) -> io::Result<()> {
        while let Some(client) = net::accept(listener)? {
            for stream in [client, net::start_connect(upstream, 0)?] {
                poller.add(&stream, self.ends.len() as u64, true, false)?;
                let pending = Vec::new();
                self.ends.push(Some(End { stream, pending }));
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, buffer: &mut [u8], poller: &Poller) -> io::Result<()> {
        let (Some(Some(from)), Some(Some(to))) = (self.ends.get(index), self.ends.get(index ^ 1))
        else {
            return Ok(());
        };
        if !to.pending.is_empty() {
            return Ok(());
        }
        let count = match (&from.stream).read(buffer) {
            Err(error) if net::not_now(&error) => return Ok(()),
            other => other.unwrap_or(0),
        };
        let sent = match (&to.stream).write(&buffer[..count]) {
            Err(error) if net::not_now(&error) => 0,
            Err(_) => {
                self.close(index);
                return Ok(());
            }
            Ok(sent) => sent,
        };
        if count == 0 {
            self.close(index);
        } else if sent < count {
            poller.modify(&from.stream, index as u64, false, false)?;
            poller.modify(&to.stream, index as u64 ^ 1, true, true)?;
            if let Some(Some(to)) = self.ends.get_mut(index ^ 1) {
                to.pending.extend_from_slice(&buffer[sent..count]);
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize, poller: &Poller) -> io::Result<()> {
        let Some(Some(end)) = self.ends.get_mut(index) else {
            return Ok(());
        };
        if end.pending.is_empty() {
            return Ok(());
        }
        match end.stream.write(&end.pending) {
            Ok(count) => _ = end.pending.drain(..count),
            Err(error) if net::not_now(&error) => {}
            Err(_) => {
                self.close(index);
                return Ok(());
            }
        }
        if end.pending.is_empty() {
            poller.modify(&end.stream, index as u64, true, false)?;
            if let Some(Some(other)) = self.ends.get(index ^ 1) {
                poller.modify(&other.stream, index as u64 ^ 1, true, false)?;
            }
        }
        Ok(())
    }

    /// Both ends: nobody here closes one way only.
    fn close(&mut self, index: usize) {
        self.ends[index] = None;
        self.ends[index ^ 1] = None;
    }
}
