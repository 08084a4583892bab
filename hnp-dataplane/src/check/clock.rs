//! This machine's clock: certificates are judged by it.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{Date, Month};

use super::Subject;
use super::report::{Group, Item};
use super::upstream::Told;
use crate::tls::{Clients, Server};

/// Seconds that an answer may differ without a word.
const CLOSE: i64 = 60;
/// Seconds from which certificates and tokens that were just issued do not hold.
const FAR: i64 = 600;

pub(super) fn look(subject: &Subject, told: &[Told]) -> Vec<Item> {
    let mut group = Group::new("clock");
    for one in told {
        compare(&mut group, one);
    }
    if told.is_empty() {
        certificates(&mut group, subject);
    }
    synchronized(&mut group);
    group.items
}

fn compare(group: &mut Group, told: &Told) {
    let off = told.here - told.time;
    let direction = if off < 0 { "behind" } else { "ahead of" };
    let detail = format!("{} seconds {direction} {}'s", off.abs(), told.part);
    let remedy =
        "have this machine's clock set by NTP (chrony, systemd-timesyncd), or that of the upstream";
    match off.abs() {
        ..=CLOSE => group.ok("skew", format!("within a minute of {}'s", told.part)),
        FAR.. => group.fail("skew", detail, remedy),
        _ => group.warn("skew", detail, remedy),
    }
}

/// Nobody said what time it is, but it is later than any certificate's beginning.
fn certificates(group: &mut Group, subject: &Subject) {
    let config = subject.config();
    let server = Server::compile(config, None).ok().flatten();
    let clients = Clients::compile(config, None).ok();
    let server = server.iter().flat_map(|server| server.certificates());
    let clients = clients.iter().flat_map(|clients| clients.certificates());
    let begun = server.chain(clients).map(|loaded| loaded.not_before).max();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    match begun {
        None => group.ok("skew", "not known: no upstream has told the time"),
        Some(begun) if begun <= now => group.ok(
            "skew",
            "no upstream has told the time; every certificate's validity has begun",
        ),
        Some(begun) => group.warn(
            "skew",
            format!(
                "a certificate becomes valid in {} seconds only: this clock may be behind",
                begun - now
            ),
            "have this machine's clock set by NTP (chrony, systemd-timesyncd)",
        ),
    }
}

/// adjtimex(2): whether somebody keeps the clock right.
fn synchronized(group: &mut Group) {
    let name = "synchronized";
    match state() {
        None => group.ok(name, "not known: the kernel does not tell"),
        Some(status) if status & libc::STA_UNSYNC == 0 => {
            group.ok(name, "the kernel's clock is kept right");
        }
        Some(_) => group.warn(
            name,
            "nobody keeps the kernel's clock right (STA_UNSYNC)",
            "run chrony or systemd-timesyncd on the host",
        ),
    }
}

#[expect(unsafe_code, reason = "nix has no adjtimex")]
fn state() -> Option<libc::c_int> {
    // SAFETY: integers only, for which zero is a value. No mode is set, so that nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to `state` during the call, and keeps no pointer to it.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result != -1).then_some(state.status)
}

/// The usual form of a date (RFC 9110 section 5.6.7), in seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let [_, day, month, year, time, "GMT"] = text.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = Month::try_from(u8::try_from(month + 1).ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let mut parts = time.split(':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // A leap second is no time of its own here.
    let at = date.with_hms(hour, minute, second.min(59)).ok()?;
    Some(at.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers_are_read() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        for odd in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_said_by_how_much() {
        for (here, name) in [
            (1000, "Ok"),
            (1061, "Warning"),
            (939, "Warning"),
            (1600, "Failure"),
        ] {
            let mut group = Group::new("clock");
            let part = "upstream".to_owned();
            compare(
                &mut group,
                &Told {
                    part,
                    time: 1000,
                    here,
                },
            );
            let item = &group.items[0];
            assert_eq!(format!("{:?}", item.status), name, "{item:?}");
            assert_eq!(item.remedy.is_some(), name != "Ok");
        }
    }
}
