//! Metrics, health and the effective configuration, on an address of their own.
//!
//! Workers write into cells of their own ([`metrics`]) and tell [`health`] that they are alive; only a scrape or a probe
//! reads them, on the control thread.

pub mod health;
pub mod metrics;
pub mod names;
pub mod probe;
pub mod server;

#[cfg(test)]
mod reference;

pub use health::{Health, Heartbeat};
pub use metrics::{ActiveGuard, Metrics, TunnelGuard, WorkerMetrics};
pub use server::{AdminServer, State};
