//! Time as a feature: heads, idle tunnels, lifetimes; and the sizes of heads.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use hnp_tests::client::{Tunnel, connect, refused};
use hnp_tests::server::{expected, receive};
use hnp_tests::{DEADLINE, Node, Server, exchange, origin};

/// Longer than configured, but by no more than a slow machine explains.
fn assert_about(started: Instant, configured: Duration) {
    let took = started.elapsed();
    let low = configured.mul_f64(0.8);
    assert!(
        took >= low && took < configured + Duration::from_secs(8),
        "{took:?} where {configured:?} is configured"
    );
}

fn open(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let node = Node::builder().config("timeouts.head = \"500ms\"").start();
    for start in [&b""[..], b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127"] {
        let started = Instant::now();
        let mut stream = open(&node);
        stream.write_all(start).unwrap();
        let response = exchange::read_response(&mut stream).unwrap();
        assert_about(started, Duration::from_millis(500));
        response.expect_refusal(408, "http_request_error", &["timeouts.head"]);
        assert_eq!(
            stream.read(&mut [0]).unwrap(),
            0,
            "and the connection is closed"
        );
    }
}

#[test]
fn a_head_that_trickles_is_408_as_well() {
    let node = Node::builder().config("timeouts.head = \"500ms\"").start();
    let started = Instant::now();
    let mut stream = open(&node);
    let mut writer = stream.try_clone().unwrap();
    // Never silent for long, and never done.
    let trickle = thread::spawn(move || {
        let _ = writer.write_all(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nX: ");
        while writer.write_all(b"x").is_ok() && started.elapsed() < DEADLINE {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let response = exchange::read_response(&mut stream).unwrap();
    assert_about(started, Duration::from_millis(500));
    assert_eq!(response.status, 408);
    drop(stream);
    trickle.join().unwrap();
}

#[test]
fn an_idle_tunnel_is_closed_and_a_busy_one_is_not() {
    let idle = Duration::from_millis(1000);
    let node = Node::builder()
        .config("timeouts.tunnel-idle = \"1s\"")
        .start();
    let echo = Server::echo();
    let Tunnel { mut stream, .. } = connect(node.address(), echo.address());
    let opened = Instant::now();
    // Busy for longer than the timeout, never idle for as long.
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(250));
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    assert!(opened.elapsed() > 2 * idle - Duration::from_millis(100));
    let last = Instant::now();
    let end = stream.read(&mut [0]);
    assert!(
        matches!(end, Ok(0))
            || end
                .as_ref()
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
    assert_about(last, idle);
    let line = node
        .log()
        .await_line(&["log=access", &format!("target={}", echo.address())]);
    assert!(
        line.contains("closed_by=hnp") && line.contains("close_reason=idle"),
        "{line}"
    );
    echo.await_idle();
}

#[test]
fn traffic_in_one_direction_keeps_a_tunnel() {
    let node = Node::builder()
        .config("timeouts.tunnel-idle = \"1s\"")
        .start();
    let (server, accepted) = Server::handing_over();
    let Tunnel { mut stream, .. } = connect(node.address(), server.address());
    let mut upstream = accepted.next();
    for turn in 0..8_u8 {
        thread::sleep(Duration::from_millis(250));
        upstream.write_all(&[turn]).unwrap();
        let mut got = [0];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, [turn]);
    }
}

#[test]
fn a_lifetime_ends_a_busy_tunnel() {
    let node = Node::builder()
        .config("timeouts.tunnel-lifetime = \"1s\"")
        .start();
    let echo = Server::echo();
    let Tunnel { mut stream, .. } = connect(node.address(), echo.address());
    let started = Instant::now();
    let mut byte = [0];
    while started.elapsed() < DEADLINE {
        if stream.write_all(b"x").is_err() || !matches!(stream.read(&mut byte), Ok(1)) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_about(started, Duration::from_secs(1));
    let line = node
        .log()
        .await_line(&["log=access", &format!("target={}", echo.address())]);
    assert!(
        line.contains("closed_by=hnp") && line.contains("close_reason=lifetime"),
        "{line}"
    );
}

#[test]
fn an_origin_that_does_not_answer_is_504() {
    let node = Node::builder()
        .config("timeouts.http-idle = \"700ms\"")
        .start();
    let (server, accepted) = Server::handing_over();
    let address = server.address();
    let mut stream = open(&node);
    let started = Instant::now();
    write!(
        stream,
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let _held = accepted.next();
    let response = exchange::read_response(&mut stream).unwrap();
    assert_about(started, Duration::from_millis(700));
    response.expect_refusal(
        504,
        "http_response_timeout",
        &[&address.to_string(), "timeouts.http-idle"],
    );
}

#[test]
fn an_origin_that_stops_in_the_middle_does_not_hold_the_client_for_ever() {
    let node = Node::builder()
        .config("timeouts.http-idle = \"700ms\"")
        .start();
    let (server, accepted) = Server::handing_over();
    let address = server.address();
    let mut stream = open(&node);
    write!(
        stream,
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let mut origin = accepted.next();
    origin
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        .unwrap();
    let started = Instant::now();
    let response = exchange::read_response(&mut stream);
    assert_about(started, Duration::from_millis(700));
    // Nothing that a client could take for the whole.
    assert!(response.is_err(), "{response:?}");
}

#[test]
fn a_slow_but_steady_answer_is_not_cut() {
    let node = Node::builder()
        .config("timeouts.http-idle = \"1s\"\ntimeouts.head = \"1s\"")
        .start();
    let (server, accepted) = Server::handing_over();
    let address = server.address();
    let mut stream = open(&node);
    write!(
        stream,
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let mut origin = accepted.next();
    origin
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        .unwrap();
    let head = exchange::read_response_head(&mut stream).unwrap();
    assert_eq!(head.status, 200);
    for turn in 0..8_u8 {
        thread::sleep(Duration::from_millis(250));
        origin.write_all(&[turn]).unwrap();
        let mut got = [0];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, [turn]);
    }
}

#[test]
fn heads_that_are_too_large() {
    let node = Node::builder()
        .config("[limits]\nhead-size = \"8KiB\"\nrequest-line-size = \"1KiB\"\nheaders = 20")
        .start();
    let target = "127.0.0.1:1";
    let many: String = (0..30).map(|n| format!("X-{n}: y\r\n")).collect();
    refused(node.address(), target, &many).expect_refusal(431, "http_request_error", &[]);
    let long = format!("X: {}\r\n", "y".repeat(9000));
    refused(node.address(), target, &long).expect_refusal(431, "http_request_error", &[]);
    let line = format!(
        "GET http://{target}/{} HTTP/1.1\r\nHost: {target}\r\n\r\n",
        "z".repeat(2000)
    );
    exchange::request(node.address(), &line).expect_refusal(414, "http_request_error", &[]);
    // And one that never ends, from a client that does not read.
    let mut stream = open(&node);
    let block = [b'x'; 4096];
    let _ = stream.write_all(b"GET http://127.0.0.1/ HTTP/1.1\r\nX: ");
    for _ in 0..100 {
        if stream.write_all(&block).is_err() {
            break;
        }
    }
    let origin = origin::plain();
    let fine = format!(
        "GET http://{0}/bytes/1/10 HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n",
        origin.address()
    );
    let response = exchange::request(node.address(), &fine);
    assert_eq!(receive(response.body.as_slice()), expected(1, 10));
}
