//! tinyproxy: CONNECT, a thread a connection.

use std::process::Command;

use super::{LISTEN, Launch, Peer, Site, port, program};

pub(super) const PEER: Peer = Peer {
    name: "tinyproxy",
    about: "CONNECT",
    connect: true,
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let port = port()?;
    let text = format!(
        r#"Port {port}
Listen {LISTEN}
Timeout 3600
MaxClients 10000
LogFile "/dev/null"
LogLevel Critical
DisableViaHeader Yes
"#
    );
    let file = site.file("tinyproxy.conf", &text)?;
    let mut command = Command::new(program("tinyproxy")?);
    // In the foreground.
    command.arg("-d").arg("-c").arg(file);
    Ok(Launch {
        command,
        route: site.connect(port),
    })
}
