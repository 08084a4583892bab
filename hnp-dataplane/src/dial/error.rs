//! Why there is no connection: for the client's answer (status, RFC 9209), the log line and the metric.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::http::proxy_status::ErrorType;
use crate::policy::Reason;
use crate::target::Target;
use crate::tls::HandshakeError;

/// Why there is no connection to a target. Prints as one sentence: who, what, why, what to do.
#[derive(Debug, Error)]
#[error("{target}: {cause}")]
pub struct DialError {
    /// What was asked for.
    pub target: Target,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong on the way to a target.
#[derive(Debug, Error)]
pub enum Cause {
    /// The policy allows none of its addresses.
    #[error("refused by policy: {0}")]
    Policy(Reason),
    /// The name servers did not answer in time.
    #[error("name resolution got no answer within {} (`timeouts.resolve`): check the name servers (`dns.servers`, /etc/resolv.conf)", Span(.0))]
    DnsTimeout(Duration),
    /// NXDOMAIN.
    #[error(
        "there is no such name (NXDOMAIN): check its spelling, and the search domains of /etc/resolv.conf"
    )]
    NoSuchName,
    /// The name exists, without A and AAAA records.
    #[error("the name has no address (neither A nor AAAA records)")]
    NoAddress,
    /// A name server's failure.
    #[error(
        "name resolution failed: {0}: check the name servers (`dns.servers`, /etc/resolv.conf)"
    )]
    Dns(String),
    /// More names at once than HNP resolves.
    #[error("HNP is resolving too many names at once: try again")]
    ResolverBusy,
    /// Every attempt to connect failed; the most telling failure.
    #[error("{} {address}{}", Failure(.error), Others(.tried))]
    Connect {
        /// The address that failed so.
        address: SocketAddr,
        /// How many addresses were tried.
        tried: usize,
        /// Its failure.
        error: io::Error,
    },
    /// No attempt came to an end in time.
    #[error("{address} did not answer within {}{}: it is down, or a firewall drops the packets (`timeouts.connect`)", Span(.after), Others(.tried))]
    ConnectTimeout {
        /// The address tried last.
        address: SocketAddr,
        /// How many addresses were tried.
        tried: usize,
        /// `timeouts.connect`.
        after: Duration,
    },
    /// HNP itself is out of something.
    #[error(
        "HNP cannot open a connection: {0}: raise the limit on descriptors (`ulimit -n`) or local ports, or lower `limits.connections`"
    )]
    Local(io::Error),
    /// A rule wants a parent proxy where there is none.
    #[error("there is no parent proxy: set `url` in [upstream.parent]")]
    NoParent,
    /// Something on the way to, or of, the parent proxy.
    #[error("parent proxy {parent}: {failure}")]
    Parent {
        /// `host:port` of the parent.
        parent: Box<str>,
        /// What went wrong there.
        failure: ParentFailure,
    },
}

/// What went wrong with the parent proxy.
#[derive(Debug, Error)]
pub enum ParentFailure {
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(Box<Cause>),
    /// It answers 407: HNP's credentials for it are missing or wrong.
    #[error(
        "it refuses HNP's credentials (407): set `upstream.parent.username` and `password-file`, or the user in its url"
    )]
    Credentials,
    /// It answers 4xx.
    #[error("it refuses the target ({0}): its own policy has to allow it")]
    Refused(u16),
    /// It answers 5xx: it cannot reach the target.
    #[error("it cannot reach the target ({0})")]
    Failed(u16),
    /// It answers something that is not an answer to CONNECT.
    #[error("its answer to CONNECT is not one ({0}): is it an HTTP proxy?")]
    Malformed(String),
    /// It closed the connection instead of answering.
    #[error("it closed the connection instead of answering CONNECT")]
    Closed,
    /// The connection to it broke.
    #[error("the connection broke before it answered CONNECT: {0}")]
    Broken(io::Error),
    /// The TLS handshake with it failed.
    #[error("TLS with it failed: {0}")]
    Tls(HandshakeError),
    /// It did not answer in time.
    #[error("it did not answer CONNECT within {} (`timeouts.connect`)", Span(.0))]
    Silent(Duration),
}

/// The side at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client asked for what it may not have.
    Policy,
    /// The name servers.
    Dns,
    /// The target.
    Upstream,
    /// The parent proxy.
    Parent,
    /// HNP or its configuration.
    Hnp,
}

impl Side {
    /// Metric label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Side::Policy => "policy",
            Side::Dns => "dns",
            Side::Upstream => "upstream",
            Side::Parent => "parent",
            Side::Hnp => "hnp",
        }
    }
}

impl DialError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.cause.answer().0
    }

    /// The error type for `Proxy-Status` (RFC 9209 section 2.3).
    #[must_use]
    pub fn error_type(&self) -> ErrorType {
        self.cause.answer().1
    }

    /// Who is at fault.
    #[must_use]
    pub fn side(&self) -> Side {
        self.cause.answer().2
    }

    /// Metric label: the policy's reason, or the error type.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.cause {
            Cause::Policy(reason) => reason.code(),
            _ => self.error_type().token(),
        }
    }
}

impl Cause {
    /// From the error of one or more attempts to connect.
    pub(super) fn connect(address: SocketAddr, tried: usize, error: io::Error) -> Cause {
        match error.raw_os_error() {
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN,
            ) => Cause::Local(error),
            _ => Cause::Connect {
                address,
                tried,
                error,
            },
        }
    }

    fn answer(&self) -> (u16, ErrorType, Side) {
        match self {
            Cause::Policy(Reason::SpecialAddress { .. } | Reason::DeniedAddress { .. }) => {
                (403, ErrorType::DestinationIpProhibited, Side::Policy)
            }
            Cause::Policy(_) => (403, ErrorType::HttpRequestDenied, Side::Policy),
            Cause::DnsTimeout(_) => (504, ErrorType::DnsTimeout, Side::Dns),
            Cause::NoSuchName | Cause::NoAddress | Cause::Dns(_) => {
                (502, ErrorType::DnsError, Side::Dns)
            }
            Cause::ResolverBusy | Cause::Local(_) | Cause::NoParent => {
                (503, ErrorType::ProxyInternalError, Side::Hnp)
            }
            Cause::ConnectTimeout { .. } => (504, ErrorType::ConnectionTimeout, Side::Upstream),
            Cause::Connect { error, .. } => match error.raw_os_error() {
                Some(libc::ECONNREFUSED) => (502, ErrorType::ConnectionRefused, Side::Upstream),
                Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::EPERM) => {
                    (502, ErrorType::DestinationIpUnroutable, Side::Upstream)
                }
                Some(libc::ETIMEDOUT) => (504, ErrorType::ConnectionTimeout, Side::Upstream),
                Some(libc::ECONNRESET | libc::EPIPE) => {
                    (502, ErrorType::ConnectionTerminated, Side::Upstream)
                }
                _ => (502, ErrorType::DestinationUnavailable, Side::Upstream),
            },
            Cause::Parent { failure, .. } => failure.answer(),
        }
    }
}

impl ParentFailure {
    fn answer(&self) -> (u16, ErrorType, Side) {
        match self {
            ParentFailure::Unreachable(cause) => {
                let (status, error_type, side) = cause.answer();
                (
                    status,
                    error_type,
                    if side == Side::Upstream {
                        Side::Parent
                    } else {
                        side
                    },
                )
            }
            ParentFailure::Credentials => (502, ErrorType::ProxyConfigurationError, Side::Hnp),
            ParentFailure::Refused(403) => (403, ErrorType::HttpRequestDenied, Side::Parent),
            ParentFailure::Refused(_) => (502, ErrorType::HttpRequestDenied, Side::Parent),
            ParentFailure::Failed(504) => (504, ErrorType::ConnectionTimeout, Side::Upstream),
            ParentFailure::Failed(503) => (503, ErrorType::DestinationUnavailable, Side::Upstream),
            ParentFailure::Failed(_) => (502, ErrorType::DestinationUnavailable, Side::Upstream),
            ParentFailure::Malformed(_) => (502, ErrorType::HttpProtocolError, Side::Parent),
            ParentFailure::Closed => (502, ErrorType::HttpResponseIncomplete, Side::Parent),
            ParentFailure::Broken(_) => (502, ErrorType::ConnectionTerminated, Side::Parent),
            ParentFailure::Tls(_) => (502, ErrorType::TlsProtocolError, Side::Parent),
            ParentFailure::Silent(_) => (504, ErrorType::HttpResponseTimeout, Side::Parent),
        }
    }
}

struct Span<'a>(&'a Duration);

impl std::fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

struct Others<'a>(&'a usize);

impl std::fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self.0 > 1 {
            write!(
                f,
                " (the most telling failure of {} addresses tried)",
                self.0
            )
        } else {
            Ok(())
        }
    }
}

/// The first words about a failed attempt; the address follows.
struct Failure<'a>(&'a io::Error);

impl std::fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(libc::ECONNREFUSED) => f.write_str("connection refused, nothing listens on"),
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => {
                f.write_str("no route from this host to")
            }
            Some(libc::EACCES | libc::EPERM) => {
                f.write_str("a local firewall forbids connections to")
            }
            Some(libc::ETIMEDOUT) => f.write_str("no answer from"),
            Some(libc::ECONNRESET) => f.write_str("connection reset by"),
            _ => write!(f, "{} at", self.0),
        }
    }
}
