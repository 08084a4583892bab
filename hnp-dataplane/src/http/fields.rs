//! The header fields of a head that has been checked: read where they lie, in the order they came.

use memchr::memchr;

/// A name that a proxy asks for in every message: where the first field of that name stands is found once, with the head's parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Te,
    Via,
    Host,
    Expect,
    Upgrade,
    Connection,
    MaxForwards,
    ContentLength,
    TransferEncoding,
    ProxyAuthorization,
}

/// How many there are.
const KNOWN: usize = Known::ProxyAuthorization as usize + 1;

impl Known {
    fn of(name: &[u8]) -> Option<Known> {
        // The length of the name rules nearly all fields out at once.
        let (one, known) = match name.len() {
            2 => (&b"te"[..], Known::Te),
            3 => (&b"via"[..], Known::Via),
            4 => (&b"host"[..], Known::Host),
            6 => (&b"expect"[..], Known::Expect),
            7 => (&b"upgrade"[..], Known::Upgrade),
            10 => (&b"connection"[..], Known::Connection),
            12 => (&b"max-forwards"[..], Known::MaxForwards),
            14 => (&b"content-length"[..], Known::ContentLength),
            17 => (&b"transfer-encoding"[..], Known::TransferEncoding),
            19 => (&b"proxy-authorization"[..], Known::ProxyAuthorization),
            _ => return None,
        };
        name.eq_ignore_ascii_case(one).then_some(known)
    }

    fn name(self) -> &'static str {
        match self {
            Known::Te => "te",
            Known::Via => "via",
            Known::Host => "host",
            Known::Expect => "expect",
            Known::Upgrade => "upgrade",
            Known::Connection => "connection",
            Known::MaxForwards => "max-forwards",
            Known::ContentLength => "content-length",
            Known::TransferEncoding => "transfer-encoding",
            Known::ProxyAuthorization => "proxy-authorization",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The field lines of a checked head, borrowed from the buffer it was read into. Iterating allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Field lines with their CRLFs, without the empty line.
    raw: &'a [u8],
    /// The value of the first field of each known name, where it is present.
    firsts: [&'a [u8]; KNOWN],
    /// Which known names are there, by [`Known::bit`].
    present: u16,
    /// Which of them have more than one field.
    repeated: u16,
}

impl<'a> Fields<'a> {
    /// `raw` must have passed the checks of the head's parser.
    pub(crate) fn checked(raw: &'a [u8]) -> Self {
        let fields = Iter { rest: raw };
        Fields::parsed(raw, fields.map(|(name, value)| (name.as_bytes(), value)))
    }

    /// As [`Fields::checked`], with the fields that the parser found there.
    pub(crate) fn parsed(
        raw: &'a [u8],
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut all = Fields {
            raw,
            firsts: [&[]; KNOWN],
            present: 0,
            repeated: 0,
        };
        for (name, value) in fields {
            let Some(known) = Known::of(name) else {
                continue;
            };
            if all.present & known.bit() == 0 {
                all.present |= known.bit();
                all.firsts[known as usize] = trim(value);
            } else {
                all.repeated |= known.bit();
            }
        }
        all
    }

    /// Field lines with their CRLFs.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Each field line whole, with its name and value.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], &'a [u8])> {
        let mut iter = self.iter();
        std::iter::from_fn(move || iter.line())
    }

    /// The value of the first field of this name.
    pub(crate) fn value(&self, known: Known) -> Option<&'a [u8]> {
        self.has(known).then(|| self.firsts[known as usize])
    }

    /// Whether a field has this name.
    pub(crate) fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    /// Whether more than one field has this name.
    pub(crate) fn repeats(&self, known: Known) -> bool {
        self.repeated & known.bit() != 0
    }

    /// The elements of a comma-separated list field over all its lines (RFC 9110 section 5.6.1), empty ones left out.
    pub(crate) fn elements(&self, known: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rest = if self.repeats(known) { self.raw } else { &[] };
        let later = Iter { rest }
            .filter(move |(field, _)| field.eq_ignore_ascii_case(known.name()))
            .map(|(_, value)| value)
            .skip(1);
        self.value(known)
            .into_iter()
            .chain(later)
            .flat_map(|value| value.split(|&b| b == b','))
            .map(trim)
            .filter(|element| !element.is_empty())
    }

    /// Whether a list field has this element, compared without regard to case.
    pub(crate) fn lists(&self, known: Known, element: &str) -> bool {
        self.has(known)
            && self
                .elements(known)
                .any(|one| one.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// Each field as name (as the sender wrote it) and value without the blanks around it.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { rest: self.raw }
    }

    /// The value of the first field of this name, compared without regard to case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether there is no field at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// See [`Fields::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (_, name, value) = self.line()?;
        // Names are tokens (checked), so this never fails.
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

impl<'a> Iter<'a> {
    fn line(&mut self) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let end = memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        let colon = line.iter().position(|&b| b == b':')?;
        // A response's name may have blanks behind it.
        Some((line, trim(&line[..colon]), trim(&line[colon + 1..])))
    }
}

/// Without the blanks and the line end around it.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = value {
        value = rest;
    }
    value
}

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
