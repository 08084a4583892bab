//! HNP, without an access log and without forwarded fields, as the others. One port serves everything.

use std::process::Command;

use super::{Doors, Launch, Peer, Site, addresses};
use crate::mutual::load::Speaks;
use crate::mutual::pki::NAME;

pub(super) const PEER: Peer = Peer {
    name: "hnp",
    about: "workers = 1, no access log, no forwarded fields; its tunnel: CONNECT over TLS",
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let [address, admin, _] = addresses()?;
    let backend = &site.programs.backend;
    let file = |stem: &str, extension: &str| site.pki.file(stem, extension).display().to_string();
    let ca = site.pki.ca().display().to_string();
    let text = format!(
        r#"modes = ["tunnel", "reverse-proxy", "end-to-end-mtls"]
workers = 1
backend = "{backend}"

[listener]
address = "{address}"

[listener.tls]
certificate = "{}"
key = "{}"
client-auth = "strict"
client-ca = "{ca}"

[upstream]
url = "https://{}"
ca = "{ca}"
certificate = "{}"
key = "{}"
server-name = "{NAME}"

[admin]
address = "{admin}"

[log]
access = false

[reverse-proxy]
forwarded-headers = false

[[policy.allow]]
cidrs = ["127.0.0.0/8"]
"#,
        file("server", "crt"),
        file("server", "key"),
        site.manager(),
        file("client", "crt"),
        file("client", "key"),
    );
    let file = site.file("hnp.toml", &text)?;
    let mut command = Command::new(&site.programs.hnp);
    command.arg("run").arg("--config").arg(file);
    Ok(Launch {
        command,
        doors: Doors {
            plain: address,
            mutual: address,
            tunnel: (address, Speaks::Connect(site.echo())),
        },
    })
}
