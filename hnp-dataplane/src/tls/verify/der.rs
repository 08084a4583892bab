//! As much of DER (X.690) as an X.509 v1 certificate takes. Everything is borrowed; what is not DER is `None`.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of what comes next.
    pub(super) fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever it is.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            // The tag goes on in further bytes, as none of a certificate does.
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                let shortest = bytes.first() != Some(&0) && length >= 0x80;
                (shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at(self.0.len() - rest.len());
        self.0 = rest;
        Some(Element {
            tag,
            contents,
            whole,
        })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// What a sequence consists of, from here.
    pub(super) fn sequence(&mut self) -> Option<Reader<'a>> {
        Some(Reader(self.expect(SEQUENCE)?.contents))
    }

    /// A bit string of whole bytes.
    pub(super) fn bits(&mut self) -> Option<&'a [u8]> {
        match self.expect(BIT_STRING)?.contents {
            [0, bytes @ ..] => Some(bytes),
            _ => None,
        }
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
