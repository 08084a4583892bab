//! HNP's data plane: every connection takes one path, whatever its mode.
//!
//! accept → identify → authorize → connect → relay → account

pub mod access_log;
pub mod admin;
pub(crate) mod certs;
pub(crate) mod check;
pub mod cli;
pub mod config;
pub mod control;
pub(crate) mod decimal;
pub mod dial;
pub(crate) mod exec;
pub mod flow;
pub mod http;
pub mod intercept;
pub(crate) mod observe;
pub mod origin;
pub mod policy;
pub mod redirect;
pub mod relay;
pub mod run;
pub mod signal;
pub mod stream;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod uring;
pub mod worker;
