//! Where a message's content ends: the bytes are looked at in place, never kept, and may be passed on as they came.

mod chunked;

use std::io;

use chunked::Chunked;

pub use super::head::BodyFraming;

/// Whether a field of this name, in lower case, may stand in a trailer section.
pub(crate) fn may_be_trailer(name: &[u8]) -> bool {
    chunked::may_be_trailer(name)
}

/// What is wrong with content. Whose fault it is depends on who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The chunk size is no hex number of at most 16 digits.
    #[error("a chunk does not begin with its size in at most 16 hex digits")]
    ChunkSize,
    /// What follows the size is no extension, or too much of it.
    #[error("a chunk's extension is malformed or too long")]
    ChunkExtension,
    /// The bytes after a chunk's data are not CRLF.
    #[error("a chunk's data is not followed by CRLF")]
    ChunkEnd,
    /// A line of the chunked framing does not end in CRLF.
    #[error("a line of the chunked coding does not end in CRLF or has a control character")]
    Line,
    /// A trailer line that is no field, or a field that must not stand in a trailer (RFC 9110 section 6.5.1).
    #[error("the trailer has a malformed field, or one that must not stand there")]
    Trailer,
    /// More than 8 KiB of trailer.
    #[error("the trailer is larger than 8192 bytes")]
    TrailerTooLarge,
    /// The connection ended first.
    #[error("the connection ended before the content did")]
    Truncated,
}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// What a look at some bytes found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Bytes, from the first, that belong to this message and may be passed on.
    pub take: usize,
    /// Whether the message ends with them. What follows is the next message's.
    pub done: bool,
}

/// One piece of content, for a recipient that must not see the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of framing, to be left out.
    pub skip: usize,
    /// Bytes of data behind them.
    pub data: usize,
}

/// Follows the content of one message.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    /// At the first byte after the head.
    #[must_use]
    pub fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None => State::Length(0),
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Chunked(Chunked::new()),
            BodyFraming::UntilClose => State::UntilClose,
        };
        Body { state }
    }

    /// Whether the message is complete. Never true of what lasts until the connection ends.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
            State::UntilClose => false,
        }
    }

    /// Looks at the bytes that follow those taken before.
    ///
    /// # Errors
    /// The framing is broken; none of `bytes` may be passed on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BodyError> {
        let mut take = 0;
        while take < bytes.len() && !self.is_done() {
            let Piece { skip, data } = self.next(&bytes[take..])?;
            take += skip + data;
        }
        Ok(Scan {
            take,
            done: self.is_done(),
        })
    }

    /// As [`Body::scan`], up to the end of the next run of data only. Takes at least a byte of a message that is not complete.
    ///
    /// # Errors
    /// As [`Body::scan`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, BodyError> {
        match &mut self.state {
            State::Length(left) => {
                let data = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= data as u64;
                Ok(Piece { skip: 0, data })
            }
            State::Chunked(chunked) => chunked.next(bytes),
            State::UntilClose => Ok(Piece {
                skip: 0,
                data: bytes.len(),
            }),
        }
    }

    /// Judges the end of the connection.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] unless the message may end here.
    pub fn connection_ended(&self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(BodyError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests;
