//! One connection of the generator: what it asks, and whether the answer is the right one.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use rustls::ClientConfig;

use super::{Entry, Speaks};
use crate::mutual::manager::{SMALL, content_length};
use crate::mutual::pki::NAME;
use crate::mutual::wire::{Came, FILL, Wire};
use crate::net::{self, Poller, Ready, SPREAD};
use crate::route::{self, answer};

/// Bytes that an echo is asked for.
const ECHO: usize = 64;
/// Longest head of an answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// A connection, and what it waits for.
pub(super) struct Client {
    wire: Wire,
    entry: Entry,
    asks: Asks,
    waits: Waits,
    /// Bytes of the request's body still to send.
    left: u64,
    writing: bool,
    /// When the connection was begun, or the request sent.
    pub(super) since: Instant,
    /// Bytes of bodies that went either way.
    pub(super) bytes: u64,
    /// Whether the handshake was a resumed one.
    pub(super) resumed: bool,
}

/// Bodies of a request and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asks {
    pub(super) up: u64,
    pub(super) down: u64,
}

enum Waits {
    /// For the end of the handshake.
    Handshake,
    /// For the answer to CONNECT, of which this has come.
    Connect(Vec<u8>),
    /// For so many bytes of an echo.
    Echo(usize),
    /// For the head of an answer, of which this has come.
    Head(Vec<u8>),
    /// For so many bytes of an answer's body.
    Body(u64),
    /// For nothing: the answer is there.
    Nothing,
}

impl Client {
    /// Begins the `index`th connection.
    pub(super) fn begin(
        entry: Entry,
        asks: Asks,
        config: &Arc<ClientConfig>,
        poller: &Poller,
        token: u64,
        index: u32,
    ) -> io::Result<Client> {
        let since = Instant::now();
        let stream = net::start_connect(entry.address, index / SPREAD)?;
        let wire = if entry.tls {
            Wire::client(stream, config)?
        } else {
            Wire::plain(stream)
        };
        let mut client = Client {
            wire,
            entry,
            asks,
            waits: Waits::Handshake,
            left: 0,
            writing: false,
            since,
            bytes: 0,
            resumed: false,
        };
        if client.wire.is_open() {
            client.ask()?;
        }
        // Over loopback the connection is mostly there by now: one wait less.
        client.writing = !client.send()?;
        poller.add(client.stream(), token, !client.writing, client.writing)?;
        Ok(client)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }

    /// Sends the next request on a connection whose last has been answered.
    pub(super) fn again(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        self.since = Instant::now();
        self.request()?;
        self.push(poller, token)
    }

    /// Goes on after readiness; tells whether the answer has come.
    pub(super) fn proceed(
        &mut self,
        poller: &Poller,
        ready: &Ready,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        // While it writes it is only told of an end or an error: the write meets them.
        if ready.read && !self.writing {
            let Client {
                wire,
                waits,
                asks,
                bytes,
                ..
            } = self;
            let came = wire.read(buffer, &mut |payload| waits.take(payload, asks.down, bytes))?;
            if matches!(self.waits, Waits::Nothing) && self.left == 0 {
                return Ok(true);
            }
            if came == Came::End {
                return Err(io::Error::other("closed before the answer came"));
            }
        }
        match &self.waits {
            Waits::Handshake if self.wire.is_open() => self.ask()?,
            Waits::Connect(head) => match answer(head) {
                route::Answer::Incomplete => {}
                route::Answer::Open => self.echo()?,
                route::Answer::Refused => return Err(refused(head)),
            },
            _ => {}
        }
        self.push(poller, ready.token)?;
        Ok(false)
    }

    /// Whether the last answer is there.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.waits, Waits::Nothing)
    }

    /// Reads what comes after the last answer: a session ticket, and nothing else.
    pub(super) fn drain(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let unasked = |_: &[u8]| Err(io::Error::other("bytes that nobody asked for"));
        match self.wire.read(buffer, &mut { unasked })? {
            Came::More => Ok(()),
            Came::End => Err(io::Error::other("closed while it was held")),
        }
    }

    /// Says goodbye and closes.
    pub(super) fn close(self) -> io::Result<()> {
        self.wire.close()
    }

    /// Gives back memory that a held connection does not need.
    pub(super) fn rest(&mut self) {
        self.wire.rest();
    }

    /// The first thing to send once the connection is open.
    fn ask(&mut self) -> io::Result<()> {
        self.resumed = self.wire.resumed().unwrap_or(false);
        match self.entry.speaks {
            Speaks::Http => self.request(),
            Speaks::Echo => self.echo(),
            Speaks::Connect(target) => {
                self.waits = Waits::Connect(Vec::new());
                let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                self.wire.queue(head.as_bytes())
            }
        }
    }

    fn echo(&mut self) -> io::Result<()> {
        self.waits = Waits::Echo(ECHO);
        self.wire.queue(&[FILL; ECHO])
    }

    fn request(&mut self) -> io::Result<()> {
        self.waits = Waits::Head(Vec::new());
        let Asks { up, down } = self.asks;
        let mut head = if up == 0 {
            format!("GET /{down} HTTP/1.1\r\nHost: {NAME}\r\n\r\n")
        } else {
            format!("POST /{down} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {up}\r\n\r\n")
        }
        .into_bytes();
        if up <= SMALL {
            head.resize(head.len() + usize::try_from(up).unwrap_or(0), FILL);
            self.bytes += up;
        } else {
            self.left = up;
        }
        self.wire.queue(&head)
    }

    fn push(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        let done = self.send()?;
        if done == self.writing {
            self.writing = !done;
            poller.modify(self.stream(), token, done, !done)?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<bool> {
        let before = self.left;
        let done = self.wire.send_body(&mut self.left)?;
        self.bytes += before - self.left;
        Ok(done)
    }
}

impl Waits {
    /// Takes bytes of an answer whose body has to have `down` bytes.
    fn take(&mut self, payload: &[u8], down: u64, bytes: &mut u64) -> io::Result<()> {
        match self {
            Waits::Handshake | Waits::Nothing => {
                return Err(io::Error::other("bytes that nobody asked for"));
            }
            Waits::Connect(head) => head.extend_from_slice(payload),
            Waits::Echo(left) => {
                fill_only(payload)?;
                match left.checked_sub(payload.len()) {
                    Some(0) => *self = Waits::Nothing,
                    Some(rest) => *self = Waits::Echo(rest),
                    None => return Err(io::Error::other("more echo than was sent")),
                }
            }
            Waits::Head(head) => {
                let known = head.len();
                head.extend_from_slice(payload);
                let Some(length) = whole(head, down)? else {
                    return Ok(());
                };
                *self = Waits::Body(down);
                self.body(&payload[length - known..], bytes)?;
            }
            Waits::Body(_) => self.body(payload, bytes)?,
        }
        Ok(())
    }

    fn body(&mut self, payload: &[u8], bytes: &mut u64) -> io::Result<()> {
        let Waits::Body(left) = self else {
            return Ok(());
        };
        fill_only(payload)?;
        *bytes += payload.len() as u64;
        match left.checked_sub(payload.len() as u64) {
            Some(0) => *self = Waits::Nothing,
            Some(rest) => *left = rest,
            None => return Err(io::Error::other("a longer body than was asked for")),
        }
        Ok(())
    }
}

/// The length of an answer's head once it is whole. Its status has to be 200 and its body as long as was asked for.
fn whole(head: &[u8], down: u64) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head).map_err(io::Error::other)? {
        httparse::Status::Complete(_) if response.code != Some(200) => Err(refused(head)),
        httparse::Status::Complete(_) if content_length(response.headers)? != Some(down) => {
            Err(io::Error::other("a body of another length"))
        }
        httparse::Status::Complete(length) => Ok(Some(length)),
        httparse::Status::Partial if head.len() > HEAD_LIMIT => {
            Err(io::Error::other("a head without end"))
        }
        httparse::Status::Partial => Ok(None),
    }
}

/// Looks at the ends alone: to look at all would cost more than to decrypt it.
fn fill_only(payload: &[u8]) -> io::Result<()> {
    let ends = [payload.first(), payload.last()];
    if ends.into_iter().flatten().all(|byte| *byte == FILL) {
        Ok(())
    } else {
        Err(io::Error::other("other bytes than were asked for"))
    }
}

fn refused(head: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(head);
    io::Error::other(text.lines().next().unwrap_or_default().to_owned())
}

/// How many connections failed, and when that is too many.
#[derive(Default)]
pub(super) struct Failures {
    pub(super) count: u64,
}

impl Failures {
    /// More failed connections than this, and there is nothing to measure.
    const MOST: u64 = 100;

    pub(super) fn add(&mut self, error: &io::Error) -> anyhow::Result<()> {
        self.count += 1;
        if self.count > Failures::MOST {
            bail!(
                "more than {} connections failed, the last with: {error}",
                Failures::MOST
            );
        }
        Ok(())
    }
}
