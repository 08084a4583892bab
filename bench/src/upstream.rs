//! The upstream of every measurement: echo, source and sink in one process and one thread.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::child::Worker;
use crate::net::{self, Events, Poller, Ready};
use crate::route::{Ports, Service};

/// Bytes read or written at once.
const CHUNK: usize = 256 * 1024;
const SERVICES: [Service; 3] = [Service::Echo, Service::Source, Service::Sink];
/// Tokens of what is not a connection; connections follow.
const STDIN: u64 = 3;
const FIRST_CONNECTION: u64 = 4;

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
}

impl Upstream {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> anyhow::Result<Upstream> {
        let mut worker = Worker::start("the upstream", &["upstream"])?;
        let ports = worker.hear()?;
        Ok(Upstream { worker, ports })
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
    service: Service,
    /// Echoed bytes that the client has not taken yet; the echo reads no further before it has.
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
        let mut listeners = Vec::new();
        for token in 0..STDIN {
            let listener = net::listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
            poller.add(&listener, token, true, false)?;
            listeners.push(listener);
        }
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

    fn ports(&self) -> io::Result<Ports> {
        let mut ports = [0; SERVICES.len()];
        for (port, listener) in ports.iter_mut().zip(&self.listeners) {
            *port = listener.local_addr()?.port();
        }
        let [echo, source, sink] = ports;
        Ok(Ports { echo, source, sink })
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
        let (Some(listener), Some(&service)) = (self.listeners.get(index), SERVICES.get(index))
        else {
            return Ok(());
        };
        while let Some(stream) = net::accept(listener).context("the upstream cannot accept")? {
            let slot = self.free.pop().unwrap_or(self.connections.len());
            let source = service == Service::Source;
            self.poller
                .add(&stream, slot as u64 + FIRST_CONNECTION, !source, source)?;
            let connection = Some(Connection {
                stream,
                service,
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
        let result = match connection.service {
            Service::Echo => connection.echo(&self.poller, event, &mut self.buffer),
            Service::Source => connection
                .stream
                .write(&self.buffer)
                .inspect(|count| self.counters.sourced += *count as u64),
            Service::Sink => connection
                .stream
                .read(&mut self.buffer)
                .inspect(|count| self.counters.sunk += *count as u64),
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
