//! A handshake between a client and a server of rustls, in memory.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::pki::Shown;
use crate::tls::{Hello, Identity, Server, Session, provider};

/// What became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) client: Result<(), Error>,
    pub(super) server: Result<(), Error>,
    /// What the server's side has agreed on.
    pub(super) session: Option<Session>,
}

impl Outcome {
    /// The alert that the client got.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        match self.client {
            Err(Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }

    pub(super) fn resumed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.resumed)
    }

    /// Who the server takes the client for.
    pub(super) fn identity(&self, server: &Server) -> Option<Arc<Identity>> {
        let session = self.session.as_ref().unwrap();
        server.verify_identity(session).unwrap()
    }
}

pub(super) const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
pub(super) const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// A client that trusts an authority and shows a certificate, of whatever version.
pub(super) fn client(
    ca: &str,
    shown: Option<&Shown>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(shown) => {
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
            let key = provider().key_provider.load_private_key(key).unwrap();
            let pair = CertifiedKey::new(shown.ders(), key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(16);
    config
}

/// With the endpoint that the server chooses for the name.
pub(super) fn with(client: &ClientConfig, name: &'static str, server: &Server) -> Outcome {
    let hello = Hello {
        server_name: Some(name.into()),
        alpn: Vec::new(),
    };
    let endpoint = server.choose(&hello).unwrap();
    run(client, name, &endpoint.config)
}

pub(super) fn run(
    client: &ClientConfig,
    name: &'static str,
    server: &Arc<ServerConfig>,
) -> Outcome {
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(client.clone()), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    // The client speaks first, also after the handshake: what comes back shows whether it was let in.
    client.writer().write_all(b"?").unwrap();
    let mut answered = false;
    loop {
        let mut moved = 0;
        let mut wire = Vec::new();
        moved += client.write_tls(&mut wire).unwrap();
        if at_server.is_ok() {
            take(&wire, |wire| server.read_tls(wire));
            at_server = server.process_new_packets().map(|_| ());
        }
        let mut byte = [0];
        if at_server.is_ok() && !answered && server.reader().read(&mut byte).is_ok_and(|n| n == 1) {
            server.writer().write_all(b"!").unwrap();
            answered = true;
        }
        let mut wire = Vec::new();
        moved += server.write_tls(&mut wire).unwrap();
        if at_client.is_ok() {
            take(&wire, |wire| client.read_tls(wire));
            at_client = client.process_new_packets().map(|_| ());
        }
        if moved == 0 {
            break;
        }
    }
    let session = (at_client.is_ok() && at_server.is_ok()).then(|| {
        assert!(answered, "the handshake stands still");
        Session {
            version: server.protocol_version().unwrap(),
            suite: server.negotiated_cipher_suite().unwrap(),
            alpn: server.alpn_protocol().map(Into::into),
            server_name: server.server_name().map(Into::into),
            resumed: server.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: server.peer_certificates().unwrap_or_default().to_vec(),
        }
    });
    Outcome {
        client: at_client,
        server: at_server,
        session,
    }
}

/// Hands over all of the bytes.
fn take(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}
