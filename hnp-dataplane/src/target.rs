//! What a client asks for: a host and a port, not yet resolved.

mod parse;

pub use parse::TargetError;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host and a port that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name or address, as asked for.
    pub host: Host,
    /// TCP port, never 0.
    pub port: u16,
}

/// Name or address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name: lower case, no trailing dot, only characters that RFC 1123 (and `_`) allow.
    Name(Box<str>),
    /// A literal address; an IPv4-mapped IPv6 address stays IPv6 here.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(v6)) => write_v6(f, v6, self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

fn write_v6(f: &mut fmt::Formatter<'_>, v6: &Ipv6Addr, port: u16) -> fmt::Result {
    write!(f, "[{v6}]:{port}")
}
