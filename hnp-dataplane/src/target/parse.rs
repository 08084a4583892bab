//! From the authority that a client wrote to a [`Target`], refusing whatever two programs could read in two ways.
//!
//! The check of a policy and the connection that follows must mean the same host. So names keep to RFC 1123 (with `_`), and
//! what some resolvers take for an IPv4 address (`127.1`, `0x7f.1`, `2130706433`, `0177.0.0.1`) is refused, not guessed at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Host, Target};

/// Longest DNS name in its written form, without the final dot (RFC 1035 section 3.1).
const NAME_LIMIT: usize = 253;
/// Longest label of a DNS name (RFC 1035 section 2.3.4).
const LABEL_LIMIT: usize = 63;

/// Why an authority names no target. The client's fault, always; nothing in it repeats what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No host before the port.
    #[error("the host is empty: write host:port")]
    EmptyHost,
    /// CONNECT has no default port (RFC 9110 section 9.3.6).
    #[error("the port is missing: write host:port")]
    NoPort,
    /// A colon with nothing behind it.
    #[error("the port is empty: write host:port")]
    EmptyPort,
    /// Anything but 1 to 65535 in plain decimal.
    #[error("the port is not a number from 1 to 65535 without sign and leading zeros")]
    BadPort,
    /// `user:password@host`.
    #[error(
        "user information before the host is refused: send credentials in Proxy-Authorization or Authorization"
    )]
    UserInfo,
    /// `fe80::1%eth0`.
    #[error("an IPv6 zone (%...) means nothing to another machine and is refused")]
    Zone,
    /// `ex%61mple.com`.
    #[error("percent-encoding in the host is refused: write the host itself")]
    PercentEncoding,
    /// Bytes above 127.
    #[error("the host is not ASCII: write an international name in its xn-- form")]
    NotAscii,
    /// Brackets that hold no IPv6 address.
    #[error("what stands in brackets is no IPv6 address")]
    BadIpv6,
    /// `::1:443`.
    #[error("an IPv6 address needs brackets: write [address]:port")]
    BareIpv6,
    /// `127.1`, `0x7f000001`, `127.0.0.1.`, `1.2.3.256`.
    #[error(
        "the host looks like an IPv4 address but is not four decimal numbers from 0 to 255, and would be read differently by different programs"
    )]
    AmbiguousIpv4,
    /// A character that no host name has.
    #[error(
        "the host has a character that host names do not have (letters, digits, '-', '_' and '.' only)"
    )]
    BadCharacter,
    /// `a..b`, `.a`, `.`.
    #[error("the host name has an empty label")]
    EmptyLabel,
    /// `-a.b`, `a-.b`.
    #[error("a label of the host name begins or ends with '-'")]
    Hyphen,
    /// More than 63 bytes between two dots.
    #[error("a label of the host name is longer than 63 characters")]
    LongLabel,
    /// More than 253 bytes.
    #[error("the host name is longer than 253 characters")]
    LongName,
}

impl Target {
    /// Parses the `host:port` of a CONNECT request (authority-form, RFC 9112 section 3.2.3). The port must be there.
    ///
    /// Accepted: `name:port`, `1.2.3.4:port`, `[v6]:port`. One final dot of a name is dropped.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse_authority(authority: &[u8]) -> Result<Target, TargetError> {
        let (host, port) = split(authority)?;
        Ok(Target {
            host: parse_host(host)?,
            port: port.ok_or(TargetError::NoPort)?,
        })
    }

    /// Checks the value of a `Host` field as [`Target::parse_authority_or`] would, and makes nothing of it.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub(crate) fn check_authority(authority: &[u8]) -> Result<(), TargetError> {
        let (host, _) = split(authority)?;
        read_host(host).map(drop)
    }

    /// Parses the authority of a URI or the value of a `Host` field, where the port may be left out.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse_authority_or(authority: &[u8], default_port: u16) -> Result<Target, TargetError> {
        let (host, port) = split(authority)?;
        Ok(Target {
            host: parse_host(host)?,
            port: port.unwrap_or(default_port),
        })
    }
}

/// Splits into host and port; the host keeps its brackets.
fn split(authority: &[u8]) -> Result<(&[u8], Option<u16>), TargetError> {
    if authority.contains(&b'@') {
        return Err(TargetError::UserInfo);
    }
    let (host, rest) = if authority.first() == Some(&b'[') {
        let close = authority
            .iter()
            .position(|&b| b == b']')
            .ok_or(TargetError::BadIpv6)?;
        authority.split_at(close + 1)
    } else {
        let end = authority
            .iter()
            .position(|&b| b == b':')
            .unwrap_or(authority.len());
        authority.split_at(end)
    };
    let port = match rest {
        [] => None,
        [b':'] => return Err(TargetError::EmptyPort),
        [b':', digits @ ..] if digits.contains(&b':') => return Err(TargetError::BareIpv6),
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return Err(TargetError::BadCharacter),
    };
    Ok((host, port))
}

fn parse_port(digits: &[u8]) -> Result<u16, TargetError> {
    if digits.first() == Some(&b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return Err(TargetError::BadPort);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(TargetError::BadPort)
}

/// A host as it was written.
enum Written<'a> {
    Name(&'a str),
    Address(IpAddr),
}

fn parse_host(host: &[u8]) -> Result<Host, TargetError> {
    Ok(match read_host(host)? {
        Written::Name(name) => Host::Name(name.to_ascii_lowercase().into_boxed_str()),
        Written::Address(address) => Host::Address(address),
    })
}

fn read_host(host: &[u8]) -> Result<Written<'_>, TargetError> {
    if !host.is_ascii() {
        return Err(TargetError::NotAscii);
    }
    match host {
        [] => Err(TargetError::EmptyHost),
        [b'[', address @ .., b']'] => parse_v6(address).map(|v6| Written::Address(IpAddr::V6(v6))),
        _ if host.contains(&b'%') => Err(TargetError::PercentEncoding),
        _ => parse_name(host),
    }
}

fn parse_v6(address: &[u8]) -> Result<Ipv6Addr, TargetError> {
    if address.contains(&b'%') {
        return Err(TargetError::Zone);
    }
    std::str::from_utf8(address)
        .ok()
        .and_then(|address| address.parse().ok())
        .ok_or(TargetError::BadIpv6)
}

/// A DNS name, or an IPv4 address in the one form that everybody reads alike.
fn parse_name(host: &[u8]) -> Result<Written<'_>, TargetError> {
    let name = host.strip_suffix(b".").unwrap_or(host);
    if name.len() > NAME_LIMIT {
        return Err(TargetError::LongName);
    }
    for label in name.split(|&b| b == b'.') {
        check_label(label)?;
    }
    // check_label let only ASCII through.
    let text = std::str::from_utf8(host).map_err(|_| TargetError::NotAscii)?;
    if ends_in_number(name) {
        // The final dot stays in: "127.0.0.1." is a name to some and an address to others.
        return text
            .parse::<Ipv4Addr>()
            .map(|v4| Written::Address(IpAddr::V4(v4)))
            .map_err(|_| TargetError::AmbiguousIpv4);
    }
    Ok(Written::Name(text.strip_suffix('.').unwrap_or(text)))
}

fn check_label(label: &[u8]) -> Result<(), TargetError> {
    match label {
        [] => Err(TargetError::EmptyLabel),
        _ if label.len() > LABEL_LIMIT => Err(TargetError::LongLabel),
        _ if !label
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) =>
        {
            Err(TargetError::BadCharacter)
        }
        [b'-', ..] | [.., b'-'] => Err(TargetError::Hyphen),
        _ => Ok(()),
    }
}

/// Whether a URL parser would take the name for an IPv4 address: its last label is decimal digits or `0x` and hex digits
/// (the "ends in a number" rule of the WHATWG URL standard).
fn ends_in_number(name: &[u8]) -> bool {
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or(name);
    match last {
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        _ => last.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(authority: &str) -> Result<String, TargetError> {
        Target::parse_authority(authority.as_bytes()).map(|target| target.to_string())
    }

    #[test]
    fn what_a_client_may_ask_for() {
        for (authority, meaning) in [
            ("app.harness.io:443", "app.harness.io:443"),
            ("App.Harness.IO:8443", "app.harness.io:8443"),
            ("app.harness.io.:443", "app.harness.io:443"),
            ("my_svc.hce:1", "my_svc.hce:1"),
            ("localhost:65535", "localhost:65535"),
            ("1.2.3.4:80", "1.2.3.4:80"),
            ("[::1]:443", "[::1]:443"),
            ("[0:0::1]:443", "[::1]:443"),
            ("[::ffff:10.0.0.1]:443", "[::ffff:10.0.0.1]:443"),
            ("4chan.example:443", "4chan.example:443"),
            ("1.2.3.4.example:443", "1.2.3.4.example:443"),
            ("0xdead.example:443", "0xdead.example:443"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example:443"),
        ] {
            assert_eq!(parsed(authority).as_deref(), Ok(meaning), "{authority}");
        }
    }

    #[test]
    fn what_a_client_may_not_ask_for() {
        use TargetError::*;
        let long_label = format!("{}.example:443", "a".repeat(64));
        let long_name = format!("{}example:443", "a.".repeat(124));
        for (authority, error) in [
            ("", EmptyHost),
            (":443", EmptyHost),
            ("host", NoPort),
            ("[::1]", NoPort),
            ("host:", EmptyPort),
            ("host:0", BadPort),
            ("host:00443", BadPort),
            ("host:65536", BadPort),
            ("host:99999999999999999999", BadPort),
            ("host:+443", BadPort),
            ("host:-1", BadPort),
            ("host:44 3", BadPort),
            ("host:https", BadPort),
            ("user@host:443", UserInfo),
            ("user:password@host:443", UserInfo),
            ("good.example:443@evil.example:443", UserInfo),
            ("[fe80::1%25eth0]:443", Zone),
            ("[fe80::1%eth0]:443", Zone),
            ("[::1", BadIpv6),
            ("[]:443", BadIpv6),
            ("[1.2.3.4]:443", BadIpv6),
            ("[v1.fe80]:443", BadIpv6),
            ("[::1]443", BadCharacter),
            ("[::1]x:443", BadCharacter),
            ("::1:443", BareIpv6),
            ("host:80:443", BareIpv6),
            ("ex%61mple.com:443", PercentEncoding),
            ("b\u{fc}cher.example:443", NotAscii),
            ("127.1:443", AmbiguousIpv4),
            ("127.0.0.1.:443", AmbiguousIpv4),
            ("0x7f.1:443", AmbiguousIpv4),
            ("0x7f000001:443", AmbiguousIpv4),
            ("2130706433:443", AmbiguousIpv4),
            ("0177.0.0.1:443", AmbiguousIpv4),
            ("1.2.3.256:443", AmbiguousIpv4),
            ("1.2.3.4.5:443", AmbiguousIpv4),
            ("example.0x:443", AmbiguousIpv4),
            ("example.123:443", AmbiguousIpv4),
            ("ex ample:443", BadCharacter),
            ("ex\\ample:443", BadCharacter),
            ("ex/ample:443", BadCharacter),
            ("*.example:443", BadCharacter),
            ("a..b:443", EmptyLabel),
            (".a:443", EmptyLabel),
            (".:443", EmptyLabel),
            ("a.b..:443", EmptyLabel),
            ("-a.b:443", Hyphen),
            ("a-.b:443", Hyphen),
            (&long_label, LongLabel),
            (&long_name, LongName),
        ] {
            assert_eq!(parsed(authority), Err(error), "{authority}");
        }
    }

    #[test]
    fn limits_of_length_are_exact() {
        assert!(parsed(&format!("{}:443", "a".repeat(63))).is_ok());
        let name = format!("{}e", "a.".repeat(126));
        assert_eq!(name.len(), 253);
        assert!(parsed(&format!("{name}:443")).is_ok());
        assert!(parsed(&format!("{name}.:443")).is_ok());
        assert_eq!(
            parsed(&format!("{name}x.a:443")),
            Err(TargetError::LongName)
        );
    }

    #[test]
    fn a_default_port_where_one_may_be_left_out() {
        let target = |text: &str| {
            Target::parse_authority_or(text.as_bytes(), 80).map(|target| target.to_string())
        };
        assert_eq!(target("example.com").as_deref(), Ok("example.com:80"));
        assert_eq!(target("example.com:81").as_deref(), Ok("example.com:81"));
        assert_eq!(target("[::1]").as_deref(), Ok("[::1]:80"));
        assert_eq!(target("example.com:"), Err(TargetError::EmptyPort));
    }
}
