//! The chunked coding (RFC 9112 section 7.1), read byte by byte where it frames and in one step where it carries.

use super::{BodyError, Piece};
use crate::http::fields::is_token;

/// Hex digits of a chunk size: 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Bytes of one chunk's extensions. Nobody uses them but to hide things.
const EXTENSION_LIMIT: u16 = 256;
/// Bytes of all extensions of a message, so that one-byte chunks cannot carry a flood of them.
const EXTENSIONS_LIMIT: u32 = 16 << 10;
/// Bytes of the trailer section.
const TRAILER_LIMIT: u32 = 8 << 10;
/// Longest name in [`FORBIDDEN`].
const NAME_KEPT: usize = 19;

/// Fields that a recipient may merge into the head with effect on framing, routing or access (RFC 9110 section 6.5.1).
const FORBIDDEN: [&[u8]; 14] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"expect",
    b"host",
    b"max-forwards",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
];

/// Whether a field of this name, in lower case, may stand in a trailer section.
pub(super) fn may_be_trailer(name: &[u8]) -> bool {
    !FORBIDDEN.contains(&name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a size; that many were seen.
    Size(u8),
    /// Blanks after the size, which only an extension may follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the first byte of a trailer line or of the last, empty line.
    TrailerLine,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// Follows a chunked message.
#[derive(Debug, Clone)]
pub(super) struct Chunked {
    state: State,
    /// In the size: the value so far. In data: bytes to come.
    size: u64,
    extension: u16,
    extensions: u32,
    trailer: u32,
    name: [u8; NAME_KEPT],
    name_length: usize,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Chunked {
            state: State::Size(0),
            size: 0,
            extension: 0,
            extensions: 0,
            trailer: 0,
            name: [0; NAME_KEPT],
            name_length: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes framing up to the next data, and what of that data is there.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Piece, BodyError> {
        let mut skip = 0;
        while self.state != State::Data && self.state != State::Done {
            let Some(&byte) = bytes.get(skip) else { break };
            self.state = self.framing(byte)?;
            skip += 1;
        }
        let mut data = 0;
        if self.state == State::Data {
            let there = bytes.len() - skip;
            data = usize::try_from(self.size).map_or(there, |size| size.min(there));
            self.size -= data as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
        }
        Ok(Piece { skip, data })
    }

    /// The state after one byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size(digits) => self.size_byte(digits, byte),
            State::Blank => match byte {
                b' ' | b'\t' => self.extension_byte(State::Blank),
                b';' => self.extension_byte(State::Extension),
                _ => Err(BodyError::ChunkExtension),
            },
            State::Extension => match byte {
                b'\r' => Ok(State::SizeLf),
                b'\t' | 0x20..=0x7e | 0x80.. => self.extension_byte(State::Extension),
                _ => Err(BodyError::Line),
            },
            State::SizeLf => {
                expect(byte, b'\n', BodyError::Line)?;
                self.extension = 0;
                Ok(if self.size == 0 {
                    State::TrailerLine
                } else {
                    State::Data
                })
            }
            State::DataCr => expect(byte, b'\r', BodyError::ChunkEnd).map(|()| State::DataLf),
            State::DataLf => expect(byte, b'\n', BodyError::ChunkEnd).map(|()| State::Size(0)),
            State::TrailerLine | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer_byte(byte)
            }
            State::LastLf => expect(byte, b'\n', BodyError::Line).map(|()| State::Done),
            // Not framing: `next` does not come here.
            State::Data | State::Done => Ok(self.state),
        }
    }

    fn size_byte(&mut self, digits: u8, byte: u8) -> Result<State, BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if digits == 0 => return Err(BodyError::ChunkSize),
            b'\r' => return Ok(State::SizeLf),
            b';' => return self.extension_byte(State::Extension),
            b' ' | b'\t' => return self.extension_byte(State::Blank),
            b'\n' => return Err(BodyError::Line),
            _ => return Err(BodyError::ChunkSize),
        };
        if digits == SIZE_DIGITS {
            return Err(BodyError::ChunkSize);
        }
        // The size of the chunk before is 0 by now: it was counted down.
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size(digits + 1))
    }

    fn extension_byte(&mut self, state: State) -> Result<State, BodyError> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > EXTENSION_LIMIT || self.extensions > EXTENSIONS_LIMIT {
            return Err(BodyError::ChunkExtension);
        }
        Ok(state)
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailer += 1;
        if self.trailer > TRAILER_LIMIT {
            return Err(BodyError::TrailerTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerLine, b'\r') => Ok(State::LastLf),
            (State::TrailerLine, _) if is_token(byte) => {
                self.name_length = 0;
                self.name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => {
                let name = self.name.get(..self.name_length);
                match name.is_none_or(may_be_trailer) {
                    true => Ok(State::TrailerValue),
                    false => Err(BodyError::Trailer),
                }
            }
            (State::TrailerName, _) if is_token(byte) => {
                self.name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerLine),
            (State::TrailerValue | State::TrailerLf, _) | (_, b'\n') => Err(BodyError::Line),
            _ => Err(BodyError::Trailer),
        }
    }

    /// Keeps the name while it can still be a forbidden one.
    fn name_byte(&mut self, byte: u8) {
        if let Some(slot) = self.name.get_mut(self.name_length) {
            *slot = byte.to_ascii_lowercase();
        }
        self.name_length += 1;
    }
}

fn expect(byte: u8, wanted: u8, error: BodyError) -> Result<(), BodyError> {
    if byte == wanted { Ok(()) } else { Err(error) }
}
