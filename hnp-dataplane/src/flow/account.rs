//! The account of a connection: what its log line and its metrics will say. Its books close when it is dropped.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access_log::{ClosedBy, Entry, Verdict};
use crate::admin::metrics::ActiveGuard;
use crate::http::answer::Answer;
use crate::policy::Decision;
use crate::policy::limits::Permit;
use crate::relay::Ledger;
use crate::target::Target;
use crate::uring;
use crate::worker::Worker;

/// One client connection, from accept to its end.
pub struct Account {
    worker: Rc<Worker>,
    connection: u64,
    client: SocketAddr,
    guard: RefCell<ActiveGuard>,
    /// Absent for who was turned away at the door.
    _permit: Option<Permit>,
    request: RefCell<Request>,
    up: Cell<u64>,
    down: Cell<u64>,
    /// Lines written: a connection that was used has one for each request, any other has one.
    lines: Cell<u64>,
}

/// What is known of the request being served.
#[derive(Debug)]
struct Request {
    started: Instant,
    /// A request, or a part of one, has come.
    begun: bool,
    identity: Option<Arc<str>>,
    mode: Option<&'static str>,
    method: Option<Box<str>>,
    target: Option<Target>,
    path: Option<Box<str>>,
    decision: Option<Decision>,
    address: Option<SocketAddr>,
    parent: Option<Arc<str>>,
    status: Option<u16>,
    resolve: Option<Duration>,
    connect: Option<Duration>,
    closed: Option<(ClosedBy, &'static str)>,
    detail: Option<Box<str>>,
}

impl Request {
    fn new() -> Request {
        Request {
            started: uring::now(),
            begun: false,
            identity: None,
            mode: None,
            method: None,
            target: None,
            path: None,
            decision: None,
            address: None,
            parent: None,
            status: None,
            resolve: None,
            connect: None,
            closed: None,
            detail: None,
        }
    }
}

impl Account {
    /// Enters a connection that was let in.
    #[must_use]
    pub fn open(worker: &Rc<Worker>, client: SocketAddr, permit: Permit) -> Account {
        Account::new(worker, client, Some(permit))
    }

    /// Enters a connection that is turned away at the door.
    #[must_use]
    pub fn refused(worker: &Rc<Worker>, client: SocketAddr) -> Account {
        let account = Account::new(worker, client, None);
        account.request.borrow_mut().begun = true;
        account
    }

    fn new(worker: &Rc<Worker>, client: SocketAddr, permit: Option<Permit>) -> Account {
        worker.entered();
        Account {
            worker: Rc::clone(worker),
            connection: worker.next_connection(),
            client,
            guard: RefCell::new(worker.metrics.accepted()),
            _permit: permit,
            request: RefCell::new(Request::new()),
            up: Cell::new(0),
            down: Cell::new(0),
            lines: Cell::new(0),
        }
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Its first byte has come.
    pub fn begun(&self) {
        self.request.borrow_mut().begun = true;
    }

    /// What is asked for, and how it will be served.
    pub fn asked(
        &self,
        mode: &'static str,
        method: &str,
        target: Option<&Target>,
        path: Option<&str>,
    ) {
        let mut request = self.request.borrow_mut();
        request.begun = true;
        request.mode = Some(mode);
        request.method = Some(method.into());
        request.target = target.cloned();
        request.path = path.map(Into::into);
    }

    /// Who the client proved to be.
    pub fn identified(&self, identity: Arc<str>) {
        self.request.borrow_mut().identity = Some(identity);
    }

    /// Who the client proved to be.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<str>> {
        self.request.borrow().identity.clone()
    }

    /// What policy decided; the last decision stands.
    pub fn decided(&self, decision: Decision) {
        self.request.borrow_mut().decision = Some(decision);
    }

    /// What policy has decided so far.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        self.request.borrow().decision
    }

    /// Bytes of a forwarded exchange.
    pub fn exchanged(&self, up: u64, down: u64) {
        self.up.set(self.up.get() + up);
        self.down.set(self.down.get() + down);
        self.worker.metrics.bytes_up(up);
        self.worker.metrics.bytes_down(down);
    }

    /// Where the connection goes and how long it took to get there.
    pub fn dialled(
        &self,
        address: SocketAddr,
        parent: Option<Arc<str>>,
        resolve: Option<Duration>,
        connect: Duration,
    ) {
        let mut request = self.request.borrow_mut();
        request.address = Some(address);
        request.parent = parent;
        request.resolve = resolve;
        request.connect = Some(connect);
    }

    /// The status that was sent.
    pub fn status(&self, status: u16) {
        self.request.borrow_mut().status = Some(status);
    }

    /// An answer of HNP's own was sent.
    pub fn answered(&self, answer: &Answer) {
        let mut request = self.request.borrow_mut();
        request.status = Some(answer.status());
        request.detail = Some(answer.why().into());
    }

    /// Who ended it and why; the last word stands.
    pub fn closed(&self, by: ClosedBy, reason: &'static str) {
        self.request.borrow_mut().closed = Some((by, reason));
    }

    /// A sentence on what failed, for people.
    pub fn detail(&self, detail: impl Into<Box<str>>) {
        self.request.borrow_mut().detail = Some(detail.into());
    }

    /// One of several requests is complete: writes its line and begins the next.
    pub fn next_request(&self) {
        self.write();
        let identity = self.identity();
        let mut next = Request::new();
        next.identity = identity;
        *self.request.borrow_mut() = next;
        self.up.set(0);
        self.down.set(0);
    }

    /// Whether a request, or a part of one, has come since the last was complete.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.request.borrow().begun
    }

    fn write(&self) {
        let request = self.request.borrow();
        let (by, reason) = request.closed.unwrap_or_else(|| self.worker.why_aborted());
        self.guard.borrow_mut().closed(by, reason);
        if let (Some(mode), Some(status)) = (request.mode, request.status) {
            self.worker.metrics.request(mode, status);
        }
        let verdict = request.decision.map(|decision| {
            let verdict = Verdict::new(decision.allowed, decision.reported);
            self.worker
                .metrics
                .decision(verdict, decision.reason.code());
            verdict
        });
        self.lines.set(self.lines.get() + 1);
        self.worker.log.write(&Entry {
            identity: request.identity.as_deref(),
            mode: request.mode,
            method: request.method.as_deref(),
            target: request.target.as_ref(),
            path: request.path.as_deref(),
            decision: verdict,
            reason: request
                .decision
                .as_ref()
                .map(|decision| decision.reason.code()),
            address: request.address,
            parent: request.parent.as_deref(),
            status: request.status,
            bytes_up: self.up.get(),
            bytes_down: self.down.get(),
            resolve: request.resolve,
            connect: request.connect,
            duration: uring::now().saturating_duration_since(request.started),
            closed_by: by,
            close_reason: reason,
            detail: request.detail.as_deref(),
            ..Entry::new(self.worker.id, self.connection, self.client)
        });
    }
}

impl Ledger for Account {
    fn sent_up(&self, bytes: usize) {
        self.up.set(self.up.get() + bytes as u64);
        self.worker.metrics.bytes_up(bytes as u64);
    }

    fn sent_down(&self, bytes: usize) {
        self.down.set(self.down.get() + bytes as u64);
        self.worker.metrics.bytes_down(bytes as u64);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.lines.get() == 0 || self.has_begun() {
            self.write();
        }
        self.worker.left();
    }
}
