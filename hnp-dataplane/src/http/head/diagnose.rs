//! Finds words for a head that the parser refused. Only on the way to an error, so clarity comes before speed.

use super::error::{HeadError, Shown};
use crate::http::fields::is_token;

/// What to say of a head whose lines are sound but which httparse does not take.
pub(super) fn refused(first_line: &[u8], fields: &[u8]) -> HeadError {
    let first_line = first_line.strip_suffix(b"\r\n").unwrap_or(first_line);
    request_line(first_line)
        .or_else(|| fields.split_inclusive(|&b| b == b'\n').find_map(field_line))
        .unwrap_or(HeadError::FieldValue)
}

fn request_line(line: &[u8]) -> Option<HeadError> {
    if line == b"PRI * HTTP/2.0" {
        return Some(HeadError::Http2);
    }
    if line.starts_with(b"PROXY TCP") || line.starts_with(b"PROXY UNKNOWN") {
        return Some(HeadError::ProxyProtocol);
    }
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    match words[..] {
        [[], ..] => Some(HeadError::RequestLine),
        [method, ..] if !method.iter().all(|&b| is_token(b)) => Some(HeadError::Method),
        [_, target] if !target.is_empty() => Some(HeadError::NoVersion),
        [_, target, version] if !target.is_empty() && !version.is_empty() => {
            target_and_version(target, version)
        }
        _ => Some(HeadError::RequestLine),
    }
}

fn target_and_version(target: &[u8], version: &[u8]) -> Option<HeadError> {
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Some(HeadError::Version(Shown::new(version)));
        }
        _ => return Some(HeadError::NotAVersion),
    }
    let plain = target.iter().all(u8::is_ascii_graphic);
    (!plain).then_some(HeadError::TargetCharacter)
}

fn field_line(line: &[u8]) -> Option<HeadError> {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    if matches!(line, [b' ' | b'\t', ..]) {
        return Some(HeadError::Folded);
    }
    let Some(colon) = line.iter().position(|&b| b == b':') else {
        return Some(HeadError::NoColon);
    };
    match &line[..colon] {
        [name @ .., b' ' | b'\t'] => Some(HeadError::BlankBeforeColon(Shown::new(name))),
        name if name.is_empty() || !name.iter().all(|&b| is_token(b)) => Some(HeadError::FieldName),
        _ => None,
    }
}
