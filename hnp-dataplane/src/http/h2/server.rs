//! The client's side of a connection: its requests as they come, its limits, its end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::sync::Notify;

use super::io::Wire;
use crate::http::head::HeadLimits;
use crate::http::linger;
use crate::signal::Signal;
use crate::stream::Stream;
use crate::uring;

/// Requests of a connection at once (SETTINGS_MAX_CONCURRENT_STREAMS).
const STREAMS: u32 = 250;
/// Bytes of content that are held for a request whose upstream does not take them, and for a connection's requests together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a response that are held for a client that does not take them, beyond what its window lets out.
const SEND_BUFFER: usize = 128 << 10;
/// Requests that a client may give up at once, and how many more each second: who opens streams only to reset them has HNP and
/// the upstream work for nothing (CVE-2023-44487).
const RESETS: f64 = 200.0;
const RESETS_A_SECOND: f64 = 50.0;
/// How long a client that was told to go (GOAWAY) may stay without a request.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a closed connection's peer may go on sending.
const LINGER: Duration = Duration::from_secs(2);

/// Limits and times of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How large heads may be.
    pub limits: HeadLimits,
    /// From the preface to the first request.
    pub head_timeout: Duration,
    /// With no request open.
    pub idle_timeout: Duration,
}

/// A request, as its stream brought it.
#[derive(Debug)]
pub struct Incoming {
    /// Head and content.
    pub request: Request<RecvStream>,
    /// The way back.
    pub respond: SendResponse<Bytes>,
    /// Held while the request is open.
    pub place: Place,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client closed it, or said that it will (GOAWAY).
    Client,
    /// HNP drains and the last request is done.
    Drained,
    /// HNP's time to drain is up.
    Stopped,
    /// No request came for too long.
    Idle,
    /// The configuration that let the client in is not in force any more.
    Outdated,
    /// It broke, or the client broke the protocol.
    Broken(String),
    /// The client gave up more requests than is sane.
    Resets,
}

/// A request's place on its connection.
#[derive(Debug)]
pub struct Place {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    tokens: Cell<f64>,
    counted: Cell<Instant>,
    too_many: Notify,
    goodbye: Notify,
    empty: Notify,
}

impl Place {
    /// The connection takes no further requests (GOAWAY): the client is to make another.
    pub fn goodbye(&self) {
        self.shared.goodbye.notify_one();
    }

    /// The client gave the request up before its response was complete.
    pub fn given_up(&self) {
        let shared = &self.shared;
        let now = uring::now();
        let passed = now.saturating_duration_since(shared.counted.replace(now));
        let tokens = shared.tokens.get() + passed.as_secs_f64() * RESETS_A_SECOND;
        shared.tokens.set(tokens.min(RESETS) - 1.0);
        if shared.tokens.get() < 0.0 {
            shared.too_many.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.shared.open.get() - 1;
        self.shared.open.set(open);
        if open == 0 {
            self.shared.idle_since.set(uring::now());
            self.shared.empty.notify_waiters();
        }
    }
}

/// Serves a connection to its end: `handle` is given each request, and has it served by a task of its own.
pub async fn serve(
    client: Stream,
    received: Vec<u8>,
    options: Options,
    draining: &Signal,
    stopping: &Signal,
    mut handle: impl FnMut(Incoming),
) -> End {
    let client = Rc::new(client);
    let shared = Rc::new(Shared {
        open: Cell::new(0),
        idle_since: Cell::new(uring::now()),
        tokens: Cell::new(RESETS),
        counted: Cell::new(uring::now()),
        too_many: Notify::new(),
        goodbye: Notify::new(),
        empty: Notify::new(),
    });
    let wire = Wire::new(Rc::clone(&client), received);
    let end = accept(
        wire,
        &options,
        draining,
        stopping,
        &shared,
        |request, respond| {
            shared.open.set(shared.open.get() + 1);
            handle(Incoming {
                request,
                respond,
                place: Place {
                    shared: Rc::clone(&shared),
                },
            });
        },
    )
    .await;
    // The connection's streams are broken now, and whoever serves one learns it.
    loop {
        let empty = shared.empty.notified();
        if shared.open.get() == 0 {
            break;
        }
        empty.await;
    }
    // A client that has said goodbye (GOAWAY) may be sending still, and must not be reset for it.
    if let Ok(client) = Rc::try_unwrap(client)
        && !matches!(end, End::Stopped)
    {
        linger::close(client, LINGER).await;
    }
    end
}

async fn accept(
    wire: Wire,
    options: &Options,
    draining: &Signal,
    stopping: &Signal,
    shared: &Shared,
    mut handle: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
) -> End {
    let head_size = u32::try_from(options.limits.size).unwrap_or(u32::MAX);
    let handshake = Builder::new()
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(head_size)
        .handshake::<_, Bytes>(wire);
    let begun = tokio::select! {
        biased;
        begun = uring::timeout(options.head_timeout, handshake) => begun,
        () = stopping.wait() => return End::Stopped,
    };
    let mut connection = match begun {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return End::Broken(error.to_string()),
        Err(_) => return End::Idle,
    };
    let mut limit = options.head_timeout;
    // Why the client has been told that no further request is taken.
    let mut leaving = None;
    let mut timer = uring::sleep(limit);
    loop {
        tokio::select! {
            biased;
            () = shared.too_many.notified() => {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                leaving = Some(End::Resets);
                limit = GOODBYE;
                timer.reset(uring::now() + GOODBYE);
            }
            request = connection.accept() => match request {
                Some(Ok((request, respond))) => {
                    handle(request, respond);
                    if leaving.is_none() && limit != options.idle_timeout {
                        limit = options.idle_timeout;
                        timer.reset(uring::now() + limit);
                    }
                }
                Some(Err(error)) => {
                    return leaving.unwrap_or_else(|| End::Broken(error.to_string()));
                }
                None => return leaving.unwrap_or(End::Client),
            },
            () = stopping.wait() => return End::Stopped,
            () = shared.goodbye.notified(), if leaving.is_none() => {
                connection.graceful_shutdown();
                leaving = Some(End::Outdated);
                limit = GOODBYE;
                timer.reset(uring::now() + GOODBYE);
            }
            () = draining.wait(), if leaving.is_none() => {
                connection.graceful_shutdown();
                leaving = Some(End::Drained);
                limit = GOODBYE;
                timer.reset(uring::now() + GOODBYE);
            }
            () = &mut timer => {
                let now = uring::now();
                let due = shared.idle_since.get() + limit;
                if shared.open.get() > 0 {
                    timer.reset(now + limit);
                } else if due > now {
                    timer.reset(due);
                } else if let Some(end) = leaving {
                    return end;
                } else {
                    connection.graceful_shutdown();
                    leaving = Some(End::Idle);
                    limit = GOODBYE;
                    timer.reset(now + GOODBYE);
                }
            }
        }
    }
}
