//! Mutual TLS: HNP beside HAProxy, nginx and Envoy, between a generator and a manager that both speak it.
//!
//! Everybody uses TLS 1.3 with TLS_AES_128_GCM_SHA256, X25519 and P-256 certificates signed by one CA: generator and manager offer
//! nothing else. What counts is what a proxy's own processes use; generator and manager are made cheap (see `wire`), so that it is
//! the proxy that is busy.

mod load;
mod manager;
mod peers;
mod pki;
mod report;
mod scenario;
mod session;
mod verdict;
mod wire;

pub use load::generate;
pub use manager::serve as manager;
pub use peers::{HNP, OTHERS, Peer, relay};
pub use report::{conclude, print, write_json};
pub use scenario::{ALL, Scenario};
pub use session::Plan;

/// The name of the relay that does nothing but receive and send.
pub(crate) const RELAY: &str = peers::RELAY.name;
