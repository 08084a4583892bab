//! The fields of a request that decide where it ends and how it is taken, checked together.

use httparse::Header;

use super::Version;
use super::error::{HeadError, Shown};
use crate::http::fields::trim;
use crate::target::Target;

/// What follows a head (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// Nothing.
    None,
    /// That many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All up to the end of the connection: responses only.
    UntilClose,
}

/// What the fields of one message say that may be said once.
#[derive(Default)]
struct Once<'a> {
    length: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    proxy_authorization: bool,
    authorization: bool,
    max_forwards: bool,
    chunked: bool,
    coding: Option<Result<(), HeadError>>,
}

/// Checks the fields of a request and says what follows it.
pub(super) fn check(
    method: &str,
    version: Version,
    fields: &[Header<'_>],
) -> Result<BodyFraming, HeadError> {
    let mut once = Once::default();
    for field in fields {
        once.take(field)?;
    }
    check_host(version, once.host)?;
    let framing = request_framing(version, &once)?;
    match (method, framing) {
        (_, BodyFraming::None) => Ok(framing),
        ("CONNECT", _) => Err(HeadError::ConnectWithBody),
        ("TRACE", _) => Err(HeadError::TraceWithBody),
        _ => Ok(framing),
    }
}

impl<'a> Once<'a> {
    fn take(&mut self, field: &Header<'a>) -> Result<(), HeadError> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = trim(field.value);
        // The length of the name rules nearly all fields out at once.
        match field.name.len() {
            4 if is("host") => refuse_second(&mut self.host, value, HeadError::ManyHosts),
            6 if is("expect") => match value {
                _ if value.eq_ignore_ascii_case(b"100-continue") => Ok(()),
                _ => Err(HeadError::Expectation),
            },
            10 if is("connection") => check_connection(value),
            12 if is("max-forwards") => match value {
                _ if self.max_forwards => Err(HeadError::Twice("Max-Forwards")),
                [] => Err(HeadError::MaxForwards),
                _ if value.len() > 9 || !value.iter().all(u8::is_ascii_digit) => {
                    Err(HeadError::MaxForwards)
                }
                _ => {
                    self.max_forwards = true;
                    Ok(())
                }
            },
            13 if is("authorization") => flag(&mut self.authorization, "Authorization"),
            14 if is("content-length") => {
                refuse_second(&mut self.length, value, HeadError::ContentLengthTwice)
            }
            17 if is("transfer-encoding") => {
                self.take_coding(value);
                Ok(())
            }
            19 if is("proxy-authorization") => {
                flag(&mut self.proxy_authorization, "Proxy-Authorization")
            }
            _ => Ok(()),
        }
    }

    /// Reads one `Transfer-Encoding` line. The verdict waits, because `chunked` has to be the last coding of all lines.
    fn take_coding(&mut self, value: &[u8]) {
        for coding in value.split(|&b| b == b',').map(trim) {
            let verdict = if self.chunked || coding.is_empty() {
                // Something stands behind `chunked`, or nothing between two commas.
                Err(HeadError::TransferEncoding)
            } else if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
                Ok(())
            } else {
                Err(HeadError::UnknownCoding(Shown::new(coding)))
            };
            let worse = matches!(verdict, Err(HeadError::TransferEncoding));
            if worse || matches!(self.coding, None | Some(Ok(()))) {
                self.coding = Some(verdict);
            }
        }
    }
}

fn request_framing(version: Version, once: &Once<'_>) -> Result<BodyFraming, HeadError> {
    match (&once.coding, once.length) {
        (None, None) => Ok(BodyFraming::None),
        (None, Some(digits)) => match content_length(digits) {
            None => Err(HeadError::ContentLength),
            Some(0) => Ok(BodyFraming::None),
            Some(length) => Ok(BodyFraming::Length(length)),
        },
        (Some(_), _) if version == Version::Http10 => Err(HeadError::CodingIn10),
        (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
        // RFC 9112 section 6.3: without a final `chunked` the length cannot be told, whatever else the coding is.
        (Some(_), None) if !once.chunked => Err(HeadError::TransferEncoding),
        (Some(verdict), None) => verdict.clone().map(|()| BodyFraming::Chunked),
    }
}

/// One number in plain digits that fits 64 bits.
pub(crate) fn content_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

fn check_host(version: Version, host: Option<&[u8]>) -> Result<(), HeadError> {
    match host {
        None if version == Version::Http11 => Err(HeadError::NoHost),
        None => Ok(()),
        Some(host) => Target::check_authority(host).map_err(HeadError::Host),
    }
}

/// A field that `Connection` names is removed on the way. These must not be: the next hop would read another message.
fn check_connection(value: &[u8]) -> Result<(), HeadError> {
    const NEVER: [&str; 5] = [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
    ];
    for option in value.split(|&b| b == b',').map(trim) {
        if let Some(name) = NEVER
            .iter()
            .find(|name| option.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Err(HeadError::ConnectionNames(name));
        }
    }
    Ok(())
}

fn refuse_second<'a>(
    slot: &mut Option<&'a [u8]>,
    value: &'a [u8],
    error: HeadError,
) -> Result<(), HeadError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(error),
    }
}

fn flag(seen: &mut bool, name: &'static str) -> Result<(), HeadError> {
    if std::mem::replace(seen, true) {
        Err(HeadError::Twice(name))
    } else {
        Ok(())
    }
}
