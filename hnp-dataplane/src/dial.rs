//! From a target to a connected socket: resolution, Happy Eyeballs, parent proxy.

pub mod error;
pub mod no_proxy;
mod race;
