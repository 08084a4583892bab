//! The table of hostile heads again, sent to the node itself: whole, and one byte at a time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "hostile_heads/cases.rs"]
mod cases;
#[path = "hostile_heads/targets.rs"]
mod targets;

use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use cases::{Case, cases};
use hnp_tests::exchange::{self, Response};
use hnp_tests::server::Server;
use hnp_tests::{DEADLINE, Node, client};

/// Sends a head in pieces of this size, and takes the answer.
fn send(address: SocketAddr, head: &[u8], piece: usize) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    for piece in head.chunks(piece) {
        // An answer may come, and the connection close, before all is sent.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    exchange::read_response(&mut stream)
}

/// The first byte of a handshake record of TLS (RFC 8446 section 5.1).
const TLS: u8 = 0x16;

fn verdicts(piece: usize) {
    // Nothing is allowed, so that what is let through the parser is told apart and goes nowhere.
    let node = Node::builder()
        .config("timeouts.head = \"2s\"\n[policy]\nallow = []")
        .start();
    let address = node.address();
    let wrong: Vec<String> = thread::scope(|scope| {
        let all: Vec<_> = cases()
            .into_iter()
            // A node answers what begins as TLS in TLS: see below, and `modes`.
            .filter(|case| case.head.first() != Some(&TLS))
            .map(|Case { name, head, status }| {
                scope.spawn(move || {
                    let expected = if status == 200 { 403 } else { status };
                    match send(address, &head, piece) {
                        Ok(response) if response.status == expected => None,
                        Ok(response) => Some(format!(
                            "{name}: {} instead of {expected}: {}",
                            response.status,
                            response.text()
                        )),
                        Err(e) => Some(format!("{name}: {e} instead of {expected}")),
                    }
                })
            })
            .collect();
        all.into_iter()
            .filter_map(|one| one.join().unwrap())
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for line in node.log().lines() {
        assert!(!line.contains("SECRET"), "{line}");
        assert!(!line.contains("panicked"), "{line}");
    }
}

#[test]
fn whole() {
    verdicts(usize::MAX);
}

#[test]
fn byte_by_byte() {
    verdicts(1);
}

#[test]
fn a_client_hello_is_answered_by_an_alert() {
    let node = Node::start();
    let hello = cases()
        .into_iter()
        .find(|case| case.head.first() == Some(&TLS))
        .unwrap();
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.write_all(&hello.head).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // A fatal handshake_failure (RFC 8446 section 6.2).
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 40]);
}

#[test]
fn the_node_serves_on() {
    let node = Node::start();
    for Case { head, .. } in cases() {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        let _ = stream.write_all(&head);
        // Without waiting for an answer.
        client::reset(stream);
    }
    drop(client::connect(node.address(), Server::echo().address()));
    node.await_metrics("all to be gone", |metrics| {
        match metrics.require("hnp_connections_active") {
            0.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    });
}
