//! The node under test and what surrounds it: fake upstreams, real clients, measurements of leaks.
//!
//! Everything here blocks and everything is a guard: dropping a [`Node`], a server or a port gives it back. Whoever waits, waits for
//! an event with a deadline ([`DEADLINE`]) that a healthy machine never comes near, and says what it waited for when it gives up.
#![allow(
    clippy::unwrap_used,
    reason = "a harness that cannot go on should stop the test right there"
)]

use std::time::Duration;

pub mod bin;
pub mod client;
pub mod dns;
pub mod exchange;
pub mod manager;
pub mod material;
pub mod node;
pub mod origin;
pub mod parent;
pub mod pki;
pub mod pod;
pub mod port;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod server;
pub mod tls;
pub mod wait;
pub mod websocket;

pub use client::{Tunnel, connect};
pub use node::{Node, NodeBuilder};
pub use port::Port;
pub use server::Server;

/// How long anything is waited for. Generous, so that a loaded machine is not a failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// As long as this, times the whole number in `HNP_TEST_PATIENCE`, which is 1 where there is none: emulated machines are slow.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    match std::env::var("HNP_TEST_PATIENCE") {
        Ok(times) => limit * times.parse::<u32>().unwrap(),
        Err(_) => limit,
    }
}
