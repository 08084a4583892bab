//! What the kernel reports and counts, in the words of people.

use super::Interceptor;
use crate::intercept::event::{End, Kind, unix_time};
use crate::intercept::protocol::{FromBefore, PodReport};
use crate::intercept::{Event, Observers};
use crate::redirect::{Counter, EventKind, Existing, Observed};

impl Interceptor {
    /// Counts the connections that a pod which has just been attached to had made before, and closes them if asked to.
    #[must_use]
    pub fn with_existing(&self, mut report: PodReport, close: bool) -> PodReport {
        let mut served = self.served.values();
        let Some(pod) = served.find(|one| *one.pod.label == *report.pod) else {
            return report;
        };
        let (netns, cgroup) = (&pod.pod.netns, &pod.pod.cgroup);
        let found = Existing::find(netns, cgroup).and_then(|found| {
            let closed = match close {
                true => Existing::destroy(netns, &found)?,
                false => 0,
            };
            let left = found.len() - closed;
            Ok(FromBefore { left, closed })
        });
        match found {
            Ok(found) => report.from_before = Some(found),
            Err(error) => tracing::warn!(
                pod = report.pod,
                "the connections that the pod had made before cannot be counted or closed: {error}"
            ),
        }
        report
    }

    /// What the kernel reports, in the words of observers.
    #[must_use]
    pub fn event(&self, observed: &Observed) -> Event {
        let served = self
            .served
            .values()
            .find(|served| served.pod.number == observed.pod);
        let (event, action) = match observed.kind {
            EventKind::Relayed => (Kind::Redirected, "relay"),
            EventKind::Direct => (Kind::Direct, "direct"),
            EventKind::Denied => (Kind::Denied, "deny"),
            EventKind::QuicDenied => (Kind::QuicDenied, "deny"),
            EventKind::FailedOpen => (Kind::FailedOpen, "direct"),
            EventKind::FailedClosed => (Kind::FailedClosed, "deny"),
            EventKind::Closed => (Kind::Ended, "direct"),
            EventKind::NotMade => (Kind::NotMade, "direct"),
        };
        let ended = matches!(observed.kind, EventKind::Closed | EventKind::NotMade);
        let rule = served.map_or(0, |served| served.kernel.number(observed.rule));
        Event {
            event,
            time: unix_time(observed.age()),
            pod: served.map_or_else(
                || format!("pod {}", observed.pod),
                |served| served.pod.label.to_string(),
            ),
            process: observed.comm.clone(),
            pid: observed.pid,
            client: observed.source,
            destination: observed.destination,
            name: None,
            rule,
            action: action.to_owned(),
            end: ended.then_some(End {
                by: None,
                reason: None,
                detail: None,
                address: None,
                bytes_up: observed.sent,
                bytes_down: observed.received,
                seconds: observed.duration.as_secs_f64(),
            }),
        }
    }
}

/// What the kernel is to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reports {
    /// Refusals, and the ends of direct connections: for the access log and for observers.
    pub(super) ends: bool,
    /// What is about to be connected: for observers alone, for `connect()` has to wait until HNP is woken.
    pub(super) beginnings: bool,
}

impl Reports {
    /// With the access log or without, for whoever observes now.
    pub(super) fn wanted(log: bool, observers: &Observers) -> Self {
        let observed = observers.count() > 0;
        Self {
            ends: log || observed,
            beginnings: observed,
        }
    }
}

/// What the kernel counts, as it is called in reports and metrics.
pub const COUNTERS: [(Counter, &str); 12] = [
    (Counter::Relayed, "relayed"),
    (Counter::Direct, "direct"),
    (Counter::Bypassed, "bypassed"),
    (Counter::Denied, "denied"),
    (Counter::QuicDenied, "quic_denied"),
    (Counter::FailedOpen, "failed_open"),
    (Counter::FailedClosed, "failed_closed"),
    (Counter::Bound, "bound"),
    (Counter::NoMemory, "no_memory"),
    (Counter::NotPublished, "not_published"),
    (Counter::EventsLost, "events_lost"),
    (Counter::NoRules, "no_rules"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_for_observers_alone() {
        let observers = Observers::default();
        let wanted = |log, observers: &Observers| {
            let Reports { ends, beginnings } = Reports::wanted(log, observers);
            (ends, beginnings)
        };
        assert_eq!(wanted(false, &observers), (false, false));
        assert_eq!(wanted(true, &observers), (true, false));
        let one = observers.join();
        assert_eq!(wanted(false, &observers), (true, true));
        drop(one);
        assert_eq!(wanted(true, &observers), (true, false));
    }
}
