//! From a target to a connected socket: resolution, Happy Eyeballs, parent proxy.

pub mod no_proxy;
