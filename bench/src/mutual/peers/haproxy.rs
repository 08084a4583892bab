//! HAProxy in HTTP mode; its tunnel is TCP mode behind TLS.

use std::process::Command;

use super::{Doors, Launch, Peer, Site, addresses};
use crate::mutual::load::Speaks;
use crate::mutual::pki::NAME;
use crate::peers::program;

pub(super) const PEER: Peer = Peer {
    name: "haproxy",
    about: "nbthread 1, http mode, http-reuse always, no log; its tunnel: tcp mode behind TLS, no CONNECT",
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let [plain, mutual, tunnel] = addresses()?;
    let server = site.pki.file("server", "pem").display().to_string();
    let client = site.pki.file("client", "pem").display().to_string();
    let ca = site.pki.ca().display().to_string();
    let tls = format!("ssl crt {server} ca-file {ca} verify required");
    let text = format!(
        "global
    nbthread 1
    maxconn 9000
defaults
    mode http
    http-reuse always
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend plain
    bind {plain} backlog 4096
    default_backend manager
frontend mutual
    bind {mutual} backlog 4096 {tls}
    default_backend manager
backend manager
    server manager {} ssl verify required ca-file {ca} crt {client} sni str({NAME}) verifyhost {NAME}
listen tunnel
    mode tcp
    bind {tunnel} backlog 4096 {tls}
    server echo {}
",
        site.manager(),
        site.echo()
    );
    let file = site.file("haproxy.cfg", &text)?;
    let mut command = Command::new(program("haproxy")?);
    // In the foreground, no master.
    command.arg("-db").arg("-f").arg(file);
    Ok(Launch {
        command,
        doors: Doors {
            plain,
            mutual,
            tunnel: (tunnel, Speaks::Echo),
        },
    })
}
