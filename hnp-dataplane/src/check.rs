//! `hnp check`: what `hnp run` will need, tried beforehand.
//!
//! ```text
//! configuration  loads, and its addresses can be listened on
//! kernel         what the event loop and interception need of it
//! capabilities   what interception and low ports need
//! limits         descriptors, queues, ports, buffers
//! certificates   readable, valid, fit for their roles
//! upstream       name, connection, parent proxy, TLS, certificate, answer
//! clock          against the upstream's
//! ```
//!
//! Each group is looked at by a thread of its own, and all of them together get [`LIMIT`].

mod capabilities;
mod certificates;
mod clock;
mod configuration;
mod kernel;
mod limits;
mod report;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError, Loaded};

pub(crate) use report::Report;
use report::{Group, Item};

/// For everything.
const LIMIT: Duration = Duration::from_secs(10);

/// What is checked.
struct Subject {
    loaded: Loaded,
    /// Whether interception is wanted: without it, what it needs and does not have is only worth a warning.
    intercept: bool,
    /// Where interception keeps its pins.
    pins: PathBuf,
}

impl Subject {
    fn config(&self) -> &Config {
        &self.loaded.config
    }
}

/// Those who look, in the order of the report.
type Look = fn(&Subject) -> Vec<Item>;
const LOOKS: [(&str, Look); 6] = [
    ("configuration", configuration::look),
    ("kernel", kernel::look),
    ("capabilities", capabilities::look),
    ("limits", limits::look),
    ("certificates", certificates::look),
    ("upstream", upstream_and_clock),
];

/// Looks at everything. `intercept`: as if interception were configured.
pub(crate) fn check(loaded: Loaded, intercept: bool) -> Report {
    let configured = loaded.config.intercept.clone();
    let subject = Arc::new(Subject {
        loaded,
        intercept: intercept || configured.is_some(),
        pins: configured.unwrap_or_default().pins,
    });
    let deadline = Instant::now() + LIMIT;
    let under_way: Vec<_> = LOOKS
        .iter()
        .map(|&(name, look)| (name, begin(look, Arc::clone(&subject))))
        .collect();
    let items = under_way
        .into_iter()
        .flat_map(|(name, items)| finished(name, &items, deadline));
    Report {
        items: items.collect(),
    }
}

impl Report {
    /// Of a configuration that cannot be loaded: nothing else is looked at then.
    pub(crate) fn refused(error: &ConfigError) -> Report {
        let mut group = Group::new("configuration");
        let usual = "correct it: docs/configuration.md says what can be set";
        match error.diagnostics() {
            [] => group.fail("loads", error.summary(), NOTHING),
            mistakes => {
                for mistake in mistakes {
                    let detail = format!("{}: {}", mistake.place, mistake.message);
                    let help = mistake.help.as_deref().unwrap_or(usual);
                    group.fail("loads", detail, help);
                }
            }
        }
        Report { items: group.items }
    }
}

/// What to do about a configuration of which there is nothing.
const NOTHING: &str =
    "set PROXY_URL, or name a file that this user may read with --config or HNP_CONFIG";

/// The upstream's answer tells the time.
fn upstream_and_clock(subject: &Subject) -> Vec<Item> {
    let (mut items, times) = upstream::look(subject);
    items.extend(clock::look(subject, &times));
    items
}

fn begin(look: Look, subject: Arc<Subject>) -> mpsc::Receiver<Vec<Item>> {
    let (found, items) = mpsc::channel();
    // A thread that cannot be started drops the sender, as one that panics does.
    let _ = thread::Builder::new().spawn(move || found.send(look(&subject)));
    items
}

fn finished(name: &'static str, items: &mpsc::Receiver<Vec<Item>>, deadline: Instant) -> Vec<Item> {
    let left = deadline.saturating_duration_since(Instant::now());
    let (why, remedy) = match items.recv_timeout(left) {
        Ok(items) => return items,
        Err(mpsc::RecvTimeoutError::Timeout) => (
            format!("not looked at within {LIMIT:?}"),
            "run it again; if that does not help, find out what the system is busy with",
        ),
        Err(mpsc::RecvTimeoutError::Disconnected) => (
            "could not be looked at: its thread ended early".to_owned(),
            "this is a bug of HNP, to be reported with what was written to standard error",
        ),
    };
    let mut group = Group::new(name);
    group.fail("finished", why, remedy);
    group.items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_or_panics_is_reported_and_does_not_hold_up_the_rest() {
        let (_found, hanging) = mpsc::channel();
        let late = finished("kernel", &hanging, Instant::now());
        assert!(late[0].detail.contains("not looked at within"), "{late:?}");
        let (found, gone) = mpsc::channel();
        drop(found);
        let gone = finished("kernel", &gone, Instant::now() + LIMIT);
        assert!(gone[0].detail.contains("ended early"), "{gone:?}");
        assert!([&late, &gone].iter().all(|items| items[0].remedy.is_some()));
    }
}
