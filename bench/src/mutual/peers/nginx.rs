//! nginx as an HTTP proxy; its tunnel is the stream module behind TLS.

use std::path::Path;
use std::process::Command;

use super::{Doors, Launch, Peer, Site, addresses};
use crate::mutual::load::Speaks;
use crate::mutual::pki::NAME;
use crate::peers::{NGINX_STREAM, program};

pub(super) const PEER: Peer = Peer {
    name: "nginx",
    about: "one worker, keep-alive to the upstream, request bodies not buffered, larger buffers, no log; its tunnel: stream behind TLS, no CONNECT",
    prepare,
};

/// The buffers are larger than by default, which is worth up to a third of the CPU time of large bodies.
fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let [plain, mutual, tunnel] = addresses()?;
    let file = |stem: &str, extension: &str| site.pki.file(stem, extension).display().to_string();
    let ca = site.pki.ca().display().to_string();
    let module = if Path::new(NGINX_STREAM).exists() {
        format!("load_module {NGINX_STREAM};\n")
    } else {
        String::new()
    };
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {ca}; ssl_verify_client on;
ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;",
        file("server", "crt"),
        file("server", "key")
    );
    let directory = site.directory.display();
    let text = format!(
        "{module}daemon off;
worker_processes 1;
error_log stderr crit;
pid {directory}/pid;
events {{ worker_connections 19000; }}
http {{
access_log off;
client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
keepalive_timeout 1h; keepalive_requests 1000000000;
client_max_body_size 0; client_body_buffer_size 64k;
proxy_buffers 16 16k; proxy_busy_buffers_size 64k;
upstream manager {{ server {}; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 1h; }}
proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host {NAME};
proxy_request_buffering off; proxy_max_temp_file_size 0;
proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_trusted_certificate {ca};
proxy_ssl_verify on; proxy_ssl_name {NAME}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;
server {{ listen {plain} backlog=4096; location / {{ proxy_pass https://manager; }} }}
server {{ listen {mutual} ssl backlog=4096;
{tls}
location / {{ proxy_pass https://manager; }} }}
}}
stream {{
access_log off;
proxy_timeout 1h;
server {{ listen {tunnel} ssl backlog=4096;
{tls}
proxy_pass {}; }}
}}
",
        site.manager(),
        file("client", "crt"),
        file("client", "key"),
        site.echo()
    );
    let file = site.file("nginx.conf", &text)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-e").arg("stderr").arg("-c").arg(file);
    Ok(Launch {
        command,
        doors: Doors {
            plain,
            mutual,
            tunnel: (tunnel, Speaks::Echo),
        },
    })
}
