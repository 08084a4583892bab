//! From when to when something holds.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use x509_parser::asn1_rs::FromDer;
use x509_parser::time::ASN1Time;

use super::der::{GENERALIZED_TIME, INTEGER, Reader, SEQUENCE, UTC_TIME};

/// Both ends included; seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Span {
    pub(crate) const ALWAYS: Self = Self {
        from: i64::MIN,
        until: i64::MAX,
    };

    /// Of a certificate of any version.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let mut inner = Reader::new(certificate).sequence()?.sequence()?;
        // The version, which v1 leaves out.
        if inner.peek()? != INTEGER {
            inner.next()?;
        }
        inner.expect(INTEGER)?;
        inner.expect(SEQUENCE)?;
        inner.expect(SEQUENCE)?;
        Self::read(&mut inner)
    }

    /// Section 4.1.2.5 of RFC 5280.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut validity = reader.sequence()?;
        let span = Self {
            from: time(&mut validity)?,
            until: time(&mut validity)?,
        };
        validity.end()?;
        Some(span)
    }

    /// While both hold.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            until: self.until.min(other.until),
        }
    }

    /// # Errors
    /// As webpki has them.
    pub(super) fn check(self, now: UnixTime) -> Result<(), webpki::Error> {
        let seconds = seconds(now);
        if seconds < self.from {
            return Err(webpki::Error::CertNotValidYet {
                time: now,
                not_before: unix(self.from),
            });
        }
        if seconds > self.until {
            return Err(webpki::Error::CertExpired {
                time: now,
                not_after: unix(self.until),
            });
        }
        Ok(())
    }
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// What was before 1970 counts as then.
pub(super) fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// A time in UTC, with seconds and without fractions of them: sections 4.1.2.5.1 and 4.1.2.5.2.
pub(super) fn time(reader: &mut Reader<'_>) -> Option<i64> {
    let element = reader.next()?;
    let digits = match element.tag {
        UTC_TIME => 12,
        GENERALIZED_TIME => 14,
        _ => return None,
    };
    let (number, zone) = element.contents.split_at_checked(digits)?;
    if zone != b"Z" || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, time) = ASN1Time::from_der(element.whole).ok()?;
    Some(time.timestamp())
}
