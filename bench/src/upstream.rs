//! The upstream of every measurement: echo, source and sink in one process and one thread; and a little web server for people.

mod web;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::child::Worker;
use crate::net::{self, Events, Poller, Ready};
use crate::route::Ports;

/// Bytes read or written at once.
const CHUNK: usize = 256 * 1024;
/// Tokens of what is not a connection; the listeners' are those of `Duty::ALL`, connections follow.
const STDIN: u64 = Duty::ALL.len() as u64;
const FIRST_CONNECTION: u64 = STDIN + 1;

/// What is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Echo,
    Source,
    Sink,
    Web,
}

impl Duty {
    const ALL: [Duty; 4] = [Duty::Echo, Duty::Source, Duty::Sink, Duty::Web];
}

/// What the upstream has done so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Connections open now.
    pub open: u64,
    /// Bytes the source has handed to the kernel.
    pub sourced: u64,
    /// Bytes the sink has taken.
    pub sunk: u64,
}

/// The upstream in a process of its own.
#[derive(Debug)]
pub struct Upstream {
    worker: Worker,
    /// Its ports, on every address of 127.0.0.0/8.
    pub ports: Ports,
    /// Port of the web server: `/<n>` is n bytes, anything else a line of text.
    pub web: u16,
}

impl Upstream {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> anyhow::Result<Upstream> {
        let mut worker = Worker::start("the upstream", &["upstream"])?;
        let (ports, web) = worker.hear()?;
        Ok(Upstream { worker, ports, web })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.worker.id()
    }

    /// What it has done so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn counters(&mut self) -> anyhow::Result<Counters> {
        self.worker.say("count")?;
        self.worker.hear()
    }

    /// Waits until the source can send no more (half a second without a byte, ten seconds at most); tells how many bytes it has sent.
    ///
    /// # Errors
    /// When it has ended.
    pub fn standstill(&mut self) -> anyhow::Result<u64> {
        let mut sourced = self.counters()?.sourced;
        let mut still = 0;
        for _ in 0..100 {
            // That nothing happens has no event.
            std::thread::sleep(Duration::from_millis(100));
            let now = self.counters()?.sourced;
            still = if now == sourced { still + 1 } else { 0 };
            sourced = now;
            if still == 5 {
                break;
            }
        }
        Ok(sourced)
    }

    /// Waits until no connection is open, at most five seconds; tells how many still are.
    ///
    /// # Errors
    /// When it has ended.
    pub fn quiet(&mut self) -> anyhow::Result<u64> {
        self.worker.say("quiet")?;
        Ok(self.worker.hear::<Counters>()?.open)
    }
}

struct Connection {
    stream: TcpStream,
    duty: Duty,
    /// Bytes of a web answer's body still to send.
    body: u64,
    /// Echoed bytes that the client has not taken yet (the echo reads no further before it has); of the web server, the request so far.
    pending: Vec<u8>,
}

/// Serves until standard input ends: prints the ports, then answers `count` and `quiet`.
///
/// # Errors
/// When the ports cannot be had or the process is out of descriptors.
pub fn serve() -> anyhow::Result<()> {
    let mut server = Server::new().context("cannot set the upstream up")?;
    say(&server.ports()?)?;
    server.serve()
}

struct Server {
    poller: Poller,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    counters: Counters,
    buffer: Vec<u8>,
}

impl Server {
    fn new() -> io::Result<Server> {
        let poller = Poller::new()?;
        let listeners = net::listen_all(&poller, STDIN)?;
        poller.add(io::stdin(), STDIN, true, false)?;
        Ok(Server {
            poller,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            counters: Counters::default(),
            buffer: vec![b'h'; CHUNK],
        })
    }

    fn ports(&self) -> io::Result<(Ports, u16)> {
        let mut ports = [0; Duty::ALL.len()];
        for (port, listener) in ports.iter_mut().zip(&self.listeners) {
            *port = listener.local_addr()?.port();
        }
        let [echo, source, sink, web] = ports;
        Ok((Ports { echo, source, sink }, web))
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Events::new();
        let mut ready: Vec<Ready> = Vec::new();
        // Turns of the loop until a question for quiet is answered whatever is still open.
        let mut patience: Option<u32> = None;
        loop {
            let limit = if patience.is_some() {
                Duration::from_millis(50)
            } else {
                Duration::from_secs(3600)
            };
            ready.clear();
            ready.extend(self.poller.wait(&mut events, limit)?);
            for event in &ready {
                match event.token {
                    STDIN => {
                        let mut line = String::new();
                        if io::stdin().lock().read_line(&mut line)? == 0 {
                            return Ok(());
                        }
                        match line.trim() {
                            "quiet" => patience = Some(100),
                            _ => say(&self.counters)?,
                        }
                    }
                    FIRST_CONNECTION.. => self.turn(event)?,
                    listener => self.accept(listener)?,
                }
            }
            if let Some(left) = patience {
                patience = left.checked_sub(u32::from(ready.is_empty()));
                if self.counters.open == 0 || patience.is_none() {
                    patience = None;
                    say(&self.counters)?;
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
        while let Some(stream) = net::accept(listener).context("the upstream cannot accept")? {
            let slot = self.free.pop().unwrap_or(self.connections.len());
            let source = duty == Duty::Source;
            self.poller
                .add(&stream, slot as u64 + FIRST_CONNECTION, !source, source)?;
            let connection = Some(Connection {
                stream,
                duty,
                body: 0,
                pending: Vec::new(),
            });
            match self.connections.get_mut(slot) {
                Some(free) => *free = connection,
                None => self.connections.push(connection),
            }
            self.counters.open += 1;
        }
        Ok(())
    }

    /// One read or write of one connection; level-triggered readiness brings the next.
    fn turn(&mut self, event: &Ready) -> anyhow::Result<()> {
        let slot = usize::try_from(event.token - FIRST_CONNECTION)?;
        let Some(Some(connection)) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let result = match connection.duty {
            Duty::Echo => connection.echo(&self.poller, event, &mut self.buffer),
            Duty::Source => connection
                .stream
                .write(&self.buffer)
                .inspect(|count| self.counters.sourced += *count as u64),
            Duty::Sink => connection
                .stream
                .read(&mut self.buffer)
                .inspect(|count| self.counters.sunk += *count as u64),
            Duty::Web => connection.web(&self.poller, event, &mut self.buffer),
        };
        let ended = match result {
            Ok(count) => count == 0,
            Err(error) => !net::not_now(&error),
        };
        if ended {
            self.connections[slot] = None;
            self.free.push(slot);
            self.counters.open -= 1;
        }
        Ok(())
    }
}

impl Connection {
    /// Reads and sends back; tells how many bytes moved, none at the end of the stream.
    fn echo(&mut self, poller: &Poller, event: &Ready, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.pending.is_empty() {
            let sent = self.stream.write(&self.pending)?;
            self.pending.drain(..sent);
            if self.pending.is_empty() {
                poller.modify(self.stream.as_fd(), event.token, true, false)?;
            }
            return Ok(sent);
        }
        let count = self.stream.read(buffer)?;
        let sent = match self.stream.write(&buffer[..count]) {
            Err(error) if net::not_now(&error) => 0,
            other => other?,
        };
        if sent < count {
            self.pending.extend_from_slice(&buffer[sent..count]);
            poller.modify(self.stream.as_fd(), event.token, false, true)?;
        }
        Ok(count)
    }
}

fn say<T: Serialize>(line: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(line)?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    Ok(output.flush()?)
}
