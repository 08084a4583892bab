//! HAProxy in tcp mode with splicing forced: a relay that reads nothing of what it carries.

use std::net::SocketAddr;
use std::process::Command;

use super::{LISTEN, Launch, Peer, Site, program};

pub(super) const PEER: Peer = Peer {
    name: "haproxy",
    about: "tcp mode, splice forced, no CONNECT",
    connect: false,
    prepare,
};

/// `maxconn` and `maxpipes` together fit into 20,000 descriptors and still hold 8,000 tunnels, or 128 pipes at once.
const HEAD: &str = "global
    nbthread 1
    maxconn 9000
    maxpipes 200
defaults
    mode tcp
    balance roundrobin
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    option splice-request
    option splice-response
";

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let (sections, route) = site.fixed(section)?;
    let file = site.file("haproxy.cfg", &format!("{HEAD}{sections}"))?;
    let mut command = Command::new(program("haproxy")?);
    // In the foreground, no master.
    command.arg("-db").arg("-f").arg(file);
    Ok(Launch { command, route })
}

fn section(name: &str, port: u16, upstream: &[SocketAddr]) -> String {
    let mut text = format!("listen {name}\n    bind {LISTEN}:{port} backlog 4096\n");
    for (index, address) in upstream.iter().enumerate() {
        text += &format!("    server {name}{index} {address}\n");
    }
    text
}
