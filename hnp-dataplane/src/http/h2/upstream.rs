//! The upstream's side: connections of a worker, each shared by as many requests as both ends allow.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::Notify;

use super::io::Wire;
use super::message::Broken;
use crate::http::answer::Answer;
use crate::http::head::HeadLimits;
use crate::stream::Stream;
use crate::uring;

/// Requests on one connection at once, where the upstream allows as many.
const STREAMS: usize = 100;
/// Bytes of a response that are held for a client that does not take them.
const STREAM_WINDOW: u32 = 512 << 10;
/// As much as all streams of a connection may hold, so that a client which does not read stops nobody else's response.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// Bytes of a request's content that are held beyond what the upstream's window lets out.
const SEND_BUFFER: usize = 128 << 10;
/// How long a connection that is no longer used may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A worker's connections to upstreams that speak HTTP/2.
#[derive(Debug, Default)]
pub struct Upstreams {
    origins: RefCell<HashMap<u64, Entry>>,
}

/// What is known of one origin.
#[derive(Debug, Default)]
struct Entry {
    connections: Vec<Rc<Connection>>,
    /// Somebody connects at this moment.
    dialling: Option<Rc<Dial>>,
    /// TLS was made with it, and it chose HTTP/1.1.
    speaks_http1: bool,
}

/// A connection in the making, for those who wait for it.
#[derive(Debug, Default)]
struct Dial {
    failed: RefCell<Option<Answer>>,
    over: Notify,
    is_over: Cell<bool>,
}

#[derive(Debug)]
struct Connection {
    /// Absent once no further request may begin on it.
    send: RefCell<Option<SendRequest<Bytes>>>,
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    address: Option<SocketAddr>,
}

/// What there is for a request.
pub(crate) enum Found {
    /// A connection with room.
    Connection(Lease),
    /// The origin is known to speak HTTP/1.1.
    Http1,
    /// There is none: the holder is the one to connect.
    Dial(Dialling),
}

/// A place on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Rc<Connection>,
    /// Others have used the connection before.
    reused: bool,
}

/// The right to connect, which nobody else has meanwhile.
pub(crate) struct Dialling {
    upstreams: Rc<Upstreams>,
    origin: u64,
    dial: Rc<Dial>,
}

impl Upstreams {
    /// Finds a connection to an origin, waits for the one that is being made, or has the caller make one.
    ///
    /// # Errors
    /// The one that was waited for could not be made.
    pub(crate) async fn find(self: &Rc<Self>, origin: u64) -> Result<Found, Answer> {
        loop {
            let dial = {
                let mut origins = self.origins.borrow_mut();
                let entry = origins.entry(origin).or_default();
                if let Some(lease) = entry.connections.iter().find_map(Lease::of) {
                    return Ok(Found::Connection(lease));
                }
                if entry.speaks_http1 {
                    return Ok(Found::Http1);
                }
                match &entry.dialling {
                    Some(dial) => Rc::clone(dial),
                    None => {
                        let dial = Rc::new(Dial::default());
                        entry.dialling = Some(Rc::clone(&dial));
                        return Ok(Found::Dial(Dialling {
                            upstreams: Rc::clone(self),
                            origin,
                            dial,
                        }));
                    }
                }
            };
            let over = dial.over.notified();
            if !dial.is_over.get() {
                over.await;
            }
            if let Some(answer) = &*dial.failed.borrow() {
                return Err(answer.clone());
            }
        }
    }

    fn remove(&self, origin: u64, connection: &Rc<Connection>) {
        let mut origins = self.origins.borrow_mut();
        if let Some(entry) = origins.get_mut(&origin) {
            entry.connections.retain(|one| !Rc::ptr_eq(one, connection));
            if entry.connections.is_empty() && entry.dialling.is_none() && !entry.speaks_http1 {
                origins.remove(&origin);
            }
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        let origins = self.origins.borrow();
        origins.values().map(|entry| entry.connections.len()).sum()
    }
}

impl Dialling {
    /// The connection that was made speaks HTTP/1.1: so does the origin, until it is dialled by a configuration of its own.
    pub(crate) fn speaks_http1(self) {
        if let Some(entry) = self.upstreams.origins.borrow_mut().get_mut(&self.origin) {
            entry.speaks_http1 = true;
        }
    }

    /// It could not be made, and whoever waits for it need not try at once.
    pub(crate) fn failed(self, answer: &Answer) {
        *self.dial.failed.borrow_mut() = Some(answer.clone());
    }

    /// Begins HTTP/2 on a connection that was made. It closes when it has been idle for `idle`, or when `wanted` says that nothing
    /// will use it any more.
    ///
    /// # Errors
    /// It broke.
    pub(crate) async fn begin(
        self,
        stream: Stream,
        address: Option<SocketAddr>,
        limits: HeadLimits,
        idle: Duration,
        wanted: impl Fn() -> bool + 'static,
    ) -> Result<Lease, Broken> {
        let wire = Wire::new(Rc::new(stream), Vec::new()).ending();
        let head_size = u32::try_from(limits.size).unwrap_or(u32::MAX);
        let (send, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(head_size)
            .handshake::<_, Bytes>(wire)
            .await?;
        let shared = Rc::new(Connection {
            send: RefCell::new(Some(send)),
            open: Cell::new(0),
            idle_since: Cell::new(uring::now()),
            address,
        });
        let lease = Lease::new(&shared);
        if let Some(entry) = self.upstreams.origins.borrow_mut().get_mut(&self.origin) {
            entry.connections.push(Rc::clone(&shared));
        }
        let upstreams = Rc::clone(&self.upstreams);
        let origin = self.origin;
        uring::spawn(async move {
            drive(connection, &shared, idle, wanted).await;
            shared.retire();
            upstreams.remove(origin, &shared);
        });
        Ok(lease)
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if let Some(entry) = self.upstreams.origins.borrow_mut().get_mut(&self.origin) {
            entry.dialling = None;
        }
        self.dial.is_over.set(true);
        self.dial.over.notify_waiters();
    }
}

/// Drives a connection to its end.
async fn drive(
    connection: impl Future<Output = Result<(), h2::Error>>,
    shared: &Connection,
    idle: Duration,
    wanted: impl Fn() -> bool,
) {
    let mut connection = pin!(connection);
    let look = idle.min(Duration::from_secs(1));
    let mut timer = uring::sleep(look);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the upstream has ended");
                }
                return;
            }
            () = &mut timer => {}
        }
        let now = uring::now();
        let retired = shared.send.borrow().is_none();
        if shared.open.get() == 0 {
            let since = now.saturating_duration_since(shared.idle_since.get());
            if retired && since >= GOODBYE {
                return;
            }
            if !retired && (since >= idle || !wanted()) {
                // Without a handle it says goodbye and ends by itself.
                shared.retire();
                shared.idle_since.set(now);
            }
        }
        timer.reset(now + look);
    }
}

impl Connection {
    fn retire(&self) {
        let send = self.send.borrow_mut().take();
        drop(send);
    }

    fn has_room(&self) -> bool {
        let most = match &*self.send.borrow() {
            Some(send) => send.current_max_send_streams().min(STREAMS),
            None => 0,
        };
        self.open.get() < most
    }
}

impl Lease {
    fn new(connection: &Rc<Connection>) -> Lease {
        connection.open.set(connection.open.get() + 1);
        Lease {
            connection: Rc::clone(connection),
            reused: false,
        }
    }

    fn of(connection: &Rc<Connection>) -> Option<Lease> {
        connection.has_room().then(|| {
            let mut lease = Lease::new(connection);
            lease.reused = true;
            lease
        })
    }

    /// Whether others have used the connection before: it may have died since.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Where the connection goes.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.connection.address
    }

    /// No further request is to begin on this connection.
    pub(crate) fn retire(&self) {
        self.connection.retire();
    }

    /// Begins a request; `end` says that it has no content.
    ///
    /// # Errors
    /// The connection takes no more requests: nothing of this one was sent.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Broken> {
        let send = self.connection.send.borrow().clone();
        let Some(mut send) = send else {
            return Err(Broken::Unprocessed("GOAWAY"));
        };
        let sent = match poll_fn(|cx| send.poll_ready(cx)).await {
            Ok(()) => send.send_request(request, end),
            Err(error) => Err(error),
        };
        sent.map_err(|error| {
            self.retire();
            match Broken::from(error) {
                Broken::Gone(_) => Broken::Unprocessed("the connection was gone"),
                broken => broken,
            }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let open = self.connection.open.get() - 1;
        self.connection.open.set(open);
        if open == 0 {
            self.connection.idle_since.set(uring::now());
        }
    }
}
