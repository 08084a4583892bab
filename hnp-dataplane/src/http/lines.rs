//! Finds the end of a head in bytes that arrive bit by bit, looking at each byte once.

use super::head::HeadLimits;

/// How far into a head the bytes have been looked at.
///
/// A fault is found at the byte that makes it one, so that the verdict does not depend on how the bytes were split.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lines {
    scanned: usize,
    start: usize,
    line_start: usize,
    fields_start: usize,
    lines: usize,
    after_cr: bool,
}

/// Where a complete head stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte of the first line.
    pub(crate) start: usize,
    /// First byte after the first line.
    pub(crate) fields: usize,
    /// First byte after the empty line.
    pub(crate) end: usize,
}

/// What is wrong with the lines of a head, whatever they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFault {
    BareLf,
    BareCr,
    Control(u8),
    FirstByte(u8),
    LeadingEmptyLines,
    FirstLineTooLong,
    TooLarge,
    TooManyFields,
}

impl Lines {
    /// Looks at what is new in `bytes`, which starts where it started at the last call. `None`: the head is not complete.
    ///
    /// One empty line before the first is skipped (RFC 9112 section 2.2 has clients that send one); a second is a fault.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<Extent>, LineFault> {
        while let Some(&byte) = bytes.get(self.scanned) {
            let at = self.scanned;
            if at - self.start >= limits.size {
                return Err(if self.lines == 0 {
                    LineFault::FirstLineTooLong
                } else {
                    LineFault::TooLarge
                });
            }
            self.scanned += 1;
            if self.after_cr {
                if byte != b'\n' {
                    return Err(LineFault::BareCr);
                }
                self.after_cr = false;
                if let Some(extent) = self.line_ended(at, limits)? {
                    return Ok(Some(extent));
                }
                continue;
            }
            match byte {
                b'\r' => {
                    self.after_cr = true;
                    continue;
                }
                b'\n' => return Err(LineFault::BareLf),
                b'\t' => {}
                0..0x20 | 0x7f.. if at == self.start => return Err(LineFault::FirstByte(byte)),
                0..0x20 | 0x7f => return Err(LineFault::Control(byte)),
                _ => {}
            }
            if self.lines == 0 && at - self.line_start >= limits.first_line {
                return Err(LineFault::FirstLineTooLong);
            }
        }
        Ok(None)
    }

    /// The byte at `lf` ended a line.
    fn line_ended(&mut self, lf: usize, limits: &HeadLimits) -> Result<Option<Extent>, LineFault> {
        let empty = lf - 1 == self.line_start;
        self.line_start = lf + 1;
        match (empty, self.lines) {
            (true, 0) if self.start > 0 => return Err(LineFault::LeadingEmptyLines),
            (true, 0) => self.start = lf + 1,
            (true, _) => {
                return Ok(Some(Extent {
                    start: self.start,
                    fields: self.fields_start,
                    end: lf + 1,
                }));
            }
            (false, 0) => {
                self.lines = 1;
                self.fields_start = lf + 1;
            }
            (false, fields) if fields > limits.fields => return Err(LineFault::TooManyFields),
            (false, _) => self.lines += 1,
        }
        Ok(None)
    }
}
