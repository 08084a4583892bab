//! What the tests of TLS share: certificates, configurations, and peers that are rustls' own buffered connections.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::stream::Stream;
use crate::uring::{self, Mechanism, Socket};

pub(super) const BOTH: [Mechanism; 2] = [Mechanism::IoUring, Mechanism::Epoll];
pub(super) const NAME: &str = "node.example";

/// One CA, and a certificate each for a server and a client.
pub(super) struct Pki {
    roots: Arc<RootCertStore>,
    server: (CertificateDer<'static>, PrivateKeyDer<'static>),
    client: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

pub(super) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| make("HNP test CA"))
}

/// Another CA's, which nobody here trusts.
pub(super) fn stranger() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| make("Another CA"))
}

fn make(ca_name: &str) -> Pki {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, ca_name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).unwrap();
    Pki {
        roots: Arc::new(roots),
        server: leaf(NAME),
        client: leaf("client.example"),
    }
}

/// How a connection is made.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) version: &'static SupportedProtocolVersion,
    pub(super) suite: Option<SupportedCipherSuite>,
    pub(super) mutual: bool,
}

impl Terms {
    pub(super) fn tls13() -> Terms {
        Terms {
            version: &rustls::version::TLS13,
            suite: None,
            mutual: false,
        }
    }

    pub(super) fn tls12() -> Terms {
        Terms {
            version: &rustls::version::TLS12,
            ..Terms::tls13()
        }
    }

    fn provider(&self) -> Arc<rustls::crypto::CryptoProvider> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Some(suite) = self.suite {
            provider.cipher_suites = vec![suite];
        }
        Arc::new(provider)
    }

    pub(super) fn server(&self) -> ServerConfig {
        let pki = pki();
        let builder = ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[self.version])
            .unwrap();
        let builder = if self.mutual {
            let roots = Arc::clone(&pki.roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, self.provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = &pki.server;
        let mut config = builder
            .with_single_cert(vec![certificate.clone()], key.clone_key())
            .unwrap();
        config.enable_secret_extraction = true;
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        config
    }

    pub(super) fn client(&self) -> ClientConfig {
        self.client_of(pki())
    }

    /// A client that shows the certificate of `identity`, and trusts our CA.
    pub(super) fn client_of(&self, identity: &Pki) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(Arc::clone(&pki().roots));
        let mut config = if self.mutual {
            let (certificate, key) = &identity.client;
            builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.enable_secret_extraction = true;
        config
    }

    /// Every cipher suite of both versions.
    pub(super) fn all() -> Vec<Terms> {
        let suites = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
        suites
            .iter()
            .map(|suite| Terms {
                suite: Some(*suite),
                ..match suite {
                    SupportedCipherSuite::Tls12(_) => Terms::tls12(),
                    SupportedCipherSuite::Tls13(_) => Terms::tls13(),
                }
            })
            // The server's key is of P-256.
            .filter(|terms| !format!("{:?}", terms.suite).contains("RSA"))
            .collect()
    }
}

impl Pki {
    pub(super) fn client_certificate(&self) -> &CertificateDer<'static> {
        &self.client.0
    }

    pub(super) fn server_certificate(&self) -> &CertificateDer<'static> {
        &self.server.0
    }
}

/// Both ends of a TCP connection.
pub(super) fn ends() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.set_nodelay(true).unwrap();
    near.set_nodelay(true).unwrap();
    (near, far)
}

/// Runs `test` on a worker's socket, while `peer` plays the other end on a thread of its own.
pub(super) fn against<T, P>(
    mechanism: Mechanism,
    peer: impl FnOnce(TcpStream) -> P + Send + 'static,
    test: impl AsyncFnOnce(Stream) -> T,
) -> (T, P)
where
    P: Send + 'static,
{
    let (near, far) = ends();
    near.set_nonblocking(true).unwrap();
    let peer = std::thread::spawn(move || peer(far));
    let outcome = uring::run(mechanism, async {
        test(Socket::from_fd(near.into()).unwrap().into()).await
    });
    (outcome.unwrap(), peer.join().unwrap())
}

/// Bytes that do not repeat.
pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}
