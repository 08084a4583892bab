//! What goes in comes out: every byte, in order, and the way each side ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hnp_tests::client::{self, Tunnel, connect, connect_with, small_buffers};
use hnp_tests::random::{self, Random};
use hnp_tests::server::{Accepted, Silent, expected, receive, send_random};
use hnp_tests::{DEADLINE, Node, Server, exchange};

const MIB: u64 = 1 << 20;

/// A tunnel with both of its ends in the test's hands.
struct Pair {
    client: TcpStream,
    upstream: TcpStream,
}

impl Pair {
    fn open(node: &Node, server: &Server, accepted: &Accepted) -> Pair {
        let Tunnel { stream, .. } = connect(node.address(), server.address());
        Pair {
            client: stream,
            upstream: accepted.next(),
        }
    }

    /// Sends so many bytes each way at once, ends each direction behind them, and compares digests.
    fn exchange(self, seed: u64, up: u64, down: u64) {
        let (up_seed, down_seed) = (seed, seed.wrapping_add(1));
        thread::scope(|scope| {
            scope.spawn(|| send_and_end(&self.client, up_seed, up).unwrap());
            scope.spawn(|| send_and_end(&self.upstream, down_seed, down).unwrap());
            scope.spawn(|| {
                let got = receive(&self.upstream);
                assert_eq!(got, expected(up_seed, up), "up, seed {up_seed}, {up} bytes");
            });
            scope.spawn(|| {
                let got = receive(&self.client);
                assert_eq!(
                    got,
                    expected(down_seed, down),
                    "down, seed {down_seed}, {down} bytes"
                );
            });
        });
    }
}

fn send_and_end(mut stream: &TcpStream, seed: u64, length: u64) -> io::Result<()> {
    send_random(&mut stream, seed, length)?;
    stream.shutdown(Shutdown::Write)
}

#[test]
fn random_data_both_ways_at_once() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let seed = random::seed();
    let sizes = [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (2, 65_536),
        (65_537, 3),
        (MIB + 7, 3 * MIB + 1),
        (5 * MIB, 0),
        (0, 5 * MIB),
        (96 * MIB + 5, 64 * MIB + 3),
    ];
    for (number, (up, down)) in (0..).zip(sizes) {
        Pair::open(&node, &server, &accepted).exchange(seed + 2 * number, up, down);
    }
}

#[test]
fn many_tunnels_at_once_do_not_mix() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let seed = random::seed();
    let mut random = Random::new(seed);
    // One after the other, so that it is known which connection belongs to which; then all at once.
    let pairs: Vec<Pair> = (0..48)
        .map(|_| Pair::open(&node, &server, &accepted))
        .collect();
    thread::scope(|scope| {
        for (number, pair) in (0..).zip(pairs) {
            let (up, down) = (random.between(0, 1 << 20), random.between(0, 1 << 20));
            scope.spawn(move || pair.exchange(seed + 2 * number, up as u64, down as u64));
        }
    });
}

#[test]
fn small_messages_there_and_back() {
    let node = Node::start();
    let echo = Server::echo();
    let Tunnel { mut stream, .. } = connect(node.address(), echo.address());
    let seed = random::seed();
    let mut random = Random::new(seed);
    for turn in 0..500 {
        let length = random.between(1, 3000);
        let message = random.bytes(length);
        stream.write_all(&message).unwrap();
        let mut back = vec![0; length];
        stream.read_exact(&mut back).unwrap();
        assert!(back == message, "turn {turn}, seed {seed}");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// More than all of the kernel's buffers on the way hold together.
const MORE_THAN_BUFFERS: u64 = 96 * MIB;

/// A writer that tells when a write first took too long, and then goes on.
struct Stalling<'s> {
    stream: &'s TcpStream,
    written: u64,
    stalled: Option<Sender<u64>>,
}

impl Write for Stalling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Ok(n) => {
                    self.written += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.stalled.is_some() => {
                    let _ = self.stalled.take().unwrap().send(self.written);
                    self.stream.set_write_timeout(Some(DEADLINE))?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes on one side while the other does not read until the writer stalls; then everything has to come.
fn backpressure(node: &Node, writer: &TcpStream, reader: &TcpStream) {
    let seed = random::seed();
    small_buffers(reader);
    writer
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let resident = node.resident();
    let (send, stalled) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut stalling = Stalling {
                stream: writer,
                written: 0,
                stalled: Some(send),
            };
            send_random(&mut stalling, seed, MORE_THAN_BUFFERS).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let written = stalled
            .recv_timeout(DEADLINE)
            .expect("a writer whose reader does not read stalls");
        assert!(
            written < MORE_THAN_BUFFERS / 2,
            "{written} bytes are on the way"
        );
        let grown = node.resident().saturating_sub(resident);
        assert!(
            grown < 4 * MIB,
            "a stalled tunnel took {grown} bytes of memory"
        );
        assert_eq!(
            receive(reader),
            expected(seed, MORE_THAN_BUFFERS),
            "seed {seed}"
        );
    });
}

#[test]
fn a_client_that_reads_late_stops_the_upstream_and_loses_nothing() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let pair = Pair::open(&node, &server, &accepted);
    backpressure(&node, &pair.upstream, &pair.client);
}

#[test]
fn an_upstream_that_reads_late_stops_the_client_and_loses_nothing() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let pair = Pair::open(&node, &server, &accepted);
    backpressure(&node, &pair.client, &pair.upstream);
}

#[test]
fn a_slow_reader_with_small_reads_gets_everything() {
    let node = Node::start();
    let seed = random::seed();
    let source = Server::source(seed, 4 * MIB);
    let Tunnel { mut stream, .. } = connect(node.address(), source.address());
    small_buffers(&stream);
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    loop {
        let mut buffer = vec![0; random.between(1, 5000)];
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            n => all.extend_from_slice(&buffer[..n]),
        }
        if random.between(0, 20) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(
        receive(all.as_slice()),
        expected(seed, 4 * MIB),
        "seed {seed}"
    );
}

#[test]
fn a_client_that_ends_its_side_still_hears_the_answer() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Pair {
        mut client,
        mut upstream,
    } = Pair::open(&node, &server, &accepted);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    upstream.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    // Only now: the end has passed through while the other direction stays open.
    send_random(&mut upstream, 7, 3 * MIB).unwrap();
    drop(upstream);
    assert_eq!(receive(&client), expected(7, 3 * MIB));
}

#[test]
fn an_upstream_that_ends_its_side_still_hears_the_client() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Pair {
        mut client,
        mut upstream,
    } = Pair::open(&node, &server, &accepted);
    upstream.write_all(b"last words").unwrap();
    upstream.shutdown(Shutdown::Write).unwrap();
    let mut words = String::new();
    client.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
    send_random(&mut client, 8, 3 * MIB).unwrap();
    drop(client);
    assert_eq!(receive(&upstream), expected(8, 3 * MIB));
}

#[test]
fn payload_in_the_same_segment_as_the_head_is_kept() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let mut random = Random::new(random::seed());
    for length in [1, 5, 4096, 40_000, 300_000] {
        let early = random.bytes(length);
        // As one write, so that head and payload share segments.
        let (response, mut client) =
            connect_with(node.address(), server.address(), "", &early).unwrap();
        assert_eq!(response.status, 200);
        let mut upstream = accepted.next();
        let mut got = vec![0; length];
        upstream.read_exact(&mut got).unwrap();
        assert!(got == early, "{length} bytes of early data");
        // And it goes on behind it.
        client.write_all(b"more").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        upstream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "more");
    }
}

#[test]
fn a_client_that_sends_all_and_ends_before_the_answer_is_served() {
    let node = Node::start();
    let echo = Server::echo();
    for length in [0, 6, 50_000] {
        let early = Random::new(length).bytes(length as usize);
        let mut client = TcpStream::connect(node.address()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client::send_connect(&mut client, echo.address(), "", &early).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let response = exchange::read_response_head(&mut client).unwrap();
        assert_eq!(response.status, 200);
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(
            back == early,
            "{length} bytes and the end, before the answer"
        );
    }
}

#[test]
fn an_upstream_may_speak_first_and_end_at_once() {
    let node = Node::start();
    for length in [0, 1, 64, MIB] {
        let source = Server::source(length, length);
        let Tunnel { stream, .. } = connect(node.address(), source.address());
        assert_eq!(receive(&stream), expected(length, length));
    }
}

/// Reads until the stream fails; panics on an orderly end.
fn error_of(mut stream: &TcpStream) -> io::Error {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("an orderly end where a reset belongs"),
            Ok(_) => {}
            Err(e) => return e,
        }
    }
}

#[test]
fn a_reset_of_the_client_reaches_the_upstream_as_a_reset() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Pair { client, upstream } = Pair::open(&node, &server, &accepted);
    client::reset(client);
    assert_eq!(error_of(&upstream).kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_upstream_reaches_the_client_as_a_reset() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Pair { client, upstream } = Pair::open(&node, &server, &accepted);
    client::reset(upstream);
    assert_eq!(error_of(&client).kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_in_the_middle_of_a_transfer_reaches_the_other_side() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    for from_client in [true, false] {
        let pair = Pair::open(&node, &server, &accepted);
        let (faulty, other) = match from_client {
            true => (pair.client, pair.upstream),
            false => (pair.upstream, pair.client),
        };
        // Both directions carry bulk, so that pipes are in use when it happens.
        send_random(&mut &faulty, 1, 2 * MIB).unwrap();
        let writer = {
            let other = other.try_clone().unwrap();
            thread::spawn(move || send_random(&mut &other, 2, 256 * MIB))
        };
        (&faulty).read_exact(&mut vec![0; 1 << 20]).unwrap();
        client::reset(faulty);
        let writing = writer.join().unwrap().expect_err("nobody reads any more");
        assert!(client::is_reset(&writing), "{writing}");
    }
}

#[test]
fn a_reset_after_a_half_close_is_still_a_reset() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();

    let Pair { client, upstream } = Pair::open(&node, &server, &accepted);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&upstream).read(&mut [0]).unwrap(), 0);
    client::reset(upstream);
    assert_eq!(error_of(&client).kind(), io::ErrorKind::ConnectionReset);

    let Pair { client, upstream } = Pair::open(&node, &server, &accepted);
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    client::reset(client);
    // The half that was still open tells.
    assert_eq!(error_of(&upstream).kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_side_that_closes_without_reading_what_is_sent_to_it_resets_the_sender() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Pair { client, upstream } = Pair::open(&node, &server, &accepted);
    drop(upstream);
    // The first bytes find nobody: the kernel of the upstream answers them with a reset, which has to come through.
    let mut failed = None;
    for _ in 0..200 {
        if let Err(e) = (&client).write_all(&[0; 64 << 10]) {
            failed = Some(e);
            break;
        }
    }
    let error = failed.expect("writing to nobody goes on for ever");
    assert!(client::is_reset(&error), "{error}");
}

#[test]
fn a_reset_before_the_target_answers_ends_the_attempt() {
    let node = Node::builder()
        .config("[timeouts]\nconnect = \"25s\"")
        .start();
    let silent = Silent::on(([127, 0, 0, 1], 0).into());
    let mut client = TcpStream::connect(node.address()).unwrap();
    client::send_connect(&mut client, silent.address(), "", b"").unwrap();
    node.await_metrics("the connection to be there", |metrics| {
        match metrics.require("hnp_connections_active") {
            1.0 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
    client::reset(client);
    let started = Instant::now();
    node.await_metrics("the connection to be gone", |metrics| {
        match metrics.require("hnp_connections_active") {
            0.0 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "noticed after {took:?}, when the attempt timed out by itself"
    );
}
