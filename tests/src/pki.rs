//! Certificate authorities and what they issue, made anew each time.

pub mod authority;
pub mod clients;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

pub use authority::{Authority, Leaf, Pair};
pub use clients::{Clients, Shown};

/// An authority, the certificate it issued for `localhost` and 127.0.0.1, and all as files.
#[derive(Debug)]
pub struct Pki {
    directory: TempDir,
    config: Arc<ServerConfig>,
}

impl Pki {
    /// Makes both.
    ///
    /// # Panics
    /// When keys cannot be made.
    #[must_use]
    pub fn new() -> Pki {
        let authority = Authority::new("hnp-tests authority");
        let server = authority.server(&["localhost", "127.0.0.1", "origin.test"]);
        let directory = tempfile::Builder::new()
            .prefix("hnp-test-pki")
            .tempdir()
            .unwrap();
        fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        server.write(directory.path(), "server");

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                server.chain(),
                PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap(),
            )
            .unwrap();
        Pki {
            directory,
            config: Arc::new(config),
        }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Default for Pki {
    fn default() -> Self {
        Pki::new()
    }
}
