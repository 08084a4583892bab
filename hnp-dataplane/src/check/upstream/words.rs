//! What a failed step means, and what to do about it.

use super::answer::NoAnswer;
use crate::check::report::Group;
use crate::dial::{Cause, DialError, ParentFailure};
use crate::tls::HandshakeError;
use crate::tls::verify::explain;

/// There is no connection.
pub(super) fn not_dialled(group: &mut Group, part: &str, error: &DialError) {
    let (name, why, remedy) = of_cause(&error.cause);
    group.fail(name, format!("{part}: {}: {why}", error.target), remedy);
}

fn of_cause(cause: &Cause) -> (&'static str, String, &'static str) {
    let found = cause.to_string();
    match cause {
        Cause::NoSuchName => (
            "name",
            "there is no such name (NXDOMAIN)".to_owned(),
            "check its spelling in the url, and the search domains of /etc/resolv.conf",
        ),
        Cause::NoAddress => (
            "name",
            found,
            "check its spelling in the url, or have the name given an address",
        ),
        Cause::DnsTimeout(after) => (
            "name",
            format!("the name servers did not answer within {after:?}"),
            "check the name servers (dns.servers, /etc/resolv.conf) and whether UDP port 53 is let through",
        ),
        Cause::Dns(why) => (
            "name",
            format!("name resolution failed: {why}"),
            "check the name servers (dns.servers, /etc/resolv.conf)",
        ),
        Cause::NoParent => ("connection", found, "set `url` in [upstream.parent]"),
        Cause::ResolverBusy => ("name", found, "run it again"),
        Cause::Policy(_) => (
            "policy",
            found,
            "take the upstream out of policy.deny, or correct its url",
        ),
        Cause::Connect { error, .. } => (
            "connection",
            found,
            match error.raw_os_error() {
                Some(libc::ECONNREFUSED) => {
                    "check the port in the url, and whether the manager is up"
                }
                Some(libc::EACCES | libc::EPERM) => "have this host's firewall let it through",
                _ => {
                    "check the url, and this host's routes and firewall; a corporate proxy on the way goes into [upstream.parent]"
                }
            },
        ),
        Cause::ConnectTimeout { address, after, .. } => (
            "connection",
            format!(
                "{address} did not answer within {after:?}: it is down, or a firewall drops the packets"
            ),
            "check firewalls on the way; if a corporate proxy is the only way out, set [upstream.parent]",
        ),
        Cause::Local(error) => (
            "connection",
            format!("HNP cannot open a connection: {error}"),
            "raise the limit on descriptors (`ulimit -n`) or local ports",
        ),
        Cause::Parent { parent, failure } => {
            let (why, remedy) = of_parent(failure);
            (
                "parent",
                format!("the parent proxy {parent}: {why}"),
                remedy,
            )
        }
    }
}

fn of_parent(failure: &ParentFailure) -> (String, &'static str) {
    let found = failure.to_string();
    match failure {
        ParentFailure::Unreachable(cause) => {
            let (_, why, _) = of_cause(cause);
            (
                why,
                "check upstream.parent.url, and whether the proxy is up",
            )
        }
        ParentFailure::Credentials => (
            "it refuses HNP's credentials (407)".to_owned(),
            "set upstream.parent.username and password-file, or the user in its url",
        ),
        ParentFailure::Refused(status) => (
            format!("it refuses the target ({status})"),
            "have the proxy's own policy allow the target, or name it in upstream.parent.no-proxy if it can be reached directly",
        ),
        ParentFailure::Failed(_) => (
            found,
            "check the upstream's url, and the proxy's own name resolution and routes",
        ),
        ParentFailure::Malformed(_) => (found, "check host and port of upstream.parent.url"),
        ParentFailure::Closed | ParentFailure::Broken(_) | ParentFailure::Silent(_) => (
            found,
            "check upstream.parent.url (an https proxy needs https://), and look into the proxy's log",
        ),
        ParentFailure::Tls(error) => {
            let (why, remedy) = of_handshake(error);
            (format!("TLS with it failed: {why}"), remedy)
        }
    }
}

/// There is no TLS, or our certificate was refused.
pub(super) fn no_handshake(group: &mut Group, part: &str, error: &HandshakeError) {
    let (why, remedy) = of_handshake(error);
    let name = match error.code() {
        "refused" | "no_certificate" => "client-certificate",
        _ => "tls",
    };
    group.fail(name, format!("{part}: {why}"), remedy);
}

fn of_handshake(error: &HandshakeError) -> (String, &'static str) {
    let why = match error {
        HandshakeError::Tls(error) => explain::upstream(error),
        other => other.to_string(),
    };
    let remedy = match error.code() {
        "unknown_ca" => "name the authority that signed its certificate with `ca`",
        "wrong_name" => "correct the url, or set server-name to a name of its certificate",
        "expired" | "not_yet_valid" => {
            "have its certificate renewed, or correct this machine's clock"
        }
        "no_certificate" => "set certificate and key to the pair that was issued for HNP",
        "refused" => {
            "have it trust the authority that issued HNP's certificate, or set certificate and key to a pair that it trusts"
        }
        "closed" => "check that the port speaks TLS, and what stands in the way",
        "protocol" => "check that the port speaks TLS 1.2 or 1.3: an http:// url is for plaintext",
        _ => "have its certificate replaced by one that a verifier takes",
    };
    (why, remedy)
}

/// There was no answer: a late alert, or what broke the connection, or nothing but its end.
pub(super) fn no_answer(group: &mut Group, part: &str, over_tls: bool, why: &NoAnswer) {
    let why = match why {
        NoAnswer::Alert(alert) => return no_handshake(group, part, alert),
        NoAnswer::Broken(error) => format!("the connection broke before it answered: {error}"),
        NoAnswer::Closed => "it closed the connection without an answer".to_owned(),
    };
    let remedy = match over_tls {
        true => "look into its log: it may not take HNP's certificate, and not say so",
        false => "check that it speaks HTTP in plaintext: TLS needs an https:// url",
    };
    group.fail("answer", format!("{part}: {why}"), remedy);
}

/// It said by HTTP what others say in the handshake.
pub(super) fn certificate_in_answer(group: &mut Group, part: &str, shown: bool) {
    let (why, remedy) = match shown {
        true => (
            "it does not accept HNP's client certificate (400)",
            "have it trust the authority that issued it, or set certificate and key to a pair that it trusts",
        ),
        false => (
            "it wants a client certificate (400)",
            "set certificate and key to the pair that was issued for HNP",
        ),
    };
    group.fail("client-certificate", format!("{part}: {why}"), remedy);
}
