//! A manager of the tests' own: TLS with client certificates as LOOSE and STRICT want them, HTTP/1.1, WebSockets and server-sent
//! events behind it, and a record of who came.

pub mod nginx;
mod verify;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::pki::{Authority, Pair, authority};
use crate::{Server, origin, wait};
use verify::Verifier;

pub use nginx::Nginx;

/// What the manager asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    Off,
    /// A certificate may be shown; one that does not verify is refused.
    Loose,
    /// A certificate must be shown.
    Strict,
}

impl ClientAuth {
    /// Those with certificates.
    pub const BOTH: [ClientAuth; 2] = [ClientAuth::Loose, ClientAuth::Strict];

    /// As HNP's configuration says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ClientAuth::Off => "off",
            ClientAuth::Loose => "loose",
            ClientAuth::Strict => "strict",
        }
    }
}

/// What the manager is set up with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Its certificate.
    pub server: &'a Pair,
    /// Whose clients it takes.
    pub clients: &'a [&'a Authority],
    /// What it asks of them.
    pub auth: ClientAuth,
    /// A list in PEM of those it does not take.
    pub crl: Option<&'a str>,
    /// Application protocols, the best first; none: no ALPN.
    pub protocols: &'a [&'a str],
}

/// The manager. Dropping it stops it.
#[derive(Debug)]
pub struct Manager {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None`: it speaks plaintext.
    config: Mutex<Option<Arc<ServerConfig>>>,
    begun: AtomicUsize,
    connections: Mutex<Vec<Peer>>,
    requests: Mutex<Vec<Request>>,
    refused: Mutex<Vec<String>>,
}

/// A connection whose handshake was completed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The serial number of the certificate it showed, in lower-case hexadecimal.
    pub serial: Option<String>,
    /// That certificate's common name.
    pub name: Option<String>,
    /// The name it asked for.
    pub server_name: Option<String>,
    /// Whether it continued an earlier session.
    pub resumed: bool,
    /// `TLSv1_2`, `TLSv1_3`; absent in plaintext.
    pub version: Option<String>,
    /// The application protocol.
    pub protocol: Option<String>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who sent it.
    pub peer: Peer,
    /// Its head as it came.
    pub head: String,
}

impl Request {
    /// The first field of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::exchange::header(&self.head, name)
    }

    /// The target as it came.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

impl Manager {
    /// A manager behind TLS.
    #[must_use]
    pub fn start(setup: &Setup<'_>) -> Manager {
        Manager::with(Some(config(setup)))
    }

    /// A manager in plaintext.
    #[must_use]
    pub fn plain() -> Manager {
        Manager::with(None)
    }

    fn with(config: Option<Arc<ServerConfig>>) -> Manager {
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            begun: AtomicUsize::new(0),
            connections: Mutex::default(),
            requests: Mutex::default(),
            refused: Mutex::default(),
        });
        let server = {
            let shared = Arc::clone(&shared);
            Server::start(move |stream| shared.serve(stream))
        };
        Manager { server, shared }
    }

    /// Is set up anew, for handshakes from now on.
    ///
    /// # Panics
    /// When it speaks plaintext.
    pub fn set_up(&self, setup: &Setup<'_>) {
        let mut current = self.shared.config.lock().unwrap();
        assert!(current.is_some(), "a plaintext manager has no certificates");
        *current = Some(config(setup));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `https://localhost:PORT`, or `http://` in plaintext.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match *self.shared.config.lock().unwrap() {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://localhost:{}", self.address().port())
    }

    /// The server, for connections as such.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Handshakes begun so far: somebody sent a byte.
    #[must_use]
    pub fn handshakes_begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// The connections whose handshakes were completed, in that order.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn connections(&self) -> Vec<Peer> {
        self.shared.connections.lock().unwrap().clone()
    }

    /// The requests so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The last request for `path`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn last_for(&self, path: &str) -> Request {
        let requests = self.requests();
        let found = requests.iter().rev().find(|it| it.target() == path);
        found
            .unwrap_or_else(|| panic!("no request for {path}: {requests:?}"))
            .clone()
    }

    /// Why handshakes failed, as this side saw it.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap().clone()
    }

    /// Waits until so many handshakes have failed.
    ///
    /// # Panics
    /// After the deadline.
    pub fn await_refused(&self, count: usize) {
        wait::until("handshakes that the manager refuses", || {
            match self.refused().len() {
                n if n >= count => Ok(()),
                n => Err(format!("{n} of {count}")),
            }
        });
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let config = self.config.lock().unwrap().clone();
        let Some(config) = config else {
            self.connections.lock().unwrap().push(Peer::default());
            return self.answer(&mut stream, &Peer::default());
        };
        // Whoever connects and leaves, such as a probe, has begun nothing.
        if stream.peek(&mut [0])? == 0 {
            return Ok(());
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut stream) {
                // The alert that says why is still to be sent.
                let _ = connection.complete_io(&mut stream);
                self.refused.lock().unwrap().push(error.to_string());
                // What the client has sent meanwhile must not turn the alert into a reset.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = io::copy(&mut stream, &mut io::sink());
                return Ok(());
            }
        }
        let shown = connection
            .peer_certificates()
            .and_then(|chain| chain.first());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let peer = Peer {
            serial: shown.map(|it| authority::serial_of(it)),
            name: shown.and_then(|it| authority::name_of(it)),
            server_name: connection.server_name().map(str::to_owned),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            version: connection.protocol_version().map(|it| format!("{it:?}")),
            protocol: connection.alpn_protocol().map(text),
        };
        self.connections.lock().unwrap().push(peer.clone());
        let mut stream = StreamOwned::new(connection, stream);
        self.answer(&mut stream, &peer)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn answer(&self, stream: &mut (impl io::Read + Write), peer: &Peer) -> io::Result<()> {
        origin::serve_observed(stream, |head| {
            self.requests.lock().unwrap().push(Request {
                peer: peer.clone(),
                head: head.to_owned(),
            });
        })
    }
}

fn config(setup: &Setup<'_>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match setup.auth {
        ClientAuth::Off => builder.with_no_client_auth(),
        auth => builder.with_client_cert_verifier(Arc::new(Verifier::new(
            setup.clients,
            setup.crl,
            auth == ClientAuth::Strict,
        ))),
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(verify::Always(setup.server.certified_key())));
    config.alpn_protocols = setup
        .protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::nginx::Line;
    use super::*;
    use crate::pki::{Clients, Shown};
    use crate::tls::{Refusal, Tls, Versions};

    fn setup<'a>(
        server: &'a Pair,
        clients: &'a Clients,
        authorities: &'a [&'a Authority],
        auth: ClientAuth,
    ) -> Setup<'a> {
        Setup {
            server,
            clients: authorities,
            auth,
            crl: Some(&clients.crl),
            protocols: &[],
        }
    }

    /// What both managers have to say, before HNP comes between.
    #[test]
    fn loose_and_strict() {
        let authority = Authority::new("manager's");
        let server = authority.server(&["localhost"]);
        let clients = Clients::new("clients'");
        for auth in ClientAuth::BOTH {
            let manager = Manager::start(&setup(&server, &clients, &[&clients.authority], auth));
            for versions in [Versions::Tls12, Versions::Tls13] {
                for shown in Shown::ALL {
                    let pair = clients.pair(shown);
                    let tls = Tls::of(&[&authority], pair, versions);
                    let got = tls.get(manager.address(), "localhost", "/head");
                    let context = format!("{auth:?} {versions:?} {shown:?}: {got:?}");
                    match (shown, auth) {
                        (Shown::Valid | Shown::V1, _) | (Shown::Nothing, ClientAuth::Loose) => {
                            assert_eq!(got.unwrap().status, 200, "{context}");
                            let peer = manager.last_for("/head").peer;
                            assert_eq!(peer.serial, pair.map(Pair::serial), "{context}");
                            assert_eq!(peer.name, pair.map(Pair::name), "{context}");
                        }
                        (Shown::Nothing, _) => assert_eq!(
                            got,
                            Err(Refusal::Alert(AlertDescription::CertificateRequired)),
                            "{context}"
                        ),
                        _ => assert!(matches!(got, Err(Refusal::Alert(_))), "{context}"),
                    }
                }
            }
        }
    }

    #[test]
    fn nginx_on_and_optional() {
        let authority = Authority::new("manager's");
        let server = authority.server(&["localhost"]);
        let clients = Clients::new("clients'");
        for auth in ClientAuth::BOTH {
            let nginx = Nginx::start(&setup(&server, &clients, &[&clients.authority], auth));
            for shown in Shown::ALL {
                let pair = clients.pair(shown);
                let tls = Tls::of(&[&authority], pair, Versions::Both);
                let got = tls
                    .get(nginx.address(), "localhost", "/some?thing")
                    .unwrap();
                let context = format!("{auth:?} {shown:?}: {got:?}");
                match (shown, auth) {
                    (Shown::Valid | Shown::V1, _) => {
                        let line = Line::parse(&got.text());
                        assert_eq!(line.verify, "SUCCESS", "{context}");
                        assert_eq!(line.serial, pair.unwrap().serial(), "{context}");
                        assert_eq!(line.target, "/some?thing", "{context}");
                    }
                    (Shown::Nothing, ClientAuth::Loose) => {
                        assert_eq!(Line::parse(&got.text()).verify, "NONE", "{context}");
                    }
                    // nginx refuses in HTTP what it does not like in TLS.
                    _ => assert_eq!(got.status, 400, "{context}"),
                }
            }
        }
    }
}
