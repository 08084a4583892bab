//! Installs what a verb needs and this machine lacks, and says what and why.
//!
//! Every function here is cheap when there is nothing to do (a few `stat` calls), may be called again and again, and
//! touches only what it names: Rust components and cargo tools go where rustup and cargo keep theirs, Debian packages
//! to the system (without starting a service), Python and Node packages below `target`.

mod debian;
mod packages;
mod rust;

#[allow(unused_imports, reason = "the verbs that use them arrive one by one")]
pub(crate) use self::{
    debian::{Debian, debian},
    packages::{go_tool, npm, python_venv},
    rust::{CARGO_DENY, CARGO_FUZZ, CargoTool, bpf_tools, cargo_tool, nightly, rust_component},
};
