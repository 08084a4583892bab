//! Where the command connected: a row for each destination, name and decision.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

/// Destinations kept apart at most; a command that scans a network must not take all memory.
const MOST_ROWS: usize = 4096;
/// Rows printed at most for people.
const MOST_LINES: usize = 100;

/// One connection of the command, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What it asked for.
    pub(crate) destination: SocketAddr,
    /// The name that its first bytes asked for.
    pub(crate) name: Option<String>,
    /// What was done with it.
    pub(crate) decision: Cow<'static, str>,
    /// Bytes from the command.
    pub(crate) up: u64,
    /// Bytes to the command.
    pub(crate) down: u64,
    pub(crate) duration: Duration,
    /// Whether it did not come about, or broke.
    pub(crate) failed: bool,
    /// What else people are to know of it: why it failed, mostly.
    pub(crate) note: Option<String>,
}

impl Seen {
    /// One of which nothing more is known.
    pub(crate) fn new(destination: SocketAddr, decision: impl Into<Cow<'static, str>>) -> Seen {
        Seen {
            destination,
            name: None,
            decision: decision.into(),
            up: 0,
            down: 0,
            duration: Duration::ZERO,
            failed: false,
            note: None,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// In the order of their first connection.
    rows: Vec<Row>,
    places: HashMap<Key, usize>,
    /// Connections beyond the rows.
    others: u64,
    /// Connections that came to their ends faster than these were noted.
    lost: u64,
}

type Key = (SocketAddr, Option<String>, Cow<'static, str>);

#[derive(Debug)]
struct Row {
    key: Key,
    connections: u64,
    up: u64,
    down: u64,
    longest: Duration,
    failed: u64,
    /// The last of them.
    note: Option<String>,
}

impl Table {
    /// Adds one.
    pub(crate) fn add(&mut self, seen: Seen) {
        let key = (seen.destination, seen.name, seen.decision);
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.rows.len() == MOST_ROWS => {
                self.others += 1;
                return;
            }
            None => {
                self.places.insert(key.clone(), self.rows.len());
                self.rows.push(Row::new(key));
                self.rows.len() - 1
            }
        };
        let row = &mut self.rows[place];
        row.connections += 1;
        row.up += seen.up;
        row.down += seen.down;
        row.longest = row.longest.max(seen.duration);
        row.failed += u64::from(seen.failed);
        if seen.note.is_some() {
            row.note = seen.note;
        }
    }

    /// So many were not noted.
    pub(crate) fn lost(&mut self, connections: u64) {
        self.lost += connections;
    }

    /// For people. What comes from the network is shown without control characters.
    pub(crate) fn to_text(&self) -> String {
        if self.rows.is_empty() && self.lost == 0 {
            return "hnp: the command made no connections that leave this host\n".to_owned();
        }
        let head = [
            "DESTINATION",
            "NAME",
            "DECISION",
            "CONNECTIONS",
            "FAILED",
            "SENT",
            "RECEIVED",
            "LONGEST",
        ];
        let mut lines = vec![head.map(str::to_owned)];
        let shown = &self.rows[..self.rows.len().min(MOST_LINES)];
        lines.extend(shown.iter().map(Row::cells));
        let widths = widths(&lines);
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let mut row = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Text to the left, numbers to the right.
                let _ = match column {
                    0..3 => write!(row, "{cell:<width$}  "),
                    _ => write!(row, "{cell:>width$}  "),
                };
            }
            let note = index
                .checked_sub(1)
                .and_then(|row| shown[row].note.as_deref());
            row.push_str(&printable(note.unwrap_or_default()));
            text.push_str(row.trim_end());
            text.push('\n');
        }
        let more = (self.rows.len() - shown.len()) as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {more} more rows, which --json prints");
        }
        if self.others > 0 {
            let _ = writeln!(
                text,
                "… and {} connections to yet other destinations",
                self.others
            );
        }
        if self.lost > 0 {
            let _ = writeln!(
                text,
                "… and {} connections that ended too fast to be noted",
                self.lost
            );
        }
        text
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        json!({
            "destinations": rows,
            "connections_elsewhere": self.others,
            "connections_not_noted": self.lost,
        })
    }
}

impl Row {
    fn new(key: Key) -> Row {
        Row {
            key,
            connections: 0,
            up: 0,
            down: 0,
            longest: Duration::ZERO,
            failed: 0,
            note: None,
        }
    }

    fn cells(&self) -> [String; 8] {
        let (destination, name, decision) = &self.key;
        [
            destination.to_string(),
            printable(name.as_deref().unwrap_or("-")),
            decision.to_string(),
            self.connections.to_string(),
            match self.failed {
                0 => "-".to_owned(),
                failed => failed.to_string(),
            },
            bytes(self.up),
            bytes(self.down),
            time(self.longest),
        ]
    }

    fn to_json(&self) -> Value {
        let (destination, name, decision) = &self.key;
        json!({
            "destination": destination.to_string(),
            "name": name,
            "decision": decision,
            "connections": self.connections,
            "failed": self.failed,
            "note": self.note,
            "bytes_up": self.up,
            "bytes_down": self.down,
            "longest_ms": self.longest.as_secs_f64() * 1e3,
        })
    }
}

fn widths<const N: usize>(lines: &[[String; N]]) -> [usize; N] {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

/// Without what could move a terminal's cursor or colour its text.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// `812 B`, `1.4 KiB`, `3.0 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024.0 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.4 ms`, `87 ms`, `3.2 s`, `4 m 05 s`, `2 h 30 m`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_secs_f64() {
        ms if ms < 0.009_95 => format!("{:.1} ms", ms * 1e3),
        ms if ms < 0.999_5 => format!("{:.0} ms", ms * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if seconds < 3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_one_place_are_one_row() {
        let mut table = Table::default();
        table.add(seen("192.0.2.1:443", Some("example.com"), "relay"));
        table.add(Seen {
            duration: Duration::from_millis(1500),
            ..seen("192.0.2.1:443", Some("example.com"), "relay")
        });
        table.add(Seen {
            up: 0,
            down: 0,
            failed: true,
            note: Some("connection refused".into()),
            ..seen("[2001:db8::1]:80", None, "direct")
        });
        table.add(seen("192.0.2.1:443", Some("other.test"), "relay"));
        assert_eq!(
            table.to_text(),
            "\
DESTINATION       NAME         DECISION  CONNECTIONS  FAILED   SENT  RECEIVED  LONGEST
192.0.2.1:443     example.com  relay               2       -  200 B   4.0 KiB    1.5 s
[2001:db8::1]:80  -            direct              1       1    0 B       0 B   0.3 ms  connection refused
192.0.2.1:443     other.test   relay               1       -  100 B   2.0 KiB   0.3 ms
"
        );
        let json = table.to_json();
        assert_eq!(json["destinations"][0]["connections"], 2);
        assert_eq!(json["destinations"][0]["bytes_down"], 4096);
        assert_eq!(json["destinations"][1]["note"], "connection refused");
        assert_eq!(json["destinations"][1]["name"], Value::Null);
        assert_eq!(json["destinations"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn without_connections_it_says_so() {
        let table = Table::default();
        assert!(table.to_text().contains("no connections"));
        assert_eq!(table.to_json()["destinations"], json!([]));
    }

    #[test]
    fn a_scan_of_a_network_is_bounded() {
        let mut table = Table::default();
        for port in 0..MOST_ROWS as u16 + 7 {
            table.add(seen(&format!("192.0.2.1:{port}"), None, "relay"));
        }
        let text = table.to_text();
        assert_eq!(text.lines().count(), 1 + MOST_LINES + 2);
        assert!(text.contains("… and 3996 more rows"), "{text}");
        assert!(text.contains("… and 7 connections"), "{text}");
        assert_eq!(table.to_json()["connections_elsewhere"], 7);
    }

    #[test]
    fn what_the_network_says_cannot_play_with_the_terminal() {
        let mut table = Table::default();
        table.add(seen("192.0.2.1:80", Some("a\x1b[2Jb\n"), "relay"));
        let text = table.to_text();
        assert!(text.contains("a?[2Jb?") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [0, 1023, 1024, 1_048_575, 1 << 20, 5 << 40].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "5.0 TiB"]
        );
        let times = [0.000_4, 0.0874, 0.9996, 3.21, 245.0, 9000.0];
        let times = times.map(|s| time(Duration::from_secs_f64(s)));
        assert_eq!(
            times,
            ["0.4 ms", "87 ms", "1.0 s", "3.2 s", "4 m 05 s", "2 h 30 m"]
        );
    }

    fn seen(destination: &str, name: Option<&str>, decision: &'static str) -> Seen {
        Seen {
            name: name.map(str::to_owned),
            up: 100,
            down: 2048,
            duration: Duration::from_micros(300),
            ..Seen::new(destination.parse().unwrap(), decision)
        }
    }
}
