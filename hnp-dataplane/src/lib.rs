//! HNP's data plane: every connection takes one path, whatever its mode.
//!
//! accept → identify → authorize → connect → relay → account

pub mod config;
