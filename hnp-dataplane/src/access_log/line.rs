//! One log line, as `key=value` words or as a JSON object.
//!
//! Values may come from clients. Whatever they hold, a value stays within its quotes and a line within its line: quotes,
//! backslashes and everything that a terminal or a log viewer might act upon are escaped.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::model::LogFormat;
use crate::decimal;

/// Longest value taken from a string, in bytes before escaping; more is cut and shown by `...`.
pub(crate) const VALUE_LIMIT: usize = 1024;

/// A line that is being written at the end of a buffer.
pub(crate) struct Line<'b> {
    buffer: &'b mut Vec<u8>,
    format: LogFormat,
    first: bool,
}

impl<'b> Line<'b> {
    pub(crate) fn begin(buffer: &'b mut Vec<u8>, format: LogFormat) -> Line<'b> {
        if format == LogFormat::Json {
            buffer.push(b'{');
        }
        Line {
            buffer,
            format,
            first: true,
        }
    }

    /// Continues `buffer`, which holds the middle of a line: the fields that many lines share.
    pub(crate) fn fragment_of(buffer: &'b mut Vec<u8>, format: LogFormat) -> Line<'b> {
        Line {
            buffer,
            format,
            first: false,
        }
    }

    /// Fields made by way of [`fragment_of`](Self::fragment_of), not the first of the line.
    pub(crate) fn fragment(&mut self, fields: &[u8]) {
        self.buffer.extend_from_slice(fields);
    }

    pub(crate) fn end(self) {
        self.buffer.extend_from_slice(match self.format {
            LogFormat::Text => b"\n",
            LogFormat::Json => b"}\n",
        });
    }

    /// `key` is the program's own, of letters, digits, `_` and `.`: it is not escaped.
    fn key(&mut self, key: &str) {
        match (self.format, self.first) {
            (LogFormat::Text, true) => {}
            (LogFormat::Text, false) => self.buffer.push(b' '),
            (LogFormat::Json, true) => self.buffer.push(b'"'),
            (LogFormat::Json, false) => self.buffer.extend_from_slice(b",\""),
        }
        self.first = false;
        self.buffer.extend_from_slice(key.as_bytes());
        match self.format {
            LogFormat::Text => self.buffer.push(b'='),
            LogFormat::Json => self.buffer.extend_from_slice(b"\":"),
        }
    }

    /// Anything, from anyone.
    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        self.value(value);
    }

    /// A value that is known to need no escaping: the program's own words, times.
    pub(crate) fn word(&mut self, key: &str, value: &[u8]) {
        debug_assert!(is_plain(value), "{key}");
        self.key(key);
        self.plain(value);
    }

    /// A word in colours, for a terminal.
    pub(crate) fn coloured(&mut self, key: &str, value: &str, sgr: &str) {
        self.key(key);
        // Colour is for terminals, where the format is text: no quotes to think of.
        self.buffer
            .extend([b"\x1b[", sgr.as_bytes(), b"m", value.as_bytes(), b"\x1b[0m"].concat());
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        decimal::push(self.buffer, value);
    }

    /// A number or a boolean as Rust shows it, where both formats agree on that.
    pub(crate) fn literal(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        Self::write(self.buffer, &value);
    }

    /// Milliseconds with three decimals.
    pub(crate) fn milliseconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        let microseconds = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal::push(self.buffer, microseconds / 1000);
        let fraction = (microseconds % 1000) as u16;
        let digit = |value: u16| b'0' + (value % 10) as u8;
        self.buffer.extend_from_slice(&[
            b'.',
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
        ]);
    }

    pub(crate) fn address(&mut self, key: &str, address: SocketAddr) {
        let IpAddr::V4(v4) = address.ip() else {
            return self.display(key, &address);
        };
        self.key(key);
        self.quote();
        for (i, octet) in v4.octets().into_iter().enumerate() {
            if i > 0 {
                self.buffer.push(b'.');
            }
            decimal::push(self.buffer, octet.into());
        }
        self.buffer.push(b':');
        decimal::push(self.buffer, address.port().into());
        self.quote();
    }

    /// Anything that can be shown, from anyone.
    pub(crate) fn display(&mut self, key: &str, value: &dyn fmt::Display) {
        self.key(key);
        // Rendered in place, hoping that nothing needs an escape (an address never does).
        let start = self.buffer.len();
        self.quote();
        let from = self.buffer.len();
        Self::write(self.buffer, value);
        let length = self.buffer.len() - from;
        if (1..=VALUE_LIMIT).contains(&length) && is_plain(&self.buffer[from..]) {
            self.quote();
        } else {
            let value = String::from_utf8_lossy(&self.buffer[from..]).into_owned();
            self.buffer.truncate(start);
            self.value(&value);
        }
    }

    fn value(&mut self, value: &str) {
        let (value, cut) = truncate(value, VALUE_LIMIT);
        if !cut && !value.is_empty() && is_plain(value.as_bytes()) {
            return self.plain(value.as_bytes());
        }
        self.buffer.push(b'"');
        escape(self.buffer, value);
        if cut {
            self.buffer.extend_from_slice(b"...");
        }
        self.buffer.push(b'"');
    }

    fn plain(&mut self, value: &[u8]) {
        self.quote();
        self.buffer.extend_from_slice(value);
        self.quote();
    }

    fn quote(&mut self) {
        if self.format == LogFormat::Json {
            self.buffer.push(b'"');
        }
    }

    fn write(buffer: &mut Vec<u8>, value: &dyn fmt::Display) {
        struct Bytes<'b>(&'b mut Vec<u8>);
        impl fmt::Write for Bytes<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        // Memory takes everything: an error could only be the value's own, whose text so far is kept.
        let _: fmt::Result = write!(Bytes(buffer), "{value}");
    }
}

/// Whether a value needs neither quotes (text) nor escapes (either format).
fn is_plain(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// `value` up to `limit` bytes, and whether something was cut off.
fn truncate(value: &str, limit: usize) -> (&str, bool) {
    match value
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at <= limit)
        .last()
    {
        Some(end) if value.len() > limit => (&value[..end], true),
        _ => (value, false),
    }
}

/// The escapes of JSON (RFC 8259, section 7), which the text format shares.
fn escape(buffer: &mut Vec<u8>, value: &str) {
    for character in value.chars() {
        match character {
            '"' => buffer.extend_from_slice(b"\\\""),
            '\\' => buffer.extend_from_slice(b"\\\\"),
            '\n' => buffer.extend_from_slice(b"\\n"),
            '\r' => buffer.extend_from_slice(b"\\r"),
            '\t' => buffer.extend_from_slice(b"\\t"),
            character if is_active(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    buffer.extend_from_slice(b"\\u");
                    buffer.extend(
                        (0..4)
                            .rev()
                            .map(|i| b"0123456789abcdef"[usize::from(*unit >> (4 * i) & 0xf)]),
                    );
                }
            }
            character => buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Characters that change how text around them is read or shown: controls, line separators, text direction, invisible ones.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
pub(in crate::access_log) mod tests;
