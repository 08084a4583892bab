//! What is known of a captured connection, and told of it when it ends.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::access_log::{CapturedEntry, ClosedBy};
use crate::admin::metrics::Outcome;
use crate::config::model::InterceptAction;
use crate::intercept::event::{End, Kind, unix_time};
use crate::intercept::{Event, Pod, Verdict};
use crate::redirect::OriginalDestination;
use crate::uring;

/// A captured connection. Its `Drop` counts it and tells observers of its end.
#[derive(Debug)]
pub struct Captured {
    /// Whose it is.
    pub pod: Arc<Pod>,
    /// Where it was meant to go, and who made it.
    pub original: OriginalDestination,
    worker: usize,
    client: SocketAddr,
    begun: Instant,
    name: OnceCell<Box<str>>,
    verdict: Cell<Option<Verdict>>,
    ended: RefCell<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    last: Option<(ClosedBy, &'static str)>,
    detail: Option<Box<str>>,
    address: Option<SocketAddr>,
    denied: bool,
    up: u64,
    down: u64,
}

/// The end of a connection, or of one of its requests.
#[derive(Debug)]
pub struct Part<'a> {
    /// Who ended it.
    pub by: ClosedBy,
    /// Code of why.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: Option<&'a str>,
    /// Where it went, if it got there.
    pub address: Option<SocketAddr>,
    /// Policy refused it.
    pub denied: bool,
    /// Bytes from the pod, and to it.
    pub bytes: (u64, u64),
}

impl Captured {
    pub(super) fn new(
        worker: usize,
        pod: Arc<Pod>,
        original: OriginalDestination,
        client: SocketAddr,
    ) -> Self {
        Captured {
            pod,
            original,
            worker,
            client,
            begun: uring::now(),
            name: OnceCell::new(),
            verdict: Cell::new(None),
            ended: RefCell::default(),
        }
    }

    /// The name it asks for, where that was looked for and found.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.get().map(AsRef::as_ref)
    }

    /// What is done with it.
    pub(super) fn judged(&self, verdict: Verdict, name: Option<Box<str>>) {
        self.verdict.set(Some(verdict));
        if let Some(name) = name {
            let _ = self.name.set(name);
        }
    }

    /// The name that it asked for, once all was decided.
    pub(super) fn overheard(&self, name: Option<Box<str>>) {
        if let Some(name) = name {
            let _ = self.name.set(name);
        }
    }

    /// It, or one of its requests, has ended.
    pub fn ended(&self, part: Part<'_>) {
        let mut ended = self.ended.borrow_mut();
        ended.last = Some((part.by, part.reason));
        ended.detail = part.detail.map(Into::into);
        ended.address = part.address.or(ended.address);
        ended.denied |= part.denied;
        ended.up += part.bytes.0;
        ended.down += part.bytes.1;
    }

    /// Bytes from the pod, and to it.
    pub fn passed(&self, up: u64, down: u64) {
        self.pod.books.bytes_up(self.worker, up);
        self.pod.books.bytes_down(self.worker, down);
    }

    fn outcome(&self) -> (InterceptAction, Outcome) {
        let ended = self.ended.borrow();
        let action = self
            .verdict
            .get()
            .map_or(InterceptAction::Relay, |verdict| verdict.action);
        let outcome = if ended.denied || action == InterceptAction::Deny {
            Outcome::Denied
        } else if ended.address.is_some() {
            Outcome::Served
        } else {
            Outcome::Failed
        };
        (action, outcome)
    }

    /// For its log line.
    #[must_use]
    pub fn entry(&self) -> CapturedEntry<'_> {
        let verdict = self.verdict.get();
        CapturedEntry {
            pod: &self.pod.label,
            process: &self.original.comm,
            pid: self.original.pid,
            original: self.original.address,
            name: self.name(),
            rule: verdict.map_or(0, |verdict| verdict.rule),
            action: verdict.map(|verdict| verdict.action.as_str()),
        }
    }

    fn event(&self) -> Event {
        let ended = self.ended.borrow();
        let verdict = self.verdict.get();
        let original = self.original.address;
        Event {
            event: Kind::Ended,
            time: unix_time(std::time::Duration::ZERO),
            pod: self.pod.label.to_string(),
            process: self.original.comm.clone(),
            pid: self.original.pid,
            client: Some(self.client),
            destination: original,
            name: self.name().map(str::to_owned),
            rule: verdict.map_or(0, |verdict| verdict.rule),
            action: verdict
                .map_or("relay", |verdict| verdict.action.as_str())
                .to_owned(),
            end: Some(End {
                by: ended.last.map(|(by, _)| by.as_str().to_owned()),
                reason: ended.last.map(|(_, reason)| reason.to_owned()),
                detail: ended.detail.as_deref().map(str::to_owned),
                address: ended.address.filter(|address| *address != original),
                bytes_up: ended.up,
                bytes_down: ended.down,
                seconds: uring::now()
                    .saturating_duration_since(self.begun)
                    .as_secs_f64(),
            }),
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        let (action, outcome) = self.outcome();
        self.pod.books.ended(self.worker, action, outcome);
        self.pod.observers.tell(|| self.event());
    }
}
