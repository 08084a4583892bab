//! The units that users write: durations as `"10s"`, sizes as `"32KiB"`, ports as `443` or `"9000-9999"`.
//!
//! Each parses with [`FromStr`], prints with [`Display`](fmt::Display) what parses to the same value, and says in its
//! error what was wrong and what to write instead.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A duration written as `"250ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"` or a sum of such, largest first (`"1h30m"`).
///
/// Whole milliseconds, at most a hundred years, so that adding one to an `Instant` cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// A number of bytes written as `4096` or `"32KiB"` (B, KiB, MiB, GiB, and KB, MB, GB in powers of ten).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A port or an inclusive range of ports, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies within.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Why a text is not a value of the unit. The message says what to write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Nothing between the quotes.
    #[error("an empty string is not a {0}")]
    Empty(&'static str),
    /// A bare number where the unit decides what it means.
    #[error("`{0}` has no unit: write `{0}s`, or `ms`, `m`, `h`, `d`")]
    NoDurationUnit(String),
    /// Neither a number nor a unit.
    #[error(
        "`{0}` is not a duration: write whole numbers with `ms`, `s`, `m`, `h` or `d`, as in `1h30m`"
    )]
    Duration(String),
    /// `30m1h`, `1s1s`.
    #[error("`{0}` is not a duration: each unit once, the largest first, as in `1h30m`")]
    DurationOrder(String),
    /// Beyond what the clock can be asked to count.
    #[error("`{0}` is too long: at most a hundred years (`36500d`)")]
    DurationTooLong(String),
    /// Not a whole number, or not a unit.
    #[error(
        "`{0}` is not a size: write a whole number of bytes, alone or with B, KiB, MiB, GiB, KB, MB or GB"
    )]
    Size(String),
    /// Beyond 64 bits.
    #[error("`{0}` is too large: sizes are 64-bit numbers of bytes")]
    SizeTooLarge(String),
    /// Not a port, not a range.
    #[error("`{0}` is not a port: write 1 to 65535, or a range such as `9000-9999`")]
    Port(String),
    /// `2-1`.
    #[error("the range `{0}` ends before it starts: write `{1}`")]
    PortOrder(String, PortRange),
}

const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Largest first: the order in which a sum is written.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Binary units first, so that printing prefers them.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Duration(text.to_owned());
        let too_long = || UnitError::DurationTooLong(text.to_owned());
        if text.is_empty() {
            return Err(UnitError::Empty("duration"));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnitError::NoDurationUnit(text.to_owned()));
        }
        let mut rest = text;
        let mut total: u64 = 0;
        let mut next_unit = 0;
        while !rest.is_empty() {
            let (number, after) = split_digits(rest);
            if number.is_empty() {
                return Err(wrong());
            }
            let unit_length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(unit_length);
            let position = DURATION_UNITS
                .iter()
                .position(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            if position < next_unit {
                return Err(UnitError::DurationOrder(text.to_owned()));
            }
            next_unit = position + 1;
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(DURATION_UNITS[position].1))
                .and_then(|n| n.checked_add(total))
                .ok_or_else(too_long)?;
            rest = after;
        }
        let duration = Duration::from_millis(total);
        if duration > LONGEST {
            return Err(too_long());
        }
        Ok(HumanDuration(duration))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in DURATION_UNITS {
            let count = rest / milliseconds;
            rest %= milliseconds;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.is_empty() {
            return Err(UnitError::Empty("size"));
        }
        let (number, unit) = split_digits(text);
        let factor = match unit {
            "" => Some(1),
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, factor)| *factor),
        };
        let (false, Some(factor)) = (number.is_empty(), factor) else {
            return Err(UnitError::Size(text.to_owned()));
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .map(Size)
            .ok_or_else(|| UnitError::SizeTooLarge(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for PortRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Port(text.to_owned());
        let port = |text: &str| match split_digits(text) {
            (digits, "") => digits.parse::<u16>().ok().filter(|port| *port != 0),
            _ => None,
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first = port(first.trim()).ok_or_else(wrong)?;
        let last = port(last.trim()).ok_or_else(wrong)?;
        if last < first {
            let swapped = PortRange {
                first: last,
                last: first,
            };
            return Err(UnitError::PortOrder(text.to_owned(), swapped));
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The leading ASCII digits, and the rest.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text::<Self>::expecting("a duration such as \"10s\""))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text::or_number("a size such as \"32KiB\"", |n| Ok(Size(n))))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |n: u64| n.to_string().parse();
        deserializer.deserialize_any(Text::or_number(
            "a port or a range such as \"9000-9999\"",
            number,
        ))
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

/// Reads `T` from a string, and from a whole number where the unit has one.
struct Text<T> {
    expecting: &'static str,
    number: Option<fn(u64) -> Result<T, UnitError>>,
}

impl<T> Text<T> {
    fn expecting(expecting: &'static str) -> Self {
        Text {
            expecting,
            number: None,
        }
    }

    fn or_number(expecting: &'static str, number: fn(u64) -> Result<T, UnitError>) -> Self {
        let number = Some(number);
        Text { expecting, number }
    }
}

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        match self.number {
            Some(read) => read(number).map_err(E::custom),
            None => Err(E::custom(UnitError::NoDurationUnit(number.to_string()))),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

/// One value, an address or a path, or a list of them.
pub(super) mod one_or_many {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::value::StrDeserializer;
    use serde::de::{Deserialize, Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serialize, Serializer};

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        deserializer.deserialize_any(OneOrMany(PhantomData))
    }

    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match values {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            T::deserialize(StrDeserializer::new(text)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
}

/// An address, or `"off"` for none: TOML has no null with which to take a default away.
pub(super) mod address_or_off {
    use std::net::SocketAddr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "off" => Ok(None),
            address => address.parse().map(Some).map_err(D::Error::custom),
        }
    }

    #[allow(
        clippy::ref_option,
        reason = "serde's `with` passes a reference to the field"
    )]
    pub(crate) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => address.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let table: [(&str, Result<u64, &str>); 16] = [
            ("250ms", Ok(250)),
            ("10s", Ok(10_000)),
            ("5m", Ok(300_000)),
            ("1h", Ok(3_600_000)),
            ("7d", Ok(604_800_000)),
            ("1h30m", Ok(5_400_000)),
            ("1m1ms", Ok(60_001)),
            ("0s", Ok(0)),
            ("36500d", Ok(3_153_600_000_000)),
            ("36501d", Err("too long")),
            ("99999999999999999999d", Err("too long")),
            ("", Err("an empty string is not a duration")),
            ("10", Err("`10` has no unit: write `10s`")),
            ("1.5h", Err("whole numbers")),
            ("10 s", Err("is not a duration")),
            ("30m1h", Err("the largest first")),
        ];
        for (text, expected) in table {
            check(
                text,
                expected,
                text.parse::<HumanDuration>()
                    .map(|d| d.0.as_millis() as u64),
            );
        }
    }

    #[test]
    fn sizes() {
        let table: [(&str, Result<u64, &str>); 10] = [
            ("4096", Ok(4096)),
            ("12B", Ok(12)),
            ("32KiB", Ok(32 << 10)),
            ("1MiB", Ok(1 << 20)),
            ("2gib", Ok(2 << 30)),
            ("3MB", Ok(3_000_000)),
            ("", Err("an empty string is not a size")),
            ("-1", Err("whole number of bytes")),
            ("1K", Err("KiB, MiB")),
            ("18446744073709551615KiB", Err("too large")),
        ];
        for (text, expected) in table {
            check(text, expected, text.parse::<Size>().map(|size| size.0));
        }
    }

    #[test]
    fn ports() {
        type Bounds = (u16, u16);
        let table: [(&str, Result<Bounds, &str>); 9] = [
            ("443", Ok((443, 443))),
            ("9000-9999", Ok((9000, 9999))),
            ("1 - 65535", Ok((1, 65535))),
            ("0", Err("1 to 65535")),
            ("65536", Err("1 to 65535")),
            ("+80", Err("is not a port")),
            ("80-", Err("is not a port")),
            ("http", Err("is not a port")),
            ("9999-9000", Err("write `9000-9999`")),
        ];
        for (text, expected) in table {
            let range = text.parse::<PortRange>();
            check(text, expected, range.map(|range| (range.first, range.last)));
        }
    }

    fn check<T: PartialEq + fmt::Debug>(
        text: &str,
        expected: Result<T, &str>,
        found: Result<T, UnitError>,
    ) {
        match (expected, found) {
            (Ok(expected), Ok(found)) => assert_eq!(expected, found, "{text}"),
            (Err(part), Err(error)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (expected, found) => panic!("{text}: expected {expected:?}, found {found:?}"),
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Units {
        duration: HumanDuration,
        size: Size,
        ports: Vec<PortRange>,
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            milliseconds in 0..=LONGEST.as_millis() as u64,
            bytes in prop_oneof![any::<u64>(), (0..1u64 << 33).prop_map(|n| n << 10)],
            a in 1..=u16::MAX,
            b in 1..=u16::MAX,
        ) {
            let duration = HumanDuration(Duration::from_millis(milliseconds));
            let size = Size(bytes);
            let range = PortRange { first: a.min(b), last: a.max(b) };
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            prop_assert_eq!(range.to_string().parse(), Ok(range));

            let units = Units { duration, size, ports: vec![range, PortRange { first: a, last: a }] };
            let text = toml::to_string(&units).unwrap();
            prop_assert_eq!(toml::from_str::<Units>(&text).unwrap(), units);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,12}|[0-9]{1,22}(ms|s|d|KiB|GB|-[0-9]{1,6})") {
            // Overflow and slicing inside a character would panic here.
            let _ = text.parse::<HumanDuration>();
            let _ = text.parse::<Size>();
            let _ = text.parse::<PortRange>();
        }
    }
}
