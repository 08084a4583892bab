//! The configuration: a TOML file, the environment and flags over it, checked before anything starts.
//!
//! [`load()`] reads the [`Sources`] and says everything that is wrong with them at once; [`model::Config`] is what is left
//! when nothing is. `docs/configuration.md` is the users' view of the same.

mod certificates;
mod checks;
mod diagnostic;
mod document;
mod files;
mod fingerprint;
mod layers;
mod load;
pub mod model;
mod schema;
mod show;
pub mod units;
mod validate;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use diagnostic::{ConfigError, Diagnostic, Place, Severity};
pub use fingerprint::Fingerprint;
pub use layers::{Environment, Flags, HNP_CONFIG, PROXY_URL, Sources};
pub use load::{Loaded, load, load_any};
pub use model::Config;
