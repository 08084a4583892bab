//! A TLS client that shows any certificate it is told to and says how it was refused.

pub mod sessions;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::{ClientSessionStore, ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion,
    RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::DEADLINE;
use crate::exchange::{self, Response};
use crate::pki::{Authority, Pair, authority};

/// The versions that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
    /// Both.
    Both,
}

/// A client.
#[derive(Debug, Clone)]
pub struct Tls {
    config: ClientConfig,
}

/// How a client was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// By an alert of TLS.
    Alert(AlertDescription),
    /// By the end of the connection, with or without `close_notify`.
    Closed,
    /// By a reset.
    Reset,
    /// It is the client that refuses, or something else is wrong.
    Other(String),
}

/// TLS over a connection.
pub struct Secured<S: Read + Write>(StreamOwned<ClientConnection, S>);

impl Tls {
    /// A client that takes these authorities' servers, resumes nothing and shows no certificate.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn trusting(authorities: &[&Authority]) -> Tls {
        Tls::of(authorities, None, Versions::Both)
    }

    /// A client that takes these authorities' servers, offers these versions and shows this certificate to whoever asks.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn of(authorities: &[&Authority], shows: Option<&Pair>, versions: Versions) -> Tls {
        const TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
        const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.der().clone()).unwrap();
        }
        let offered = match versions {
            Versions::Tls12 => TLS12_ONLY,
            Versions::Tls13 => TLS13_ONLY,
            Versions::Both => BOTH,
        };
        let resolver = Shows(shows.map(Pair::certified_key));
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(offered)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(resolver));
        config.resumption = Resumption::disabled();
        Tls { config }
    }

    /// Asks this resolver for the certificate to show.
    #[must_use]
    pub fn showing(mut self, resolver: Arc<dyn ResolvesClientCert>) -> Tls {
        self.config.client_auth_cert_resolver = resolver;
        self
    }

    /// Keeps sessions there, and resumes them.
    #[must_use]
    pub fn resuming(mut self, store: Arc<dyn ClientSessionStore>) -> Tls {
        self.config.resumption = Resumption::store(store);
        self
    }

    /// Offers these application protocols.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Tls {
        self.config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Names no server in its hello.
    #[must_use]
    pub fn anonymous(mut self) -> Tls {
        self.config.enable_sni = false;
        self
    }

    /// As rustls takes it.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::new(self.config.clone())
    }

    /// Connects to `address` and asks for `name`. In TLS 1.3 a server that does not like the certificate says so only after this.
    ///
    /// # Errors
    /// How it was refused.
    pub fn connect(&self, address: SocketAddr, name: &str) -> Result<Secured<TcpStream>, Refusal> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        self.over(stream, name)
    }

    /// TLS over a connection that is there.
    ///
    /// # Errors
    /// How it was refused.
    ///
    /// # Panics
    /// When the name is none.
    pub fn over<S: Read + Write>(&self, mut stream: S, name: &str) -> Result<Secured<S>, Refusal> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.config.clone()), name)
            .map_err(|e| Refusal::Other(e.to_string()))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Secured(StreamOwned::new(connection, stream)))
    }

    /// GETs `path` on a connection of its own.
    ///
    /// # Errors
    /// How it was refused, in TLS; a refusal in HTTP is a response.
    pub fn get(&self, address: SocketAddr, name: &str, path: &str) -> Result<Response, Refusal> {
        self.connect(address, name)?.get(name, path)
    }
}

impl<S: Read + Write> Secured<S> {
    /// GETs `path`; the connection may be used again.
    ///
    /// # Errors
    /// How it was refused, in TLS.
    pub fn get(&mut self, host: &str, path: &str) -> Result<Response, Refusal> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Sends this as it is and reads a response.
    ///
    /// # Errors
    /// How it was refused, in TLS.
    pub fn ask(&mut self, request: &str) -> Result<Response, Refusal> {
        // Where the write fails, the reason may still be there to be read.
        let sent = self.0.write_all(request.as_bytes());
        match exchange::read_response(&mut self.0) {
            Ok(response) => Ok(response),
            Err(e) => {
                let refusal = Refusal::from(e);
                match (sent, &refusal) {
                    (Err(sent), Refusal::Closed) => Err(sent.into()),
                    _ => Err(refusal),
                }
            }
        }
    }

    /// Opens a tunnel to `target`: the connection behind the head of the answer.
    ///
    /// # Errors
    /// How it was refused, in TLS.
    pub fn tunnel(mut self, target: &str) -> Result<(Response, Secured<S>), Refusal> {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        self.0.write_all(head.as_bytes())?;
        let response = exchange::read_response_head(&mut self.0)?;
        Ok((response, self))
    }

    /// The serial number of the server's certificate.
    ///
    /// # Panics
    /// When it showed none.
    #[must_use]
    pub fn server_serial(&self) -> String {
        authority::serial_of(&self.0.conn.peer_certificates().unwrap()[0])
    }

    /// Whether the session continues an earlier one.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.0.conn.protocol_version()
    }

    /// The application protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.0.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// The connection underneath.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.0.sock
    }

    /// Ends its side: `close_notify`.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn end(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

impl<S: Read + Write> Read for Secured<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Read + Write> Write for Secured<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Read + Write> fmt::Debug for Secured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secured").field(&self.0.conn).finish()
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(rustls::Error::AlertReceived(alert)), _) => Refusal::Alert(*alert),
            (None, io::ErrorKind::UnexpectedEof) => Refusal::Closed,
            (None, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Refusal::Reset,
            _ => Refusal::Other(error.to_string()),
        }
    }
}

/// Shows one certificate to everyone, or none.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The serial number of the certificate in `chain`.
#[must_use]
pub fn serial(chain: &[CertificateDer<'_>]) -> Option<String> {
    chain.first().map(|it| authority::serial_of(it))
}
