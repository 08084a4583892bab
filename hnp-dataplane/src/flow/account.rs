//! The account of a connection: what its log line and its metrics will say. Its books close when it is dropped.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::captured::{Captured, Part};
use crate::access_log::{ClosedBy, Entry, Verdict};
use crate::admin::metrics::ActiveGuard;
use crate::http::answer::Answer;
use crate::policy::limits::Permit;
use crate::policy::{Decision, Who};
use crate::relay::Ledger;
use crate::target::Target;
use crate::tls::Session;
use crate::uring;
use crate::worker::Worker;

/// One client connection, from accept to its end; or one of the requests that it has at once ([`Account::of_request`]).
pub struct Account {
    worker: Rc<Worker>,
    connection: u64,
    client: SocketAddr,
    /// Absent in the account of one of several requests: the connection's own has it.
    guard: Option<RefCell<ActiveGuard>>,
    /// Absent for who was turned away at the door.
    _permit: Option<Permit>,
    /// What its TLS handshake agreed on; in a box, for most connections have none.
    secured: RefCell<Option<Rc<Secured>>>,
    /// Where it came from, if it was captured; shared by its requests.
    captured: OnceCell<Rc<Captured>>,
    request: RefCell<Request>,
    up: Cell<u64>,
    down: Cell<u64>,
    /// Lines written: a connection that was used has one for each request, any other has one.
    lines: Cell<u64>,
}

/// What a client proved to be: by its credentials, by its certificate, by both.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    /// The user of its proxy credentials.
    pub user: Option<Arc<str>>,
    /// The name of its certificate.
    pub certificate: Option<Arc<str>>,
}

impl<'a> From<&'a Identities> for Who<'a> {
    fn from(identities: &'a Identities) -> Who<'a> {
        Who::either(
            identities.user.as_deref(),
            identities.certificate.as_deref(),
        )
    }
}

/// What is known of a connection by its TLS handshake: of all its requests.
#[derive(Debug, Default)]
struct Secured {
    version: Option<&'static str>,
    resumed: bool,
    server_name: Option<Box<str>>,
    endpoint: Option<Box<str>>,
    protocol: Option<&'static str>,
    /// The name of the client's certificate.
    identity: Option<Arc<str>>,
    /// Whether it has said what it is.
    introduced: Cell<bool>,
}

/// What is known of the request being served.
#[derive(Debug)]
struct Request {
    started: Instant,
    /// A request, or a part of one, has come.
    begun: bool,
    identity: Option<Arc<str>>,
    mode: Option<&'static str>,
    protocol: Option<&'static str>,
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
            protocol: None,
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
        let guard = Some(RefCell::new(worker.metrics.accepted()));
        Account::enter(worker, worker.next_connection(), client, guard, permit)
    }

    /// Enters one of the requests that this connection has at once. It is as much of a connection to a drain as the connection itself,
    /// which has no line of its own from now on.
    #[must_use]
    pub fn of_request(&self) -> Account {
        self.lines.set(self.lines.get() + 1);
        let mut own = self.request.borrow_mut();
        own.begun = false;
        let account = Account::enter(&self.worker, self.connection, self.client, None, None);
        account
            .secured
            .borrow_mut()
            .clone_from(&self.secured.borrow());
        if let Some(captured) = self.captured.get() {
            account.captured(Rc::clone(captured));
        }
        {
            let mut request = account.request.borrow_mut();
            request.begun = true;
            request.identity.clone_from(&own.identity);
        }
        account
    }

    fn enter(
        worker: &Rc<Worker>,
        connection: u64,
        client: SocketAddr,
        guard: Option<RefCell<ActiveGuard>>,
        permit: Option<Permit>,
    ) -> Account {
        worker.entered();
        Account {
            worker: Rc::clone(worker),
            connection,
            client,
            guard,
            _permit: permit,
            secured: RefCell::new(None),
            captured: OnceCell::new(),
            request: RefCell::new(Request::new()),
            up: Cell::new(0),
            down: Cell::new(0),
            lines: Cell::new(0),
        }
    }

    /// It was captured: nobody asked for anything, but it has begun.
    pub fn captured(&self, captured: Rc<Captured>) {
        self.request.borrow_mut().begun = true;
        let _ = self.captured.set(captured);
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
        // The requests of a connection are often alike, and then nothing is copied.
        if request.method.as_deref() != Some(method) {
            request.method = Some(method.into());
        }
        if request.target.as_ref() != target {
            request.target = target.cloned();
        }
        if request.path.as_deref() != path {
            request.path = path.map(Into::into);
        }
    }

    /// The version of HTTP that the request came in, where it is not HTTP/1.
    pub fn protocol(&self, protocol: &'static str) {
        self.request.borrow_mut().protocol = Some(protocol);
    }

    /// Its TLS handshake asks for this name, which chooses this endpoint, if it is a dedicated one.
    pub fn asks_for(&self, server_name: Option<&str>, endpoint: Option<&str>) {
        let asked = Secured {
            server_name: server_name.map(Into::into),
            endpoint: endpoint.map(Into::into),
            ..Secured::default()
        };
        *self.secured.borrow_mut() = Some(Rc::new(asked));
    }

    /// Its TLS handshake is complete: with which dedicated endpoint, if it was one, and who the client is by its certificate.
    pub fn secured(&self, session: &Session, endpoint: Option<&str>, identity: Option<Arc<str>>) {
        let protocol = match session.alpn.as_deref() {
            Some(b"h2") => Some("h2"),
            Some(b"http/1.1") => Some("http/1.1"),
            _ => None,
        };
        let secured = Secured {
            version: Some(session.version_name()),
            resumed: session.resumed,
            server_name: session.server_name.clone(),
            endpoint: endpoint.map(Into::into),
            protocol,
            identity,
            introduced: Cell::new(false),
        };
        *self.secured.borrow_mut() = Some(Rc::new(secured));
    }

    /// What the client says that it is. Kept of one that came over TLS without a certificate, for its owner to find it.
    pub fn calls_itself<'a>(&self, user_agent: impl FnOnce() -> Option<&'a [u8]>) {
        let secured = self.secured.borrow();
        let Some(secured) = secured.as_deref() else {
            return;
        };
        if secured.identity.is_some() || secured.introduced.get() {
            return;
        }
        if let Some(user_agent) = user_agent() {
            secured.introduced.set(true);
            let endpoints = self.worker.metrics.endpoints();
            let user_agent = String::from_utf8_lossy(user_agent);
            endpoints.user_agent(secured.endpoint.as_deref(), self.client.ip(), &user_agent);
        }
    }

    /// Who the client proved to be by its credentials.
    pub fn identified(&self, identity: Arc<str>) {
        self.request.borrow_mut().identity = Some(identity);
    }

    /// Who the client proved to be, as the log says it: by its credentials, else by its certificate.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<str>> {
        let identities = self.identities();
        identities.user.or(identities.certificate)
    }

    /// All that the client proved to be: rules may name either.
    #[must_use]
    pub fn identities(&self) -> Identities {
        let secured = self.secured.borrow();
        Identities {
            user: self.request.borrow().identity.clone(),
            certificate: secured.as_ref().and_then(|known| known.identity.clone()),
        }
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
        if let Some(captured) = self.captured.get() {
            captured.passed(up, down);
        }
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

    /// Where the connection goes, which was there before.
    pub fn reached(&self, address: Option<SocketAddr>) {
        self.request.borrow_mut().address = address;
    }

    /// Where the connection goes.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.request.borrow().address
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
        let mut request = self.request.borrow_mut();
        let last = std::mem::replace(&mut *request, Request::new());
        request.identity = last.identity;
        // Not said of the next request unless it has a mode.
        request.method = last.method;
        request.target = last.target;
        request.path = last.path;
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
        if let Some(guard) = &self.guard {
            guard.borrow_mut().closed(by, reason);
        }
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
        let captured = self.captured.get().map(Rc::as_ref);
        if let Some(captured) = captured {
            let bytes = (self.up.get(), self.down.get());
            captured.ended(Part {
                by,
                reason,
                detail: request.detail.as_deref(),
                address: request.address,
                denied: request.decision.is_some_and(|decision| !decision.allowed),
                bytes,
            });
        }
        self.lines.set(self.lines.get() + 1);
        if !self.worker.log.is_enabled() {
            return;
        }
        let secured = self.secured.borrow().clone().unwrap_or_default();
        let identity = request.identity.as_ref().or(secured.identity.as_ref());
        self.worker.log.write(&Entry {
            identity: identity.map(AsRef::as_ref),
            tls: secured.version,
            resumed: secured.version.map(|_| secured.resumed),
            sni: secured.server_name.as_deref(),
            endpoint: secured.endpoint.as_deref(),
            protocol: request.protocol.or(secured.protocol),
            mode: request.mode.or(captured.map(|_| "intercept")),
            captured: captured.map(Captured::entry),
            method: request.mode.and(request.method.as_deref()),
            target: request.mode.and(request.target.as_ref()),
            path: request.mode.and(request.path.as_deref()),
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
            closed_by: Some(by),
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
        if let Some(captured) = self.captured.get() {
            captured.passed(bytes as u64, 0);
        }
    }

    fn sent_down(&self, bytes: usize) {
        self.down.set(self.down.get() + bytes as u64);
        self.worker.metrics.bytes_down(bytes as u64);
        if let Some(captured) = self.captured.get() {
            captured.passed(0, bytes as u64);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.lines.get() == 0 || self.has_begun() {
            self.write();
        } else if let (Some(guard), Some((by, reason))) =
            (&self.guard, self.request.borrow().closed)
        {
            guard.borrow_mut().closed(by, reason);
        }
        self.worker.left();
    }
}
