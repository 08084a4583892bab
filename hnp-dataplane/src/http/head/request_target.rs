//! The target of a request line, in its four forms (RFC 9112 section 3.2).

use super::error::HeadError;
use crate::target::Target;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget<'a> {
    /// `host:port`: CONNECT.
    Authority(Target),
    /// `http://host[:port]/path?query`: to be forwarded.
    Absolute {
        /// Where to, port 80 unless given.
        target: Target,
        /// The rest, as it came: empty, or begins with `/` or `?`. Never to be logged past the `?`.
        path_and_query: &'a str,
    },
    /// `/path?query`: for a web server. Never to be logged past the `?`.
    Origin(&'a str),
    /// `*`: OPTIONS for the server as a whole.
    Asterisk,
}

impl<'a> RequestTarget<'a> {
    pub(super) fn parse(method: &str, text: &'a str) -> Result<Self, HeadError> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HeadError::TargetCharacter);
        }
        if method == "CONNECT" {
            if text.contains('/') {
                return Err(HeadError::ConnectForm);
            }
            return Target::parse_authority(text.as_bytes())
                .map(Self::Authority)
                .map_err(HeadError::Target);
        }
        match text {
            _ if text.as_bytes().contains(&b'#') => Err(HeadError::Fragment),
            _ if text.starts_with('/') => Ok(Self::Origin(text)),
            "*" if method == "OPTIONS" => Ok(Self::Asterisk),
            "*" => Err(HeadError::Asterisk),
            _ => parse_absolute(text),
        }
    }

    /// The path as it may be logged: without the query. Empty for CONNECT.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let whole = match self {
            Self::Authority(_) => "",
            Self::Absolute { path_and_query, .. } => path_and_query,
            Self::Origin(text) => text,
            Self::Asterisk => "*",
        };
        // Not `split_once`: its search costs more than a path's few bytes.
        let path = whole.bytes().position(|b| b == b'?');
        path.map_or(whole, |end| &whole[..end])
    }
}

fn parse_absolute(text: &str) -> Result<RequestTarget<'_>, HeadError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(HeadError::TargetForm);
    };
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") {
        return Err(HeadError::HttpsScheme);
    }
    // Some WebSocket clients write ws:// to a proxy; RFC 6455 section 3 gives it http's port.
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("ws") {
        let plain = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        return Err(if plain {
            HeadError::Scheme
        } else {
            HeadError::TargetForm
        });
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    let target = Target::parse_authority_or(authority.as_bytes(), 80).map_err(HeadError::Target)?;
    Ok(RequestTarget::Absolute {
        target,
        path_and_query,
    })
}
