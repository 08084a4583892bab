//! The reverse proxy for HTTP/1.1, before an upstream in plaintext: what the upstream sees, what is streamed, what is used again and what
//! is sent again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "reverse/clients.rs"]
mod clients;
#[path = "reverse/reuse.rs"]
mod reuse;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hnp_tests::exchange::{self, Response, header, read_head, read_response, read_response_head};
use hnp_tests::server::{Accepted, Received, expected, hex, receive};
use hnp_tests::{DEADLINE, Node, Server, bin, origin, process, random, wait};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(120);
const GIB: u64 = 1 << 30;

/// A node before this server; `more` is laid over its configuration.
fn before(server: &Server, path: &str, more: &str) -> Node {
    let config = format!(
        "modes = [\"reverse-proxy\"]\n[upstream]\nurl = \"http://{}{path}\"\n",
        server.address()
    );
    Node::builder().config(&config).config(more).start()
}

fn open(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, request: &str) -> Response {
    stream.write_all(request.as_bytes()).unwrap();
    read_response(stream).unwrap()
}

/// Sends a request on a connection of its own and takes it at the upstream.
fn handed(node: &Node, accepted: &Accepted, request: &str) -> (TcpStream, TcpStream, String) {
    let mut client = open(node);
    client.write_all(request.as_bytes()).unwrap();
    let (upstream, head) = accepted.request();
    (client, upstream, head)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
}

#[test]
fn the_upstream_sees_a_request_of_its_own() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "/base", "[reverse-proxy]\nprefix = \"/acme\"\n");
    let (mut client, mut upstream, head) = handed(
        &node,
        &accepted,
        "GET /acme/a?b=c HTTP/1.1\r\nHost: gateway.test:7777\r\nUser-Agent: x\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
         X-Forwarded-For: 10.1.1.1\r\nForwarded: for=evil\r\nX-Forwarded-Client-Cert: Hash=evil\r\nssl-client-cert: evil\r\n\
         Proxy-Authorization: Basic eDp5\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n",
    );
    assert!(head.starts_with("GET /base/a?b=c HTTP/1.1\r\n"), "{head}");
    let authority = server.address().to_string();
    for (name, value) in [
        ("host", authority.as_str()),
        ("user-agent", "x"),
        ("x-kept", "2"),
        ("te", "trailers"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "gateway.test:7777"),
        (
            "forwarded",
            "for=127.0.0.1;proto=http;host=\"gateway.test:7777\"",
        ),
        ("via", "1.1 hnp"),
    ] {
        assert_eq!(header(&head, name), Some(value), "{name}: {head}");
    }
    for gone in [
        "x-hop",
        "x-forwarded-client-cert",
        "ssl-client-cert",
        "proxy-authorization",
    ] {
        assert_eq!(header(&head, gone), None, "{head}");
    }
    assert!(
        !head.contains("evil") && !head.contains("10.1.1.1"),
        "{head}"
    );
    write!(
        upstream,
        "HTTP/1.1 302 Found\r\nLocation: http://{authority}/base/login\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let response = read_response(&mut client).unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(
        response.header("location"),
        Some("/acme/login"),
        "{response:?}"
    );
    assert_eq!(response.header("x-hop"), None, "{response:?}");
}

#[test]
fn what_is_not_beneath_the_prefix_never_reaches_the_upstream() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "[reverse-proxy]\nprefix = \"/acme\"\n");
    for path in [
        "/",
        "/acmex",
        "/acme/../secret",
        "/acme/%2e%2e/secret",
        "/%61cme",
        "/acme/..;/secret",
    ] {
        let response = ask(&mut open(&node), &get(path));
        response.expect_refusal(404, "http_request_error", &["/acme"]);
    }
    assert_eq!(accepted.waiting(), 0);
}

#[test]
fn content_is_streamed_both_ways() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "");
    let (mut client, mut upstream, head) = handed(
        &node,
        &accepted,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut client).unwrap().status, 200);
    // Each piece has come before the next is sent, in both directions.
    for turn in 0..50 {
        let up = format!("4\r\nu{turn:03}\r\n");
        let down = format!("4\r\nd{turn:03}\r\n");
        client.write_all(up.as_bytes()).unwrap();
        assert_eq!(read_some(&mut upstream, up.len()), up);
        upstream.write_all(down.as_bytes()).unwrap();
        assert_eq!(read_some(&mut client, down.len()), down);
    }
    client.write_all(b"0\r\nX-Sum: 1\r\n\r\n").unwrap();
    assert_eq!(read_some(&mut upstream, 15), "0\r\nX-Sum: 1\r\n\r\n");
    upstream.write_all(b"0\r\nX-Sum: 2\r\n\r\n").unwrap();
    assert_eq!(read_some(&mut client, 15), "0\r\nX-Sum: 2\r\n\r\n");
}

fn read_some(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_client_that_waits_for_100_is_told_by_the_upstream() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "");
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let (mut client, mut upstream, head) = handed(&node, &accepted, request);
    assert_eq!(header(&head, "expect"), Some("100-continue"));
    upstream
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut client).unwrap().status, 100);
    client.write_all(b"hello").unwrap();
    assert_eq!(read_some(&mut upstream, 5), "hello");
    upstream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut client).unwrap().status, 204);

    // Else the next request might come over it.
    drop(upstream);

    // Refused: no content is waited for, and the connection ends, for it may or may not follow.
    let (mut client, mut upstream, _) = handed(&node, &accepted, request);
    upstream
        .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        .unwrap();
    let response = read_response(&mut client).unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (413, Some("close"))
    );
}

#[test]
fn interim_responses_pass() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "");
    let (mut client, mut upstream, _) = handed(&node, &accepted, &get("/"));
    upstream
        .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        .unwrap();
    let hints = read_response_head(&mut client).unwrap();
    assert_eq!(
        (hints.status, hints.header("link")),
        (103, Some("</style.css>"))
    );
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .unwrap();
    assert_eq!(read_response(&mut client).unwrap().text(), "ok");
}

#[test]
fn responses_without_content_leave_the_connection_in_step() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "workers = 1\n");
    let mut client = open(&node);
    let mut upstream: Option<TcpStream> = None;
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        write!(client, "{method} / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let upstream = match &mut upstream {
            Some(upstream) => {
                read_head(upstream).unwrap().unwrap();
                upstream
            }
            none => none.insert(accepted.request().0),
        };
        upstream.write_all(head.as_bytes()).unwrap();
        let got = read_response_head(&mut client).unwrap();
        assert_eq!(
            header(&got.head, "content-length"),
            header(head, "content-length"),
            "{head}"
        );
    }
    assert_eq!(accepted.waiting(), 0, "all went over one connection");
}

#[test]
fn a_switch_of_protocols_becomes_a_relay() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let mut client = open(&node);
    // What follows the head at once is not lost.
    client
        .write_all(b"GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        .unwrap();
    let head = read_response_head(&mut client).unwrap();
    assert_eq!(
        (head.status, head.header("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(read_some(&mut client, 5), "early");
    client.write_all(b"late").unwrap();
    assert_eq!(read_some(&mut client, 4), "late");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let mut client = open(&node);
    let all: String = (0..20)
        .map(|seed| get(&format!("/bytes/{seed}/100")))
        .collect();
    client.write_all(all.as_bytes()).unwrap();
    for seed in 0..20 {
        let response = read_response(&mut client).unwrap();
        assert_eq!(
            receive(response.body.as_slice()),
            expected(seed, 100),
            "{seed}"
        );
    }
}

#[test]
fn a_reload_holds_for_the_next_request_of_a_connection() {
    let old = origin::plain();
    let new_asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&new_asked);
    let new = Server::start(move |mut stream| {
        origin::serve_observed(&mut stream, |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
    });
    let mut node = before(&old, "", "workers = 1\n");
    let mut client = open(&node);
    assert_eq!(ask(&mut client, &get("/head")).status, 200);
    node.rewrite_config(&format!(
        "[upstream]\nurl = \"http://{}/\"\n",
        new.address()
    ));
    node.signal(Signal::SIGHUP);
    wait::until("the new upstream to be asked", || {
        assert_eq!(ask(&mut client, &get("/head")).status, 200);
        match new_asked.load(Ordering::SeqCst) {
            0 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    });
    // Nothing leads to the old one any more.
    old.await_idle();
}

const EVENTS: usize = 10_000;
/// How many events are each sent only once the one before has come.
const IN_TURN: usize = 500;

#[test]
fn ten_thousand_events_pass_one_by_one() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "");
    let request = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    let (mut client, mut upstream, _) = handed(&node, &accepted, request);
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut client).unwrap().status, 200);
    let (came, arrivals) = mpsc::channel();
    let sender = thread::spawn(move || {
        let mut sent = Vec::new();
        for number in 0..EVENTS {
            let event = event(number);
            sent.push(Instant::now());
            upstream.write_all(event.as_bytes()).unwrap();
            if number < IN_TURN {
                assert_eq!(
                    arrivals.recv_timeout(DEADLINE),
                    Ok(number),
                    "an event was held back"
                );
            } else {
                // Not a flood: as a server sends events that happen.
                thread::sleep(Duration::from_micros(200));
            }
        }
        upstream.write_all(b"0\r\n\r\n").unwrap();
        sent
    });
    let mut arrived = Vec::new();
    for number in 0..EVENTS {
        let event = event(number);
        assert_eq!(read_some(&mut client, event.len()), event);
        arrived.push(Instant::now());
        if number < IN_TURN {
            came.send(number).unwrap();
        }
    }
    assert_eq!(read_some(&mut client, 5), "0\r\n\r\n");
    let sent = sender.join().unwrap();
    let mut delays: Vec<Duration> = sent
        .iter()
        .zip(&arrived)
        .map(|(sent, arrived)| arrived.saturating_duration_since(*sent))
        .collect();
    delays.sort_unstable();
    println!(
        "{EVENTS} events: p50 {:?}, p99 {:?}, longest {:?} from sending to arrival",
        delays[EVENTS / 2],
        delays[EVENTS * 99 / 100],
        delays[EVENTS - 1]
    );
}

/// An event in a chunk of its own.
fn event(number: usize) -> String {
    let event = format!("id: {number}\ndata: event {number}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

#[test]
fn the_log_and_the_metrics_name_the_mode() {
    let server = origin::plain();
    let node = before(&server, "", "");
    assert_eq!(ask(&mut open(&node), &get("/head?secret")).status, 200);
    let response: Response = exchange::get(node.address(), "/nothing");
    assert_eq!(response.status, 404);
    wait::until("two lines of the log", || {
        let text = node.log().to_string();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("reverse-proxy"))
            .collect();
        match lines.as_slice() {
            // Of two workers, whose lines have no order.
            [_, _, ..]
                if lines.iter().any(|line| line.contains("/head"))
                    && lines.iter().any(|line| line.contains("404")) =>
            {
                assert!(!text.contains("secret"), "{text}");
                Ok(())
            }
            _ => Err(text),
        }
    });
}

/// A reset, not an end, where a response was cut short.
#[test]
fn a_response_cut_short_does_not_look_complete() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "");
    let (mut client, mut upstream, _) = handed(&node, &accepted, "GET / HTTP/1.0\r\n\r\n");
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut client).unwrap().status, 200);
    assert_eq!(read_some(&mut client, 4), "half");
    drop(upstream);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
