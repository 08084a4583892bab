//! TLS: handshakes by rustls, records by a layer of our own on buffers that the worker owns.

pub mod client;
mod failure;
mod handshake;
mod handshakes;
pub mod identity;
pub mod ktls;
pub mod material;
pub mod memory;
mod record;
pub mod server;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod verify;

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use crate::config::model::TlsVersion;

pub use client::{Alpn, Client, Clients};
pub use failure::alert;
pub use handshake::{HandshakeError, Hello, accept, connect, peek, refusal};
pub use handshakes::{Handshakes, Ticket};
pub use identity::Identity;
pub use material::{Loaded, Role, TlsConfigError};
pub use record::RecordError;
pub use server::{Endpoint, Server, files};
pub use stream::{Session, TlsStream};

/// The cryptography of every connection: aws-lc-rs with its own choice of suites and groups.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// From a least version on, the newest first.
fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    match least {
        TlsVersion::Tls12 => &BOTH,
        TlsVersion::Tls13 => &BOTH[..1],
    }
}
