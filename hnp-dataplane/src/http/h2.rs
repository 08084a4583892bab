//! HTTP/2 (RFC 9113): requests of clients, each a stream, passed on over HTTP/2 or HTTP/1.1.
//!
//! ```text
//! client ──connection──▶ server ──a task a stream──▶ exchange ──▶ upstream: a stream of a connection that the worker's
//!                                                       ▲   │                requests share
//!                                          translate ───┘   └───▶ plain: an HTTP/1.1 connection to itself
//! ```
//!
//! A client of HTTP/1.1 whose upstream is reached by HTTP/2 alone is the same picture with `asker` on the left; the requests of its
//! connection come one after the other, as the loop of [`super::forward`] reads them.
//!
//! The library `h2` frames; what it is told of the network is in `io`. Content passes as it comes, in both directions at once, and
//! no more of it is taken from one side than the other has room for: capacity is given back when the other side has taken the
//! bytes. Each stream holds at most its window (see [`server`] and [`upstream`]) in either direction.
//!
//! The rules for heads are those of HTTP/1.1: a request is written as its HTTP/1.1 equivalent (RFC 9113 section 8.3), read as strictly as
//! any other and rewritten by the same code, and only then becomes HTTP/2 again where the upstream speaks that.

pub(crate) mod asker;
pub(crate) mod content;
pub(crate) mod exchange;
mod io;
pub(crate) mod message;
pub(crate) mod plain;
pub(crate) mod raw;
mod reader;
pub mod server;
pub(crate) mod stream;
pub(crate) mod translate;
pub mod upstream;
