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
        while self.scanned < bytes.len() {
            self.scanned += self.plain_run(bytes, limits);
            let at = self.scanned;
            let Some(&byte) = bytes.get(at) else { break };
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

    /// How many bytes from here on say nothing by themselves and are within every limit, be it not all of them.
    fn plain_run(&self, bytes: &[u8], limits: &HeadLimits) -> usize {
        if self.after_cr || self.scanned == self.start {
            return 0;
        }
        let mut end = bytes.len().min(self.start.saturating_add(limits.size));
        if self.lines == 0 {
            end = end.min(self.line_start.saturating_add(limits.first_line));
        }
        bytes.get(self.scanned..end).map_or(0, plain)
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

/// How many bytes come before the first control character, looked at by eights; what is left of an eight at the end is left out.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    /// Marks every byte below `limit`, and maybe some behind a marked one.
    fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word & (ONES << 7)
    }
    let mut run = 0;
    for eight in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(eight.try_into().unwrap_or_default());
        // Below a blank, or DEL.
        let marked = below(word, 0x20) | below(word ^ (ONES * 0x7f), 1);
        if marked != 0 {
            return run + marked.trailing_zeros() as usize / 8;
        }
        run += 8;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_ends_a_run() {
        for byte in 0..=u8::MAX {
            for place in 0..24 {
                let mut bytes = [b'a'; 24];
                bytes[place] = byte;
                let expected = if byte < 0x20 || byte == 0x7f {
                    place
                } else {
                    24
                };
                assert_eq!(plain(&bytes), expected, "{byte:#x} at {place}");
            }
        }
        assert_eq!(plain(&[0xff; 20]), 16);
    }
}
