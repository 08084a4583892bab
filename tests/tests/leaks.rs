//! Nothing stays behind: no descriptor, no task, no pipe, no buffer, however a tunnel ends; and one that is idle holds next to nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hnp_tests::client::{self, Tunnel, connect, connect_with, try_connect};
use hnp_tests::node::Metrics;
use hnp_tests::server::{Silent, expected, receive};
use hnp_tests::{DEADLINE, Node, Port, Server, exchange, origin, random, wait};

const TUNNELS: usize = 10_000;
const CLIENTS: usize = 16;

/// What a node holds: descriptors by kind (`socket`, `pipe`, …) and its own gauges.
#[derive(Debug, Clone, PartialEq)]
struct Holdings {
    descriptors: BTreeMap<String, usize>,
    connections: f64,
    tunnels: f64,
    tasks: f64,
    pipes_in_use: f64,
    /// Descriptors of pipes beyond the two of each pipe that HNP accounts for: its outputs, and what would be lost.
    other_pipes: f64,
    buffers_in_use: f64,
}

impl Holdings {
    /// Pipes are counted apart: a pool may keep some, and says so.
    ///
    /// Taken one after the other: only of a quiet node do they belong together.
    fn of(node: &Node) -> Holdings {
        let metrics = node.metrics();
        let mut descriptors = BTreeMap::new();
        for target in node.descriptors() {
            let kind = target
                .split([':', '('])
                .next()
                .unwrap_or_default()
                .to_owned();
            *descriptors.entry(kind).or_default() += 1;
        }
        let pipes = descriptors.remove("pipe").unwrap_or(0);
        Holdings {
            descriptors,
            connections: metrics.require("hnp_connections_active"),
            tunnels: metrics.require("hnp_tunnels_active"),
            tasks: metrics.require("hnp_tasks"),
            pipes_in_use: in_use(&metrics, "hnp_pipes"),
            other_pipes: pipes as f64 - 2.0 * metrics.require("hnp_pipes"),
            buffers_in_use: in_use(&metrics, "hnp_buffers"),
        }
    }

    /// At most what was held before. A scrape is a connection as well, and may or may not be closed yet when it is counted.
    fn await_return_to(&self, node: &Node) {
        wait::until("everything to be given back", || {
            let mut now = Holdings::of(node);
            for (kind, before) in &self.descriptors {
                if now
                    .descriptors
                    .get(kind)
                    .is_some_and(|count| count < before)
                {
                    now.descriptors.insert(kind.clone(), *before);
                }
            }
            if now == *self {
                Ok(())
            } else {
                Err(format!("\n{now:?} now\n{self:?} before"))
            }
        });
    }
}

fn in_use(metrics: &Metrics, name: &str) -> f64 {
    metrics.require(name);
    metrics.sum_where(name, &["state=\"in_use\""])
}

/// All that a client can meet.
struct World {
    node: Node,
    echo: Server,
    source: Server,
    resetting: Server,
    origin: Server,
    silent: Silent,
    nobody: Port,
    missed: AtomicUsize,
}

/// Bytes that the source sends: enough for a relay to go over to pipes.
const BULK: u64 = 300_000;

impl World {
    fn new() -> World {
        World {
            node: Node::builder()
                .config("timeouts.connect = \"1s\"\nlog.access = false")
                .start(),
            echo: Server::echo(),
            source: Server::source(11, BULK),
            resetting: Server::resetting(),
            origin: origin::plain(),
            silent: Silent::on(([127, 0, 0, 1], 0).into()),
            nobody: Port::take(),
            missed: AtomicUsize::new(0),
        }
    }

    fn proxy(&self) -> SocketAddr {
        self.node.address()
    }

    /// One tunnel, ending in the way that its number says.
    fn visit(&self, number: usize) -> io::Result<()> {
        match number % 12 {
            // The client ends, the upstream follows.
            0 | 1 => {
                let mut tunnel = self.tunnel(self.echo.address())?;
                ping(&mut tunnel)?;
                tunnel.shutdown(Shutdown::Write)?;
                expect_end(&tunnel)
            }
            // The client closes both ways at once.
            2 => {
                let mut tunnel = self.tunnel(self.echo.address())?;
                ping(&mut tunnel)
            }
            // The upstream ends first, after bulk.
            3 => {
                let tunnel = self.tunnel(self.source.address())?;
                match receive(&tunnel) {
                    got if got.length == BULK && got.error.is_none() => Ok(()),
                    got => Err(io::Error::other(format!("{got:?}"))),
                }
            }
            // The client goes away in the middle of bulk.
            4 => {
                let mut tunnel = self.tunnel(self.source.address())?;
                tunnel.read_exact(&mut [0; 10_000])
            }
            // The client resets.
            5 => {
                let mut tunnel = self.tunnel(self.echo.address())?;
                ping(&mut tunnel)?;
                client::reset(tunnel);
                Ok(())
            }
            // The upstream resets.
            6 => {
                let mut tunnel = self.tunnel(self.resetting.address())?;
                tunnel.write_all(b"x")?;
                match tunnel.read(&mut [0]) {
                    Err(e) if client::is_reset(&e) => Ok(()),
                    other => Err(io::Error::other(format!("no reset but {other:?}"))),
                }
            }
            // Nobody listens.
            7 => {
                let (response, _) = try_connect(self.proxy(), self.nobody.address())?;
                expect_status(response.status, 502)
            }
            // The client gives up while HNP connects: half of them to a target that never answers.
            8 => {
                let mut stream = TcpStream::connect(self.proxy())?;
                let target = match number % 24 {
                    8 => self.echo.address(),
                    _ => self.silent.address(),
                };
                client::send_connect(&mut stream, target, "", b"early")?;
                if number.is_multiple_of(5) {
                    client::reset(stream);
                }
                Ok(())
            }
            // Half a head, nothing at all, or nonsense.
            9 => {
                let mut stream = TcpStream::connect(self.proxy())?;
                match number % 3 {
                    0 => stream.write_all(b"CONNECT 127.0.0.1:1 HT"),
                    1 => Ok(()),
                    _ => {
                        stream.set_read_timeout(Some(DEADLINE))?;
                        stream.write_all(b"\x01\x02\x03\r\n\r\n")?;
                        let response = exchange::read_response(&mut stream)?;
                        expect_status(response.status, 400)
                    }
                }
            }
            // What policy refuses.
            10 => {
                let (response, _) = try_connect(self.proxy(), "10.0.0.1:443")?;
                expect_status(response.status, 403)
            }
            // A forwarded request.
            _ => {
                let origin = self.origin.address();
                let head = format!(
                    "GET http://{origin}/head HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n"
                );
                let response = exchange::try_request(self.proxy(), &head)?;
                expect_status(response.status, 200)
            }
        }
    }

    fn tunnel(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let (response, stream) = connect_with(self.proxy(), target, "", b"")?;
        expect_status(response.status, 200)?;
        Ok(stream)
    }

    /// `count` visits by several clients at once.
    fn visit_many(&self, count: usize) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        if let Err(e) = self.visit(number) {
                            self.missed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("tunnel {number} (kind {}): {e}", number % 12);
                        }
                    }
                });
            }
        });
        assert_eq!(
            self.missed.load(Ordering::Relaxed),
            0,
            "tunnels that went otherwise"
        );
    }
}

fn expect_status(got: u16, expected: u16) -> io::Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("{got} instead of {expected}")))
}

fn ping(stream: &mut TcpStream) -> io::Result<()> {
    let message = [7; 64];
    let mut back = [0; 64];
    stream.write_all(&message)?;
    stream.read_exact(&mut back)?;
    if back == message {
        return Ok(());
    }
    Err(io::Error::other("other bytes came back"))
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("bytes instead of the end")),
    }
}

#[test]
fn ten_thousand_short_tunnels_leave_nothing_behind() {
    let world = World::new();
    // What is made once for good (pools, DNS, allocator) is made now.
    world.visit_many(480);
    let before = wait::until("the first tunnels to be gone", || {
        let now = Holdings::of(&world.node);
        match now.connections {
            0.0 if now.pipes_in_use == 0.0 => Ok(now),
            n => Err(format!("{n} connections")),
        }
    });
    assert_eq!(before.tunnels, 0.0);
    assert_eq!(before.buffers_in_use, 0.0);
    let resident = world.node.resident();

    world.visit_many(TUNNELS);

    before.await_return_to(&world.node);
    let grown = world.node.resident().saturating_sub(resident);
    assert!(
        grown < 16 << 20,
        "{grown} bytes of memory more after {TUNNELS} tunnels"
    );
    let accepted = world
        .node
        .metrics()
        .require("hnp_connections_accepted_total");
    assert_eq!(accepted, (480 + TUNNELS) as f64);
}

#[test]
fn idle_tunnels_hold_no_pipe_and_no_buffer() {
    let node = Node::start();
    let seed = random::seed();
    let (server, accepted) = Server::handing_over();
    let before = node.metrics();
    // Each has carried bulk both ways, so that each has had pipes.
    let tunnels: Vec<(TcpStream, TcpStream)> = (0..100)
        .map(|_| {
            let Tunnel { mut stream, .. } = connect(node.address(), server.address());
            let mut upstream = accepted.next();
            carry(&mut upstream, &mut stream, seed);
            carry(&mut stream, &mut upstream, seed);
            (stream, upstream)
        })
        .collect();
    node.await_metrics("pipes and buffers to be given back", |metrics| {
        let (pipes, buffers) = (in_use(metrics, "hnp_pipes"), in_use(metrics, "hnp_buffers"));
        match pipes + buffers {
            0.0 => Ok(()),
            _ => Err(format!("{pipes} pipes and {buffers} buffers in use")),
        }
    });
    let now = node.metrics();
    assert_eq!(now.require("hnp_tunnels_active"), 100.0);
    let bytes = |metrics: &Metrics| metrics.require("hnp_bytes_total");
    assert_eq!(bytes(&now) - bytes(&before), 100.0 * 2.0 * CARRIED as f64);
    // They still work.
    for (mut client, mut upstream) in tunnels {
        client.write_all(b"still there?").unwrap();
        let mut got = [0; 12];
        upstream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"still there?");
    }
}

const CARRIED: u64 = 512 << 10;

/// Sends through one end while reading the other.
fn carry(from: &mut TcpStream, to: &mut TcpStream, seed: u64) {
    thread::scope(|scope| {
        scope.spawn(|| hnp_tests::server::send_random(from, seed, CARRIED).unwrap());
        let got = receive(to.take(CARRIED));
        assert_eq!(got, expected(seed, CARRIED));
    });
}

#[test]
fn idle_half_closed_and_stalled_tunnels_use_no_processor_time() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let open = || {
        let Tunnel { stream, .. } = connect(node.address(), server.address());
        (stream, accepted.next())
    };
    let mut kept: Vec<(TcpStream, TcpStream)> = Vec::new();
    for kind in 0..40 {
        let (client, upstream) = open();
        match kind % 5 {
            0 => {}
            1 => client.shutdown(Shutdown::Write).unwrap(),
            2 => upstream.shutdown(Shutdown::Write).unwrap(),
            // Nobody reads what was sent, and there is more than fits.
            3 => fill(&client),
            // As before, and the other side has ended: its end is reported again and again to who only waits for room.
            _ => {
                fill(&client);
                upstream.shutdown(Shutdown::Write).unwrap();
            }
        }
        kept.push((client, upstream));
    }
    let used = {
        let before = node.cpu_ticks();
        // Time is what is measured here.
        thread::sleep(Duration::from_secs(2));
        node.cpu_ticks() - before
    };
    assert!(
        used <= 20,
        "{used} ticks of 10 ms in 2 s with nothing to do"
    );
}

/// Writes until nothing goes any more.
fn fill(mut stream: &TcpStream) {
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let block = vec![0; 1 << 20];
    while stream.write(&block).is_ok() {}
}
