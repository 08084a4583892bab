//! HNP, with its access log on, as it is by default; the lines go nowhere.

use std::process::Command;

use super::{LISTEN, Launch, Peer, Site, port};

pub(super) const PEER: Peer = Peer {
    name: "hnp",
    about: "CONNECT, access log to /dev/null",
    connect: true,
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let port = site.programs.hnp_port.map_or_else(port, Ok)?;
    // The usual port may be another HNP's.
    let admin = super::port()?;
    let backend = &site.programs.backend;
    let file = site.file(
        "hnp.toml",
        &format!(
            r#"modes = ["tunnel"]
workers = 1
backend = "{backend}"

[listener]
address = "{LISTEN}:{port}"

[admin]
address = "{LISTEN}:{admin}"

[[policy.allow]]
cidrs = ["127.0.0.0/8"]
"#
        ),
    )?;
    let mut command = Command::new(&site.programs.hnp);
    command.arg("run").arg("--config").arg(file);
    Ok(Launch {
        command,
        route: site.connect(port),
    })
}
