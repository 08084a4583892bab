//! Paths beneath a prefix, and back.

use std::borrow::Cow;

use crate::origin::Route;

/// What of an origin-form target lies beneath `prefix`: empty, or begins with `/` or `?`. `None` where it does not lie beneath it, or
/// leads out of it again, or out of `base`, in any spelling that a server could take for `..`.
#[must_use]
pub fn beneath<'a>(prefix: &str, base: &str, target: &'a str) -> Option<&'a str> {
    let rest = target.strip_prefix(prefix)?;
    if !(rest.is_empty() || rest.starts_with(['/', '?'])) {
        return None;
    }
    let confined = !(prefix.is_empty() && base.is_empty());
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    (!confined || stays_inside(path)).then_some(rest)
}

/// Writes the target for the upstream: its own path, then the rest. Never empty.
pub(super) fn write(base: &str, rest: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(base.as_bytes());
    if base.is_empty() && !rest.starts_with('/') {
        out.push(b'/');
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Whether no `..` climbs above where the path begins, whatever a server takes for a separator, a dot, or the end of a segment: an
/// encoded `/` or `\`, a `;`, escapes of escapes. What some servers count as a segment and others do not counts for nothing.
fn stays_inside(path: &str) -> bool {
    if !path.contains("..") && !path.contains('%') {
        return true;
    }
    let mut depth = 0_usize;
    for segment in path.split('/') {
        let (ups, plain) = climbs(segment.as_bytes());
        match depth.checked_sub(ups) {
            Some(left) => depth = left,
            None => return false,
        }
        depth += usize::from(plain);
    }
    true
}

/// How often a segment may be taken for `..`, and whether everybody takes it for one name.
fn climbs(mut segment: &[u8]) -> (usize, bool) {
    let mut ups = 0;
    let mut plain = !segment.is_empty();
    let mut dots = 0;
    let mut other = false;
    let mut parameters = false;
    loop {
        let (byte, rest) = next(segment);
        match byte {
            None | Some(b'/' | b'\\') => {
                if dots == 2 && !other {
                    ups += 1;
                }
                // A dot, or nothing, or a piece with parameters only: no name to everybody.
                plain &= other;
                if byte.is_none() {
                    return (ups, plain && ups == 0);
                }
                (dots, other, parameters) = (0, false, false);
            }
            Some(b';') => parameters = true,
            _ if parameters => {}
            Some(b'.') if dots < 2 => dots += 1,
            // Some servers end the name there, and some skip it.
            Some(0) if dots == 2 && !other => {
                ups += 1;
                other = true;
            }
            Some(0) => {}
            Some(_) => other = true,
        }
        segment = rest;
    }
}

/// The next character and what follows it, with its escapes undone however often it was escaped.
fn next(bytes: &[u8]) -> (Option<u8>, &[u8]) {
    let [first, rest @ ..] = bytes else {
        return (None, bytes);
    };
    if *first != b'%' {
        return (Some(*first), rest);
    }
    let mut rest = rest;
    while let [b'2', b'5', more @ ..] = rest {
        rest = more;
    }
    match rest {
        [high, low, more @ ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => (Some(high << 4 | low), more),
            _ => (Some(b'%'), rest),
        },
        _ => (Some(b'%'), rest),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// A `Location` of the upstream's, as the client can follow it: the owned variant where it has changed. The upstream's scheme and
/// authority are left out, for a path means the same to the client whatever it calls HNP; its base path gives way to the prefix. What leads
/// elsewhere stays as it is.
#[must_use]
pub fn location<'a>(route: &Route, location: &'a [u8]) -> Cow<'a, [u8]> {
    let origin = &*route.origin;
    let (path, absolute) = match after_authority(route, location) {
        Some(path) => (path, true),
        // Not `//host`: that is an authority.
        None if location.starts_with(b"/") && !location.starts_with(b"//") => (location, false),
        None => return Cow::Borrowed(location),
    };
    let Some(rest) = path.strip_prefix(origin.base_path.as_bytes()) else {
        return Cow::Borrowed(location);
    };
    if !matches!(rest, [] | [b'/' | b'?' | b'#', ..]) {
        return Cow::Borrowed(location);
    }
    if !absolute && *origin.base_path == *route.prefix {
        return Cow::Borrowed(location);
    }
    let mut out = route.prefix.as_bytes().to_vec();
    if out.is_empty() && !rest.starts_with(b"/") {
        out.push(b'/');
    }
    // `//x` would be read as an authority.
    let rest = match rest {
        [b'/', b'/', ..] if out.is_empty() => {
            let path = rest.iter().position(|&b| b != b'/').unwrap_or(rest.len());
            &rest[path - 1..]
        }
        rest => rest,
    };
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// What follows the upstream's scheme and authority in a url that begins with them.
fn after_authority<'a>(route: &Route, url: &'a [u8]) -> Option<&'a [u8]> {
    let origin = &*route.origin;
    let (scheme, port) = match origin.tls {
        Some(_) => (&b"https"[..], 443),
        None => (&b"http"[..], 80),
    };
    let (given, rest) = url.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b"://")?;
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let target = crate::target::Target::parse_authority_or(authority, port).ok()?;
    (given.eq_ignore_ascii_case(scheme) && target == origin.target).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(prefix: &str, base: &str, target: &str) -> Option<String> {
        let mut out = Vec::new();
        write(base, beneath(prefix, base, target)?, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_prefix_ends_where_a_segment_ends() {
        for (prefix, base, target, expected) in [
            ("", "", "/", Some("/")),
            ("", "", "/a?b", Some("/a?b")),
            ("", "", "//a/../..", Some("//a/../..")),
            ("", "/base", "/", Some("/base/")),
            ("", "/base", "/a?b", Some("/base/a?b")),
            ("/acme", "", "/acme", Some("/")),
            ("/acme", "", "/acme/", Some("/")),
            ("/acme", "", "/acme?x=/", Some("/?x=/")),
            ("/acme", "", "/acme/x?y", Some("/x?y")),
            ("/acme", "", "/acme//x", Some("//x")),
            ("/acme", "/base", "/acme", Some("/base")),
            ("/acme", "/base", "/acme?x", Some("/base?x")),
            ("/acme", "/base", "/acme/x", Some("/base/x")),
            ("/acme/v1", "", "/acme/v1/x", Some("/x")),
            ("/acme", "", "/acmex", None),
            ("/acme", "", "/acme%2fx", None),
            ("/acme", "", "/acme;x", None),
            ("/acme", "", "/Acme/x", None),
            ("/acme", "", "/%61cme/x", None),
            ("/acme", "", "//acme/x", None),
            ("/acme", "", "/x/acme", None),
            ("/acme", "", "/", None),
            ("/acme", "", "/?/acme", None),
        ] {
            assert_eq!(
                sent(prefix, base, target).as_deref(),
                expected,
                "{prefix} {base} {target}"
            );
        }
    }

    #[test]
    fn no_spelling_of_dots_leads_out() {
        for path in [
            "/..",
            "/../x",
            "/a/../../x",
            "/./../x",
            "//../x",
            "/a/..//../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/%2E./x",
            "/..%2fx",
            "/..%5cx",
            "/..\\x",
            "/a\\..\\..\\x",
            "/%252e%252e/x",
            "/%25252e./x",
            "/..%252fx",
            "/..;/x",
            "/..;a=b/x",
            "/;/../../x",
            "/a%2f../../x",
            "/a%2f..%2f..",
            "/..%00",
            "/..%00x/y",
            "/%00../x",
            "/a/b/../../../x",
            "/..?x",
        ] {
            assert_eq!(
                beneath("/acme", "", &format!("/acme{path}")),
                None,
                "{path}"
            );
            assert_eq!(beneath("", "/base", path), None, "{path}");
        }
        for path in [
            "/a/..",
            "/a/../x",
            "/a/./b/../../x",
            "/...",
            "/..a",
            "/a..",
            "/.",
            "/./",
            "/%2e",
            "/a%2fb",
            "/100%",
            "/%zz",
            "/%2",
            "/a;b/..",
            "/.well-known/x",
            "/x?y=/../../z",
            "/a%20b/..",
            "/%2e%2e%2e/x",
        ] {
            assert_eq!(
                beneath("/acme", "", &format!("/acme{path}")),
                Some(path),
                "{path}"
            );
        }
    }
}
