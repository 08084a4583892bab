//! nginx in the manager's place, with OpenSSL's opinion of client certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{ClientAuth, Setup};
use crate::process::Process;
use crate::{DEADLINE, Port, node, patient};

/// A running nginx. Dropping it kills it.
///
/// It answers every request with one line: how the client's certificate verified, its serial number, its subject, the `Host` and the
/// target it was asked for.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    port: Port,
    _directory: TempDir,
}

/// What nginx says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `SUCCESS`, `NONE` or `FAILED:why`.
    pub verify: String,
    /// The serial number, in lower-case hexadecimal.
    pub serial: String,
    /// The subject.
    pub subject: String,
    /// `Host`.
    pub host: String,
    /// The target.
    pub target: String,
}

impl Line {
    /// Reads the answer of [`Nginx`].
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn parse(text: &str) -> Line {
        let parts: Vec<&str> = text.trim().split('|').collect();
        let [verify, serial, subject, host, target] = parts[..] else {
            panic!("not nginx's line: {text:?}");
        };
        Line {
            verify: verify.to_owned(),
            serial: serial.to_lowercase(),
            subject: subject.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
        }
    }
}

impl Nginx {
    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When nginx is missing (`cargo xtask test` installs it) or does not start.
    #[must_use]
    pub fn start(setup: &Setup<'_>) -> Nginx {
        let directory = tempfile::Builder::new()
            .prefix("hnp-test-nginx")
            .tempdir()
            .unwrap();
        let port = Port::take();
        setup.server.write(directory.path(), "server");
        let bundle: String = setup.clients.iter().map(|it| it.pem()).collect();
        fs::write(directory.path().join("ca.crt"), bundle).unwrap();
        if let Some(crl) = setup.crl {
            fs::write(directory.path().join("crl.pem"), crl).unwrap();
        }
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(setup, port.number())).unwrap();

        let log = fs::File::create(directory.path().join("stderr")).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nginx can be started: `cargo xtask test` installs it");
        let mut process = Process::new(child);
        let end = Instant::now() + patient(DEADLINE);
        while !node::is_listening(port.number()) {
            let ended = process.ended_within(Duration::from_millis(2)).is_some();
            assert!(
                !ended && Instant::now() < end,
                "nginx is not ready:\n{}",
                said(directory.path())
            );
        }
        Nginx {
            _process: process,
            port,
            _directory: directory,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port.number())
    }
}

fn said(directory: &Path) -> String {
    fs::read_to_string(directory.join("stderr")).unwrap_or_default()
}

fn configuration(setup: &Setup<'_>, port: u16) -> String {
    let verify = match setup.auth {
        ClientAuth::Off => "off",
        ClientAuth::Loose => "optional",
        ClientAuth::Strict => "on",
    };
    let crl = match setup.crl {
        Some(_) => "ssl_crl crl.pem;",
        None => "",
    };
    // One process, so that ending it ends all of it.
    format!(
        r#"daemon off;
master_process off;
pid nginx.pid;
error_log stderr info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate server.crt;
        ssl_certificate_key server.key;
        ssl_client_certificate ca.crt;
        ssl_verify_client {verify};
        {crl}
        location / {{
            default_type text/plain;
            return 200 "$ssl_client_verify|$ssl_client_serial|$ssl_client_s_dn|$http_host|$request_uri\n";
        }}
    }}
}}
"#
    )
}
