//! nginx's stream module: a relay that reads nothing of what it carries.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{LISTEN, Launch, Peer, Site, program};

pub(super) const PEER: Peer = Peer {
    name: "nginx",
    about: "stream, no CONNECT",
    connect: false,
    prepare,
};

/// Where Debian's package `libnginx-mod-stream` puts the module; other builds have it inside.
pub(crate) const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let (sections, route) = site.fixed(section)?;
    let module = if Path::new(MODULE).exists() {
        format!("load_module {MODULE};\n")
    } else {
        String::new()
    };
    let pid = site.directory.join("pid");
    let text = format!(
        "{module}daemon off;
worker_processes 1;
error_log stderr crit;
pid {};
events {{ worker_connections 19000; }}
stream {{
access_log off;
proxy_timeout 1h;
{sections}}}
",
        pid.display()
    );
    let file = site.file("nginx.conf", &text)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-e").arg("stderr").arg("-c").arg(file);
    Ok(Launch { command, route })
}

fn section(name: &str, port: u16, upstream: &[SocketAddr]) -> String {
    let servers: String = upstream
        .iter()
        .map(|address| format!(" server {address};"))
        .collect();
    format!(
        "upstream {name} {{{servers} }}
server {{ listen {LISTEN}:{port} backlog=4096; proxy_pass {name}; }}"
    )
}
