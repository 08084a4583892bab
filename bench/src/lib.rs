//! Load generator, peers and the report of `cargo xtask run` and `cargo xtask bench`.
//!
//! Three processes share the machine with each measurement: the [`upstream`], the proxy under test and the [`load`] generator. The
//! one that was started by the user only waits, so that it does not cost what it measures.

pub mod child;
pub mod figures;
pub mod histogram;
pub mod intercept;
pub mod interrupt;
pub mod limits;
pub mod load;
pub mod mutual;
pub mod net;
pub mod peers;
pub mod placement;
#[cfg(feature = "reactors")]
pub mod reactor;
pub mod report;
pub mod route;
pub mod scenario;
pub mod session;
pub mod upstream;
pub mod usage;
