//! Handshakes in memory with what the configuration compiles to.

mod clients;
mod handshake;
mod identity;
mod loading;
mod pki;
mod reload;
mod revocation;
mod tickets;
mod upstream;
mod verdicts;
