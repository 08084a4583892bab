//! What is left of a request head once its exchange begins: nothing that borrows the buffer.

use crate::http::fields::Known;
use crate::http::head::{BodyFraming, RequestHead, Version, content_length};
use crate::http::rewrite;

/// How an exchange is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The method as far as it matters to what follows: `HEAD`, or any other.
    pub(super) is_head: bool,
    /// Whether doing it twice is as good as doing it once (RFC 9110 section 9.2.2).
    pub(super) is_idempotent: bool,
    /// `Max-Forwards` says that it goes no further, for OPTIONS and TRACE.
    pub(super) last_forward: Option<LastForward>,
    pub(super) framing: BodyFraming,
    pub(super) version: Version,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) upgrades: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastForward {
    Options,
    Trace,
}

impl Plan {
    pub(super) fn new(head: &RequestHead<'_>) -> Self {
        let idempotent = matches!(
            head.method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        );
        let last_forward = match head.method {
            "OPTIONS" => Some(LastForward::Options),
            "TRACE" => Some(LastForward::Trace),
            _ => None,
        };
        let is_last = |_: &LastForward| {
            head.fields
                .value(Known::MaxForwards)
                .and_then(content_length)
                == Some(0)
        };
        Plan {
            is_head: head.method == "HEAD",
            is_idempotent: idempotent,
            last_forward: last_forward.filter(is_last),
            framing: head.framing,
            version: head.version,
            keeps_alive: head.keeps_alive(),
            expects_continue: head.expects_continue(),
            upgrades: rewrite::passes_upgrade(head),
        }
    }

    /// Stands for a request whose head could not be read.
    pub(super) fn unread() -> Self {
        Plan {
            is_head: false,
            is_idempotent: false,
            last_forward: None,
            framing: BodyFraming::None,
            version: Version::Http11,
            keeps_alive: false,
            expects_continue: false,
            upgrades: false,
        }
    }

    /// A method that makes a response be read as that of the request's own.
    pub(super) fn method(&self) -> &'static str {
        if self.is_head { "HEAD" } else { "GET" }
    }

    /// Whether the client understands chunks and interim responses.
    pub(super) fn knows_http11(&self) -> bool {
        self.version == Version::Http11
    }
}
