//! What one line says.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Clock, Line};
use crate::config::model::LogFormat;
use crate::target::Target;

/// Which side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClosedBy {
    /// The client.
    Client,
    /// The target, or the parent proxy on the way to it.
    Upstream,
    /// HNP itself: a refusal, a timeout, a limit, a drain.
    Hnp,
}

impl ClosedBy {
    /// As in the log line and the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ClosedBy::Client => "client",
            ClosedBy::Upstream => "upstream",
            ClosedBy::Hnp => "hnp",
        }
    }
}

/// What policy made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Allowed.
    Allow,
    /// Refused.
    Deny,
    /// Let pass because policy only reports; enforcing would have refused it.
    Report,
}

impl Verdict {
    /// From what happens and whether it would have been refused.
    #[must_use]
    pub fn new(allowed: bool, reported: bool) -> Verdict {
        match (allowed, reported) {
            (_, true) => Verdict::Report,
            (true, false) => Verdict::Allow,
            (false, false) => Verdict::Deny,
        }
    }

    /// As in the log line and the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Report => "report",
        }
    }
}

/// One connection, or one forwarded request, at its end.
///
/// There is no field for a query string or a credential, and none may be put into another field.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// The worker, counted from 0; absent of what the kernel has dealt with.
    pub worker: Option<usize>,
    /// Number of the client connection, unique in the life of the process, below 2^53 (what JSON readers keep exactly).
    pub connection: Option<u64>,
    /// The client; absent of a connection that was refused before it had an address.
    pub client: Option<SocketAddr>,
    /// Who the client proved to be.
    pub identity: Option<&'a str>,
    /// Version of TLS: `1.2` or `1.3`. Absent: plaintext, or the handshake was not completed.
    pub tls: Option<&'a str>,
    /// Whether the TLS session continues an earlier one.
    pub resumed: Option<bool>,
    /// The server name that the client asked for in its TLS handshake.
    pub sni: Option<&'a str>,
    /// The dedicated endpoint that it reached.
    pub endpoint: Option<&'a str>,
    /// The HTTP version that it speaks: `http/1.1` or `h2`.
    pub protocol: Option<&'a str>,
    /// How the connection was served: `tunnel`, `forward`, `reverse-proxy`, `end-to-end-mtls` or `endpoint`. Absent: it ended
    /// before that was known.
    pub mode: Option<&'a str>,
    /// Where it was captured.
    pub captured: Option<CapturedEntry<'a>>,
    /// Request method.
    pub method: Option<&'a str>,
    /// What was asked for.
    pub target: Option<&'a Target>,
    /// Path of a forwarded request. A query or fragment in it is cut off before it is written.
    pub path: Option<&'a str>,
    /// What policy decided, if it came to that.
    pub decision: Option<Verdict>,
    /// Code of the reason for the decision.
    pub reason: Option<&'a str>,
    /// The address that was dialled: the target's, or the parent proxy's.
    pub address: Option<SocketAddr>,
    /// Parent proxy on the way, `host:port`.
    pub parent: Option<&'a str>,
    /// HTTP status sent to the client.
    pub status: Option<u16>,
    /// Payload bytes written to the target.
    pub bytes_up: u64,
    /// Payload bytes written to the client.
    pub bytes_down: u64,
    /// Time for name resolution.
    pub resolve: Option<Duration>,
    /// Time from the first connection attempt to a connection.
    pub connect: Option<Duration>,
    /// Time from accept (or the request's first byte) to the end.
    pub duration: Duration,
    /// Which side ended it; absent where only the kernel saw it.
    pub closed_by: Option<ClosedBy>,
    /// Code of why it ended.
    pub close_reason: &'a str,
    /// A sentence for people: what failed, on what.
    pub detail: Option<&'a str>,
}

/// What the line of a pod's connection says besides.
#[derive(Debug, Clone, Copy)]
pub struct CapturedEntry<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// The thread that connected.
    pub process: &'a str,
    /// Its process.
    pub pid: u32,
    /// Where it connected to.
    pub original: SocketAddr,
    /// The name it asked for there.
    pub name: Option<&'a str>,
    /// The rule that decided, from 1; 0 where none matched.
    pub rule: u32,
    /// What was done.
    pub action: Option<&'a str>,
}

/// A field of the line, for the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// Whether each line has it.
    pub always: bool,
    /// Its meaning, the unit included.
    pub help: &'static str,
}

const fn field(name: &'static str, always: bool, help: &'static str) -> Field {
    Field { name, always, help }
}

/// Every field, in the order of a line.
pub const FIELDS: &[Field] = &[
    field(
        "time",
        true,
        "when the connection ended, RFC 3339 in UTC with microseconds",
    ),
    field(
        "log",
        true,
        "always `access`: tells these lines from operational ones where both are collected",
    ),
    field(
        "worker",
        false,
        "worker thread, counted from 0; absent of an intercepted connection that the kernel has dealt with",
    ),
    field(
        "connection",
        false,
        "number of the client connection, unique in the life of the process",
    ),
    field("client", false, "address and port of the client"),
    field("identity", false, "who the client proved to be"),
    field(
        "tls",
        false,
        "version of TLS with the client, `1.2` or `1.3`",
    ),
    field(
        "resumed",
        false,
        "`true` if the TLS session continues an earlier one, else `false`",
    ),
    field(
        "sni",
        false,
        "server name that the client asked for in its TLS handshake",
    ),
    field(
        "endpoint",
        false,
        "server name of the dedicated endpoint that it reached",
    ),
    field(
        "protocol",
        false,
        "HTTP version with the client where it was negotiated, `http/1.1` or `h2`",
    ),
    field(
        "mode",
        false,
        "how the connection was served: `tunnel`, `forward`, `reverse-proxy`, `end-to-end-mtls`, `endpoint` or `intercept`",
    ),
    field(
        "pod",
        false,
        "intercepted connections: the pod, by its uid or the last part of its cgroup's path",
    ),
    field(
        "process",
        false,
        "intercepted connections: name of the thread that connected, which it may have chosen itself",
    ),
    field(
        "pid",
        false,
        "intercepted connections: process that connected, as the host numbers it",
    ),
    field(
        "original",
        false,
        "intercepted connections: address and port that it connected to",
    ),
    field(
        "name",
        false,
        "intercepted connections: name that it asked for by SNI or `Host`, if the client spoke first",
    ),
    field(
        "rule",
        false,
        "intercepted connections: rule of `[[intercept.rules]]` that decided, from 1; 0 where none matched",
    ),
    field(
        "action",
        false,
        "intercepted connections: `relay`, `tunnel`, `mtls`, `direct` or `deny`",
    ),
    field("method", false, "request method"),
    field("target", false, "host and port asked for"),
    field(
        "path",
        false,
        "path of a forwarded request, never its query",
    ),
    field(
        "decision",
        false,
        "`allow`, `deny`, or `report`: let pass, but enforcing would have denied it",
    ),
    field("reason", false, "code of the reason for the decision"),
    field(
        "address",
        false,
        "address and port that were dialled, the target's or the parent proxy's",
    ),
    field("parent", false, "parent proxy on the way, host and port"),
    field("status", false, "HTTP status sent to the client"),
    field(
        "bytes_up",
        true,
        "payload bytes relayed from the client to the target",
    ),
    field(
        "bytes_down",
        true,
        "payload bytes relayed from the target to the client",
    ),
    field("resolve_ms", false, "milliseconds for name resolution"),
    field(
        "connect_ms",
        false,
        "milliseconds from the first connection attempt to a connection",
    ),
    field(
        "duration_ms",
        true,
        "milliseconds from accept (or the request's first byte) to the end",
    ),
    field(
        "closed_by",
        false,
        "side that ended it: `client`, `upstream` or `hnp`",
    ),
    field("close_reason", true, "code of why it ended"),
    field(
        "detail",
        false,
        "a sentence for people: what failed, on what",
    ),
];

impl<'a> Entry<'a> {
    /// An entry of which nothing but these is known, aborted by HNP now.
    #[must_use]
    pub fn new(worker: usize, connection: u64, client: SocketAddr) -> Entry<'a> {
        Entry {
            time: SystemTime::now(),
            worker: Some(worker),
            connection: Some(connection),
            client: Some(client),
            identity: None,
            tls: None,
            resumed: None,
            sni: None,
            endpoint: None,
            protocol: None,
            mode: None,
            captured: None,
            method: None,
            target: None,
            path: None,
            decision: None,
            reason: None,
            address: None,
            parent: None,
            status: None,
            bytes_up: 0,
            bytes_down: 0,
            resolve: None,
            connect: None,
            duration: Duration::ZERO,
            closed_by: Some(ClosedBy::Hnp),
            close_reason: "aborted",
            detail: None,
        }
    }

    /// Of a connection that the kernel has dealt with.
    #[must_use]
    pub fn of_kernel(captured: CapturedEntry<'a>, client: Option<SocketAddr>) -> Entry<'a> {
        Entry {
            worker: None,
            connection: None,
            client,
            mode: Some("intercept"),
            captured: Some(captured),
            closed_by: None,
            ..Entry::new(0, 0, captured.original)
        }
    }

    /// Appends the line to `buffer`. Allocates only to grow it, or for a target with odd characters.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, format: LogFormat, clock: &mut Clock) {
        let mut line = Line::begin(buffer, format);
        line.word("time", &clock.format(self.time));
        line.word("log", b"access");
        if let Some(worker) = self.worker {
            line.number("worker", worker as u64);
        }
        if let Some(connection) = self.connection {
            line.number("connection", connection);
        }
        if let Some(client) = self.client {
            line.address("client", client);
        }
        let string = |line: &mut Line<'_>, key, value: Option<&str>| {
            if let Some(value) = value {
                line.string(key, value);
            }
        };
        string(&mut line, "identity", self.identity);
        string(&mut line, "tls", self.tls);
        if let Some(resumed) = self.resumed {
            line.literal("resumed", resumed);
        }
        string(&mut line, "sni", self.sni);
        string(&mut line, "endpoint", self.endpoint);
        string(&mut line, "protocol", self.protocol);
        string(&mut line, "mode", self.mode);
        if let Some(captured) = &self.captured {
            line.string("pod", captured.pod);
            line.string("process", captured.process);
            line.number("pid", captured.pid.into());
            line.address("original", captured.original);
            string(&mut line, "name", captured.name);
            line.number("rule", captured.rule.into());
            string(&mut line, "action", captured.action);
        }
        string(&mut line, "method", self.method);
        if let Some(target) = self.target {
            line.display("target", target);
        }
        if let Some(path) = self.path {
            line.string("path", without_query(path));
        }
        if let Some(decision) = self.decision {
            line.word("decision", decision.as_str().as_bytes());
        }
        if let Some(reason) = self.reason {
            line.string("reason", reason);
        }
        if let Some(address) = self.address {
            line.address("address", address);
        }
        if let Some(parent) = self.parent {
            line.string("parent", parent);
        }
        if let Some(status) = self.status {
            line.number("status", status.into());
        }
        line.number("bytes_up", self.bytes_up);
        line.number("bytes_down", self.bytes_down);
        if let Some(resolve) = self.resolve {
            line.milliseconds("resolve_ms", resolve);
        }
        if let Some(connect) = self.connect {
            line.milliseconds("connect_ms", connect);
        }
        line.milliseconds("duration_ms", self.duration);
        if let Some(closed_by) = self.closed_by {
            line.word("closed_by", closed_by.as_str().as_bytes());
        }
        line.string("close_reason", self.close_reason);
        if let Some(detail) = self.detail {
            line.string("detail", detail);
        }
        line.end();
    }
}

/// Tokens travel in query strings: whatever a caller passes, none gets into a line.
fn without_query(path: &str) -> &str {
    path.find(['?', '#']).map_or(path, |end| &path[..end])
}

#[cfg(test)]
mod tests;
