//! The header fields of a head that has been checked: read where they lie, in the order they came.

/// The field lines of a checked head, borrowed from the buffer it was read into. Iterating allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Field lines with their CRLFs, without the empty line.
    raw: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `raw` must have passed the checks of the head's parser.
    pub(crate) fn checked(raw: &'a [u8]) -> Self {
        Fields { raw }
    }

    /// Each field as name (as the sender wrote it) and value without the blanks around it.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { rest: self.raw }
    }

    /// The values of all fields of this name, compared without regard to case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter()
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
        let end = self.rest.iter().position(|&b| b == b'\n')?;
        let (line, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        let colon = line.iter().position(|&b| b == b':')?;
        // Names are tokens (checked), so this never fails; a response's name may have blanks behind it.
        let name = std::str::from_utf8(&line[..colon]).ok()?.trim_end();
        Some((name, trim(&line[colon + 1..])))
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
