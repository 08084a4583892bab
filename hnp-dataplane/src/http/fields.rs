//! The header fields of a head that has been checked: read where they lie, in the order they came.

use memchr::memchr;

/// The field lines of a checked head, borrowed from the buffer it was read into. Iterating allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Field lines with their CRLFs, without the empty line.
    raw: &'a [u8],
    /// Which of the names that a proxy asks for are there, by [`bit`]: most are not, and are not looked for then.
    present: u32,
}

/// The place of a name that a proxy asks for in every message.
fn bit(name: &[u8]) -> Option<u32> {
    let (name_there, place) = match name.len() {
        2 => (&b"te"[..], 0),
        3 => (&b"via"[..], 1),
        4 => (&b"host"[..], 2),
        6 => (&b"expect"[..], 3),
        7 => (&b"upgrade"[..], 4),
        10 => (&b"connection"[..], 5),
        12 => (&b"max-forwards"[..], 6),
        14 => (&b"content-length"[..], 7),
        17 => (&b"transfer-encoding"[..], 8),
        19 => (&b"proxy-authorization"[..], 9),
        _ => return None,
    };
    name.eq_ignore_ascii_case(name_there).then_some(1 << place)
}

impl<'a> Fields<'a> {
    /// `raw` must have passed the checks of the head's parser.
    pub(crate) fn checked(raw: &'a [u8]) -> Self {
        let present = Iter { rest: raw }
            .filter_map(|(name, _)| bit(name.as_bytes()))
            .fold(0, |present, bit| present | bit);
        Fields { raw, present }
    }

    /// Field lines with their CRLFs.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Each field line whole, with its name and value.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a str, &'a [u8])> {
        let mut iter = self.iter();
        std::iter::from_fn(move || iter.line())
    }

    /// False only if no field has this name.
    fn may_have(&self, name: &str) -> bool {
        bit(name.as_bytes()).is_none_or(|bit| self.present & bit != 0)
    }

    /// Each field as name (as the sender wrote it) and value without the blanks around it.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { rest: self.raw }
    }

    /// The values of all fields of this name, compared without regard to case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let raw = if self.may_have(name) { self.raw } else { &[] };
        Iter { rest: raw }
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The elements of a comma-separated list field over all its lines (RFC 9110 section 5.6.1), empty ones left out.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.all(name)
            .flat_map(|value| value.split(|&b| b == b','))
            .map(trim)
            .filter(|element| !element.is_empty())
    }

    /// Whether a list field has this element, compared without regard to case.
    #[must_use]
    pub fn list_has(&self, name: &str, element: &str) -> bool {
        self.list(name)
            .any(|one| one.eq_ignore_ascii_case(element.as_bytes()))
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
        self.line().map(|(_, name, value)| (name, value))
    }
}

impl<'a> Iter<'a> {
    fn line(&mut self) -> Option<(&'a [u8], &'a str, &'a [u8])> {
        let end = memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        let colon = memchr(b':', line)?;
        // Names are tokens (checked), so this never fails; a response's name may have blanks behind it.
        let name = std::str::from_utf8(&line[..colon]).ok()?.trim_end();
        Some((line, name, trim(&line[colon + 1..])))
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
