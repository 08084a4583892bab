//! TLS: handshakes by rustls, records by a layer of our own on buffers that the worker owns.

mod handshake;
mod stream;

pub use handshake::{HandshakeError, Hello, accept, connect};
pub use stream::{Session, TlsStream};
