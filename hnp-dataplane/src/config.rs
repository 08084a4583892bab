//! The configuration: a TOML file, the environment and flags over it, checked before anything starts.

pub mod model;
pub mod units;

pub use model::Config;
