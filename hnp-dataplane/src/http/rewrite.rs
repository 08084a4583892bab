//! Heads as they leave HNP: rebuilt from what was understood, so that the next hop reads the same message.
//!
//! Fields that belong to one connection stay on it (RFC 9110 section 7.6.1); `Host`, `Content-Length` and `Transfer-Encoding` are
//! written anew from the parsed target and framing.

use std::io::Write as _;

use super::answer::reason_phrase;
use super::fields::{Fields, Known};
use super::head::{BodyFraming, RequestHead, RequestTarget, Version};
use super::response::ResponseHead;
use crate::decimal;

/// The name HNP goes by in `Via`.
const PSEUDONYM: &str = "hnp";

/// Fields that never pass, whether `Connection` names them or not. What a message needs of them is written anew. The length of the name
/// rules nearly all others out at once.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let is = |one: &str| name.eq_ignore_ascii_case(one.as_bytes());
    match name.len() {
        2 => is("te"),
        4 => is("host"),
        6 => is("expect"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        12 => is("max-forwards"),
        14 => is("content-length") || is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        25 => is("proxy-authentication-info"),
        _ => false,
    }
}

/// Fields that pass even where `Connection` names them: dropping them would change what the message is.
const NEVER_DROPPED: [&str; 4] = ["authorization", "cookie", "set-cookie", "via"];

/// Whether HNP passes on a wish to switch protocols. Not to HTTP/2 over cleartext: requests inside it would pass unseen where
/// each request of HTTP/1.1 is authorised.
pub(crate) fn passes_upgrade(head: &RequestHead<'_>) -> bool {
    let wish = head.upgrade();
    let h2c = |wish: &[u8]| {
        wish.split(|&b| b == b',')
            .any(|one| super::fields::trim(one).eq_ignore_ascii_case(b"h2c"))
    };
    head.framing == BodyFraming::None && wish.is_some_and(|wish| !wish.is_empty() && !h2c(wish))
}

/// How often this request went through a proxy of HNP's name already.
pub(crate) fn times_through_hnp(head: &RequestHead<'_>) -> usize {
    let is_hnp = |element: &&[u8]| {
        let mut words = element
            .split(|&b| b == b' ')
            .filter(|word| !word.is_empty());
        words.nth(1) == Some(PSEUDONYM.as_bytes())
    };
    head.fields.elements(Known::Via).filter(is_hnp).count()
}

/// The head of an absolute-form request as the origin server gets it, added to `out`.
///
/// False, and nothing is added, unless the target is in absolute-form.
#[must_use]
pub fn request_head(head: &RequestHead<'_>, out: &mut Vec<u8>) -> bool {
    let RequestTarget::Absolute {
        target,
        path_and_query,
    } = &head.target
    else {
        return false;
    };
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    match path_and_query.as_bytes().first() {
        // RFC 9112 section 3.2.4: this is how OPTIONS for the whole server is written to a proxy.
        None if head.method == "OPTIONS" => out.push(b'*'),
        Some(b'/') => {}
        _ => out.push(b'/'),
    }
    out.extend_from_slice(path_and_query.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    // Writing to a Vec cannot fail.
    let _ = match target.port {
        80 => {
            let with_port = target.to_string();
            out.write_all(
                with_port
                    .strip_suffix(":80")
                    .unwrap_or(&with_port)
                    .as_bytes(),
            )
        }
        _ => write!(out, "{target}"),
    };
    out.extend_from_slice(b"\r\n");
    request_fields(head, out, |_| false);
    out.extend_from_slice(b"\r\n");
    true
}

/// What follows the request line and `Host` on every way: the fields that go from end to end, but for those that `drops` knows by
/// name, and those that HNP writes itself. The empty line is left to the caller.
pub(super) fn request_fields(
    head: &RequestHead<'_>,
    out: &mut Vec<u8>,
    drops: impl Fn(&[u8]) -> bool,
) {
    copy_fields(out, &head.fields, |name, _| match drops(name) {
        true => Fate::Stays,
        false => Fate::Passes,
    });
    write_framing(out, head.framing, &head.fields);
    if head.expects_continue() {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if let Some(left) = head.fields.value(Known::MaxForwards) {
        write_max_forwards(out, head.method, left);
    }
    let trailers = head.fields.lists(Known::Te, "trailers");
    let upgrade = head.upgrade().filter(|_| passes_upgrade(head));
    if let Some(protocol) = upgrade {
        write_field(out, "Upgrade", protocol);
    }
    if trailers {
        write_field(out, "TE", b"trailers");
    }
    match (upgrade, trailers) {
        (Some(_), true) => write_field(out, "Connection", b"Upgrade, TE"),
        (Some(_), false) => write_field(out, "Connection", b"Upgrade"),
        (None, true) => write_field(out, "Connection", b"TE"),
        (None, false) => {}
    }
    write_via(out, head.version);
}

/// The head of a response as the client gets it, added to `out`. `close` announces that the connection ends with it; `framed` says that
/// the client understands chunks, otherwise they are taken apart on the way.
pub fn response_head(head: &ResponseHead<'_>, close: bool, framed: bool, out: &mut Vec<u8>) {
    response_head_but(head, close, framed, out, |_, _| Fate::Passes);
}

/// As [`response_head`], with the fields that go from end to end as `fate` would have them.
pub(super) fn response_head_but(
    head: &ResponseHead<'_>,
    close: bool,
    framed: bool,
    out: &mut Vec<u8>,
    fate: impl Fn(&[u8], &[u8]) -> Fate,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal::push(out, head.status.into());
    out.push(b' ');
    match head.reason {
        [] => out.extend_from_slice(reason_phrase(head.status).as_bytes()),
        reason => out.extend_from_slice(reason),
    }
    out.extend_from_slice(b"\r\n");
    copy_fields(out, &head.fields, fate);
    if framed || head.framing != BodyFraming::Chunked {
        // Only a response to HEAD and a 304 have a length without content (RFC 9110 section 8.6).
        if !matches!(head.status, 100..200 | 204) {
            write_framing(out, head.framing, &head.fields);
        }
    }
    if matches!(head.status, 101 | 426)
        && let Some(protocol) = head.fields.value(Known::Upgrade)
    {
        write_field(out, "Upgrade", protocol);
        let options: &[u8] = if close { b"Upgrade, close" } else { b"Upgrade" };
        write_field(out, "Connection", options);
    } else if close {
        write_field(out, "Connection", b"close");
    }
    write_via(out, head.version);
    out.extend_from_slice(b"\r\n");
}

/// What becomes of a field that goes from end to end.
pub(super) enum Fate {
    Passes,
    Stays,
    Becomes(Vec<u8>),
}

/// All fields that go from end to end, as `fate` would have them.
fn copy_fields(out: &mut Vec<u8>, fields: &Fields<'_>, fate: impl Fn(&[u8], &[u8]) -> Fate) {
    // Most messages name no field there, and then nothing is compared twice.
    let named = |name: &[u8]| {
        fields
            .elements(Known::Connection)
            .any(|option| option.eq_ignore_ascii_case(name))
    };
    let names_some = fields.has(Known::Connection);
    let never_dropped = |name: &[u8]| {
        NEVER_DROPPED
            .iter()
            .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
    };
    // Lines that pass as they came are copied together.
    let mut together = Run::default();
    for (line, name, value) in fields.lines() {
        let stays = is_hop_by_hop(name) || names_some && !never_dropped(name) && named(name);
        let fate = if stays {
            Fate::Stays
        } else {
            fate(name, value)
        };
        // A response's name may have blanks behind it, which must not pass (RFC 9112 section 5.1).
        let sound = line.get(name.len()) == Some(&b':');
        if matches!(fate, Fate::Passes) && sound {
            together.length += line.len();
            continue;
        }
        together.copy(fields.raw(), out);
        match fate {
            Fate::Passes => write_line(out, name, value),
            Fate::Stays => {}
            Fate::Becomes(value) => write_line(out, name, &value),
        }
        together.start += line.len();
    }
    together.copy(fields.raw(), out);
}

/// Lines that follow each other.
#[derive(Default)]
struct Run {
    start: usize,
    length: usize,
}

impl Run {
    /// Copies them, and begins anew behind them.
    fn copy(&mut self, lines: &[u8], out: &mut Vec<u8>) {
        let end = self.start + self.length;
        out.extend_from_slice(&lines[self.start..end]);
        (self.start, self.length) = (end, 0);
    }
}

fn write_framing(out: &mut Vec<u8>, framing: BodyFraming, fields: &Fields<'_>) {
    match framing {
        BodyFraming::Length(length) => write_length(out, length),
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::UntilClose => {}
        // An announced 0, and the length of what HEAD or 304 leave out.
        BodyFraming::None => {
            let announced = fields.value(Known::ContentLength);
            if let Some(length) = announced.and_then(super::head::content_length) {
                write_length(out, length);
            }
        }
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal::push(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Counted down for the two methods that know it (RFC 9110 section 7.6.2), passed otherwise. The caller has answered 0.
fn write_max_forwards(out: &mut Vec<u8>, method: &str, left: &[u8]) {
    match (method, super::head::content_length(left)) {
        ("TRACE" | "OPTIONS", Some(left)) => {
            let _ = write!(out, "Max-Forwards: {}\r\n", left.saturating_sub(1));
        }
        _ => write_field(out, "Max-Forwards", left),
    }
}

fn write_via(out: &mut Vec<u8>, received: Version) {
    for part in ["Via: ", received.number(), " ", PSEUDONYM, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    write_line(out, name.as_bytes(), value);
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
