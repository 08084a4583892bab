//! A line for each connection, in columns that grow with what they hold.

use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;

use crate::exec::table::{bytes, printable, time as duration};
use crate::intercept::Event;
use crate::intercept::event::Kind;

const COLUMNS: usize = 9;
const HEAD: [&str; COLUMNS] = [
    "TIME (UTC)",
    "POD",
    "PROCESS",
    "DESTINATION",
    "NAME",
    "DECISION",
    "SENT",
    "RECEIVED",
    "DURATION",
];
/// Where columns begin: most of what comes fits.
const WIDTHS: [usize; COLUMNS] = [12, 8, 16, 21, 20, 8, 9, 9, 9];
/// Columns of numbers, to the right.
const NUMBERS: std::ops::Range<usize> = 6..9;
/// A column grows no wider; a pod's uid fits.
const WIDEST: usize = 48;
const DECISION: usize = 5;

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Makes lines.
pub(super) struct Lines {
    colour: bool,
    widths: [usize; COLUMNS],
}

impl Lines {
    pub(super) fn new(colour: bool) -> Lines {
        Lines {
            colour,
            widths: WIDTHS,
        }
    }

    /// What the columns are.
    pub(super) fn head(&mut self) -> String {
        let head = self.row(&HEAD.map(str::to_owned), None, "");
        self.painted(DIM, &head)
    }

    /// A connection, or a part of it.
    pub(super) fn line(&mut self, event: &Event) -> String {
        let end = event.end.as_ref();
        let number = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let cells =
            [
                clock(event.time),
                printable(&event.pod),
                printable(&format!("{}[{}]", event.process, event.pid)),
                event.destination.to_string(),
                printable(event.name.as_deref().unwrap_or("-")),
                printable(&event.action),
                number(end.map(|end| bytes(end.bytes_up))),
                number(end.map(|end| bytes(end.bytes_down))),
                number(end.map(|end| {
                    duration(Duration::try_from_secs_f64(end.seconds).unwrap_or_default())
                })),
            ];
        let paint = match (event.event, &*event.action) {
            (Kind::FailedOpen, _) | (_, "direct") => YELLOW,
            (_, "deny") => RED,
            _ => GREEN,
        };
        self.row(&cells, Some(paint), &printable(&note(event)))
    }

    fn row(&mut self, cells: &[String; COLUMNS], paint: Option<&str>, note: &str) -> String {
        let mut row = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let length = cell.chars().count();
            let width = self.widths[column].max(length).min(WIDEST);
            self.widths[column] = width;
            let space = " ".repeat(width.saturating_sub(length));
            let cell = match paint {
                Some(paint) if column == DECISION => self.painted(paint, cell),
                _ => cell.clone(),
            };
            let _ = match NUMBERS.contains(&column) {
                true => write!(row, "{space}{cell}  "),
                false => write!(row, "{cell}{space}  "),
            };
        }
        row.push_str(note);
        row.truncate(row.trim_end().len());
        row
    }

    fn painted(&self, paint: &str, text: &str) -> String {
        match self.colour {
            true => format!("{paint}{text}{PLAIN}"),
            false => text.to_owned(),
        }
    }
}

/// What else there is to say.
fn note(event: &Event) -> String {
    match event.event {
        Kind::Redirected | Kind::Direct => "begins".to_owned(),
        Kind::FailedOpen => "begins: HNP could not take it".to_owned(),
        Kind::FailedClosed => "HNP could not take it".to_owned(),
        Kind::Denied => String::new(),
        Kind::QuicDenied => "QUIC".to_owned(),
        Kind::NotMade => "refused, unreachable or timed out".to_owned(),
        Kind::Ended => {
            let Some(end) = &event.end else {
                return String::new();
            };
            match (&end.detail, end.reason.as_deref()) {
                (Some(detail), _) => detail.clone(),
                (None, None | Some("eof")) => String::new(),
                (None, Some(reason)) => {
                    format!("{reason} by {}", end.by.as_deref().unwrap_or("the peer"))
                }
            }
        }
    }
}

/// `20:47:01.123`
fn clock(unix_seconds: f64) -> String {
    let milliseconds = (unix_seconds * 1e3) as i128;
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(milliseconds * 1_000_000) else {
        return "-".to_owned();
    };
    let (hour, minute, second, milli) = at.to_hms_milli();
    format!("{hour:02}:{minute:02}:{second:02}.{milli:03}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::intercept::event::End;

    /// One whose name, process and end are known.
    pub(crate) fn event(kind: Kind, action: &str) -> Event {
        Event {
            event: kind,
            time: 1_764_103_621.123_4,
            pod: "3f6bbb5c".to_owned(),
            process: "curl".to_owned(),
            pid: 4711,
            client: None,
            destination: "192.0.2.1:443".parse().unwrap(),
            name: Some("example.com".to_owned()),
            rule: 0,
            action: action.to_owned(),
            end: (kind == Kind::Ended).then(|| End {
                by: Some("upstream".to_owned()),
                reason: Some("eof".to_owned()),
                detail: None,
                address: None,
                bytes_up: 512,
                bytes_down: 2048,
                seconds: 0.25,
            }),
        }
    }

    #[test]
    fn columns_are_aligned_and_grow() {
        let mut lines = Lines::new(false);
        let head = lines.head();
        let first = lines.line(&event(Kind::Ended, "relay"));
        assert_eq!(
            first,
            "20:47:01.123  3f6bbb5c  curl[4711]        192.0.2.1:443          example.com           relay         512 B    2.0 KiB     250 ms"
        );
        for column in ["POD", "PROCESS", "DESTINATION", "NAME", "DECISION"] {
            let at = head.find(column).unwrap();
            assert!(
                first[..at].ends_with("  ") && !first[at..].starts_with(' '),
                "{column}"
            );
        }
        let mut long = event(Kind::Denied, "deny");
        long.name = Some("a-name-that-is-longer-than-most.example.com".to_owned());
        let long = lines.line(&long);
        let after = lines.line(&event(Kind::Denied, "deny"));
        assert_eq!(long.find("  deny"), after.find("deny").map(|at| at - 2));
        assert!(after.ends_with('-'), "nothing is known of bytes: {after}");
    }

    #[test]
    fn colour_is_for_terminals_and_the_network_has_no_say_in_it() {
        let mut denied = event(Kind::Denied, "deny");
        denied.name = Some("\x1b[31mred".to_owned());
        assert!(!Lines::new(false).line(&denied).contains('\x1b'));
        let coloured = Lines::new(true).line(&denied);
        assert!(coloured.contains("\x1b[31mdeny\x1b[0m"), "{coloured}");
        assert!(coloured.contains("?[31mred"), "{coloured}");
    }

    #[test]
    fn an_end_that_is_no_order_is_explained() {
        let mut broken = event(Kind::Ended, "relay");
        broken.end.as_mut().unwrap().reason = Some("reset".to_owned());
        let line = Lines::new(false).line(&broken);
        assert!(line.ends_with("250 ms  reset by upstream"), "{line}");
        broken.end.as_mut().unwrap().detail = Some("connection refused".to_owned());
        let line = Lines::new(false).line(&broken);
        assert!(line.ends_with("  connection refused"), "{line}");
    }
}
