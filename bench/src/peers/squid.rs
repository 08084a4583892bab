//! Squid: CONNECT, no cache.

use std::process::Command;

use super::{LISTEN, Launch, Peer, Site, port, program};

pub(super) const PEER: Peer = Peer {
    name: "squid",
    about: "CONNECT",
    connect: true,
    prepare,
};

/// Started as root it becomes another user, who may not write where we do: all its files go nowhere.
const TAIL: &str = "http_access allow all
cache deny all
cache_mem 0
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
coredump_dir /tmp
unlinkd_program /bin/true
pinger_enable off
max_filedescriptors 20000
visible_hostname bench
shutdown_lifetime 0 seconds
";

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let port = port()?;
    let file = site.file("squid.conf", &format!("http_port {LISTEN}:{port}\n{TAIL}"))?;
    let mut command = Command::new(program("squid")?);
    // One process, in the foreground.
    command.arg("-N").arg("-f").arg(file);
    Ok(Launch {
        command,
        route: site.connect(port),
    })
}
