//! The manager of every measurement, in one process and one thread: HTTP/1.1 in plaintext and over mTLS (a client certificate is
//! required), and an echo.
//!
//! `/<n>` answers with a body of n bytes, to a request with a body once that has come.

use std::io::{self, BufRead as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use super::pki::Pki;
use super::wire::{BUFFER, Came, FILL, Wire};
use crate::child::Worker;
use crate::net::{self, Events, Poller, Ready};

/// Longest head of a request.
const HEAD_LIMIT: usize = 16 * 1024;
/// Bodies up to this size are sent with their head.
pub(super) const SMALL: u64 = 8 * 1024;

/// Its ports, on 127.0.0.1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) mutual: u16,
    pub(super) echo: u16,
}

/// What it has done so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    /// Handshakes completed.
    pub(super) handshakes: u64,
    /// Connections that ended in an error.
    pub(super) errors: u64,
}

/// The manager in a process of its own.
#[derive(Debug)]
pub(super) struct Manager {
    worker: Worker,
    pub(super) ports: Ports,
}

impl Manager {
    pub(super) fn start(pki: &Pki) -> anyhow::Result<Manager> {
        let directory = pki
            .directory()
            .to_str()
            .context("the directory for temporary files is not UTF-8")?;
        let mut worker = Worker::start("the manager", &["manager", directory])?;
        let ports = worker.hear()?;
        Ok(Manager { worker, ports })
    }

    pub(super) fn id(&self) -> u32 {
        self.worker.id()
    }

    pub(super) fn counters(&mut self) -> anyhow::Result<Counters> {
        self.worker.say("count")?;
        self.worker.hear()
    }
}

/// Serves until standard input ends: prints the ports, then answers every line with the counters.
///
/// # Errors
/// When the ports cannot be had or the process is out of descriptors.
pub fn serve(directory: &Path) -> anyhow::Result<()> {
    let mut server = Server::new(&Pki::at(directory)).context("cannot set the manager up")?;
    let port = |index: usize| server.listeners.get(index).map(TcpListener::local_addr);
    let mut ports = [0; Duty::ALL.len()];
    for (index, of_duty) in ports.iter_mut().enumerate() {
        *of_duty = port(index).context("a listener for each duty")??.port();
    }
    let [plain, mutual, echo] = ports;
    say(&Ports {
        plain,
        mutual,
        echo,
    })?;
    server.serve()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Plain,
    Mutual,
    Echo,
}

impl Duty {
    const ALL: [Duty; 3] = [Duty::Plain, Duty::Mutual, Duty::Echo];
}

const STDIN: u64 = Duty::ALL.len() as u64;
const FIRST_CONNECTION: u64 = STDIN + 1;

struct Server {
    poller: Poller,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    counters: Counters,
    config: Arc<ServerConfig>,
    buffer: Vec<u8>,
}

struct Connection {
    wire: Wire,
    work: Work,
    /// Whether it is watched for room to write, rather than for bytes to read.
    writing: bool,
    shaken: bool,
}

/// What a connection carries.
enum Work {
    Echo,
    Http(Http),
}

/// Where a connection is between two requests.
#[derive(Default)]
struct Http {
    head: Vec<u8>,
    /// Bytes of the request's body still to come, once its head is there.
    coming: Option<u64>,
    /// Bytes of the answer's body.
    wanted: u64,
    /// Bytes of the answer's body still to send.
    left: u64,
}

impl Server {
    fn new(pki: &Pki) -> anyhow::Result<Server> {
        let poller = Poller::new()?;
        let listeners = net::listen_all(&poller, STDIN)?;
        poller.add(io::stdin(), STDIN, true, false)?;
        Ok(Server {
            poller,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            counters: Counters::default(),
            config: pki.manager()?,
            buffer: vec![0; BUFFER],
        })
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Events::new();
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            ready.clear();
            ready.extend(self.poller.wait(&mut events, Duration::from_secs(3600))?);
            for event in &ready {
                match event.token {
                    STDIN => {
                        if io::stdin().lock().read_line(&mut String::new())? == 0 {
                            return Ok(());
                        }
                        say(&self.counters)?;
                    }
                    FIRST_CONNECTION.. => self.turn(event)?,
                    listener => self.accept(listener)?,
                }
            }
        }
    }

    fn accept(&mut self, token: u64) -> anyhow::Result<()> {
        let index = usize::try_from(token)?;
        let (Some(listener), Some(&duty)) = (self.listeners.get(index), Duty::ALL.get(index))
        else {
            return Ok(());
        };
        while let Some(stream) = net::accept(listener).context("the manager cannot accept")? {
            let slot = self.free.pop().unwrap_or(self.connections.len());
            self.poller
                .add(&stream, slot as u64 + FIRST_CONNECTION, true, false)?;
            let connection = Some(Connection {
                wire: match duty {
                    Duty::Mutual => Wire::server(stream, &self.config)?,
                    Duty::Plain | Duty::Echo => Wire::plain(stream),
                },
                work: match duty {
                    Duty::Echo => Work::Echo,
                    Duty::Plain | Duty::Mutual => Work::Http(Http::default()),
                },
                writing: false,
                shaken: false,
            });
            match self.connections.get_mut(slot) {
                Some(free) => *free = connection,
                None => self.connections.push(connection),
            }
        }
        Ok(())
    }

    fn turn(&mut self, event: &Ready) -> anyhow::Result<()> {
        let slot = usize::try_from(event.token - FIRST_CONNECTION)?;
        let Some(Some(connection)) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let result = connection.proceed(&self.poller, event, &mut self.buffer);
        if !connection.shaken && connection.wire.resumed().is_some() {
            connection.shaken = true;
            self.counters.handshakes += 1;
        }
        if !matches!(result, Ok(Came::More)) {
            // A proxy whose client goes in the middle of an answer resets its connection, too.
            let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            self.counters.errors +=
                u64::from(result.is_err_and(|error| !gone.contains(&error.kind())));
            self.connections[slot] = None;
            self.free.push(slot);
        }
        Ok(())
    }
}

impl Connection {
    fn proceed(&mut self, poller: &Poller, event: &Ready, buffer: &mut [u8]) -> io::Result<Came> {
        let mut came = Came::More;
        if event.read && !self.writing {
            let Connection { wire, work, .. } = self;
            let mut answers = 0_u32;
            let mut echo = Vec::new();
            came = wire.read(buffer, &mut |payload| match work {
                Work::Echo => {
                    echo.extend_from_slice(payload);
                    Ok(())
                }
                Work::Http(http) => {
                    answers += u32::from(http.take(payload)?);
                    Ok(())
                }
            })?;
            match work {
                Work::Echo if !echo.is_empty() => wire.queue(&echo)?,
                Work::Http(http) if answers > 0 => {
                    wire.queue(&http.answer())?;
                }
                _ => {}
            }
        }
        let done = match &mut self.work {
            Work::Echo => self.wire.flush()?,
            Work::Http(http) => self.wire.send_body(&mut http.left)?,
        };
        if done == self.writing {
            self.writing = !done;
            poller.modify(&self.wire.stream, event.token, done, !done)?;
        }
        Ok(came)
    }
}

impl Http {
    /// Takes bytes of a request; tells whether it is whole.
    fn take(&mut self, mut payload: &[u8]) -> io::Result<bool> {
        if self.coming.is_none() {
            let known = self.head.len();
            self.head.extend_from_slice(payload);
            let Some(length) = self.read_head()? else {
                if self.head.len() > HEAD_LIMIT {
                    return Err(io::Error::other("a head without end"));
                }
                return Ok(false);
            };
            payload = &payload[length - known..];
            self.head.clear();
        }
        let coming = self.coming.as_mut();
        let Some(rest) = coming
            .as_ref()
            .and_then(|left| left.checked_sub(payload.len() as u64))
        else {
            return Err(io::Error::other("a request before the answer to the last"));
        };
        self.coming = (rest > 0).then_some(rest);
        Ok(rest == 0)
    }

    /// Reads the head, once it is whole; tells its length.
    fn read_head(&mut self) -> io::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) =
            request.parse(&self.head).map_err(io::Error::other)?
        else {
            return Ok(None);
        };
        let path = request.path.unwrap_or_default();
        self.wanted = path
            .trim_start_matches('/')
            .parse()
            .map_err(|_| io::Error::other(format!("a request for {path}")))?;
        self.coming = Some(content_length(request.headers)?.unwrap_or(0));
        Ok(Some(length))
    }

    /// The answer to the request that is whole now: its head and, if it is small, its body.
    fn answer(&mut self) -> Vec<u8> {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            self.wanted
        )
        .into_bytes();
        if self.wanted <= SMALL {
            answer.resize(
                answer.len() + usize::try_from(self.wanted).unwrap_or(0),
                FILL,
            );
        } else {
            self.left = self.wanted;
        }
        answer
    }
}

/// The length that a head gives. Nobody here sends chunks.
pub(super) fn content_length(headers: &[httparse::Header<'_>]) -> io::Result<Option<u64>> {
    let mut length = None;
    for header in headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("a body in chunks"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(io::Error::other)?;
            length = Some(text.trim().parse().map_err(io::Error::other)?);
        }
    }
    Ok(length)
}

fn say<T: Serialize>(line: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(line)?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    Ok(output.flush()?)
}
