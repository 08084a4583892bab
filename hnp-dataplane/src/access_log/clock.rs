//! Times of log lines: RFC 3339, UTC, microseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Formats times, remembering the second it formatted last: lines of one second share all but the fraction.
#[derive(Debug)]
pub(crate) struct Clock {
    second: Option<u64>,
    /// `2026-11-22T20:49:20.` of that second.
    text: [u8; 20],
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            second: None,
            text: *b"0000-00-00T00:00:00.",
        }
    }

    /// `2026-11-22T20:49:20.123456Z`. A time before 1970 (a clock that was never set) shows as 1970.
    pub(crate) fn format(&mut self, time: SystemTime) -> [u8; 27] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = render_second(since.as_secs());
        }
        let mut text = [b'Z'; 27];
        text[..20].copy_from_slice(&self.text);
        digits(&mut text[20..26], u64::from(since.subsec_micros()));
        text
    }
}

fn render_second(unix: u64) -> [u8; 20] {
    let (days, second) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    text
}

/// The Gregorian date of a day counted from 1970-01-01.
///
/// Years are taken to begin in March, so that a leap day is the last of its year; 400 of them are always 146,097 days.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    // Take out the leap days before this day (each 4th year, not each 100th, but the 400th) and years are even.
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March the months' lengths repeat 31 30 31 30 31 each 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// `value`, right-aligned with leading zeros.
fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn format(seconds: u64, microseconds: u64) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(microseconds);
        String::from_utf8(Clock::new().format(time).to_vec()).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(format(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(
            format(1_709_251_199, 999_999),
            "2024-02-29T23:59:59.999999Z"
        );
        assert_eq!(format(1_709_251_200, 0), "2024-03-01T00:00:00.000000Z");
        assert_eq!(format(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(format(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut expected = (1970, 1, 1);
        for day in 0..200_000 {
            assert_eq!(civil(day), expected, "day {day}");
            let (year, month, day_of_month) = expected;
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (day_of_month == length, month) {
                (false, _) => (year, month, day_of_month + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }

    #[test]
    fn a_remembered_second_changes_nothing() {
        let mut clock = Clock::new();
        for (seconds, nanoseconds) in [(1, 5_000), (1, 999_999_999), (2, 0), (1, 1_000)] {
            let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            assert_eq!(clock.format(time), Clock::new().format(time));
        }
    }

    #[test]
    fn a_clock_before_1970_is_no_panic() {
        assert_eq!(
            &Clock::new().format(UNIX_EPOCH - Duration::from_secs(1)),
            b"1970-01-01T00:00:00.000000Z"
        );
    }
}
