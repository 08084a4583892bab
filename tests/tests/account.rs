//! The log line of each connection: everything that happened, nothing that is secret, once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use hnp_tests::client::{self, Tunnel, connect};
use hnp_tests::server::{receive, send_random};
use hnp_tests::{DEADLINE, Node, Server, exchange, origin};
use serde_json::Value;

/// Waits for the access line of a request to `target` and reads it.
fn json_line(node: &Node, target: &str) -> Value {
    let line = node
        .log()
        .await_line(&["\"log\":\"access\"", &format!("\"target\":\"{target}\"")]);
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn text_line(node: &Node, target: &str) -> String {
    node.log()
        .await_line(&["log=access", &format!("target={target} ")])
}

#[test]
fn a_tunnel_in_json() {
    let node = Node::builder().config("log.format = \"json\"").start();
    let echo = Server::echo();
    let Tunnel { mut stream, .. } = connect(node.address(), echo.address());
    let client = stream.local_addr().unwrap();
    stream.write_all(&[1; 1000]).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);

    let target = echo.address().to_string();
    let line = json_line(&node, &target);
    let text = |key: &str| {
        line[key]
            .as_str()
            .unwrap_or_else(|| panic!("no {key} in {line}"))
            .to_owned()
    };
    assert_eq!(text("client"), client.to_string());
    assert_eq!(text("mode"), "tunnel");
    assert_eq!(text("method"), "CONNECT");
    assert_eq!(text("decision"), "allow");
    assert!(!text("reason").is_empty());
    assert_eq!(text("address"), target);
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes_up"], 1000);
    assert_eq!(line["bytes_down"], 1000);
    assert_eq!(text("closed_by"), "client");
    assert!(!text("close_reason").is_empty());
    for duration in ["connect_ms", "duration_ms"] {
        let value = line[duration]
            .as_f64()
            .unwrap_or_else(|| panic!("no {duration} in {line}"));
        assert!((0.0..10_000.0).contains(&value), "{line}");
    }
    assert!(
        text("time").starts_with("20") && text("time").ends_with('Z'),
        "{line}"
    );

    // Every line there is is a JSON object, also those that are no connection's.
    for line in node.log().lines() {
        serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn large_amounts_are_counted_exactly() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let Tunnel { mut stream, .. } = connect(node.address(), server.address());
    let mut upstream = accepted.next();
    let (up, down) = (5_000_011, 7_000_003);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send_random(&mut stream, 1, up).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(receive(&stream).length, down);
        });
        scope.spawn(|| {
            assert_eq!(receive(&upstream).length, up);
            send_random(&mut upstream, 2, down).unwrap();
            upstream.shutdown(Shutdown::Write).unwrap();
        });
    });
    let line = text_line(&node, &server.address().to_string());
    assert!(line.contains(&format!(" bytes_up={up} ")), "{line}");
    assert!(line.contains(&format!(" bytes_down={down} ")), "{line}");
    let metrics = node.metrics();
    assert_eq!(
        metrics.sum_where("hnp_bytes_total", &["direction=\"up\""]),
        up as f64
    );
    assert_eq!(
        metrics.sum_where("hnp_bytes_total", &["direction=\"down\""]),
        down as f64
    );
}

#[test]
fn who_ended_it_and_how() {
    let node = Node::start();
    let open = || {
        let (server, accepted) = Server::handing_over();
        let Tunnel { stream, .. } = connect(node.address(), server.address());
        (stream, accepted.next(), server)
    };
    let expect = |server: &Server, parts: &[&str]| {
        let line = text_line(&node, &server.address().to_string());
        for part in parts {
            assert!(line.contains(part), "no {part} in {line}");
        }
    };

    let (client, upstream, server) = open();
    drop(client);
    drop(upstream);
    expect(&server, &["closed_by=client", "close_reason=eof"]);

    let (client, upstream, server) = open();
    drop(upstream);
    assert_eq!(receive(&client).length, 0);
    drop(client);
    expect(&server, &["closed_by=upstream", "close_reason=eof"]);

    let (client, upstream, server) = open();
    client::reset(client);
    expect(&server, &["closed_by=client", "close_reason=reset"]);
    drop(upstream);

    let (client, upstream, server) = open();
    client::reset(upstream);
    expect(&server, &["closed_by=upstream", "close_reason=reset"]);
    drop(client);
}

#[test]
fn a_query_string_is_never_written() {
    for format in ["text", "json"] {
        let node = Node::builder()
            .config(&format!("log.format = \"{format}\"\nlog.level = \"trace\""))
            .start();
        let origin = origin::plain();
        let address = origin.address();
        let secret = "t0ken-that-nobody-sees";
        let requests = [
            format!(
                "GET http://{address}/head?token={secret} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            ),
            // Not found, refused by policy, and malformed in several ways.
            format!(
                "GET http://{address}/missing?token={secret} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            ),
            format!("GET http://10.0.0.1/?token={secret} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n"),
            format!("GET /head?token={secret} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            format!("GET http://{address}/?token={secret} HTTP/9.9\r\nHost: {address}\r\n\r\n"),
            format!("GET http://user:{secret}@{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            format!("CONNECT {address}?token={secret} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            format!(
                "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\nAuthorization: {secret}\r\nX\r\n\r\n"
            ),
        ];
        for request in &requests {
            let response = exchange::request(node.address(), request);
            assert!(response.status >= 200, "{response:?}");
            // Nor does HNP hand it to whoever reads the error page.
            if response.status >= 400 && response.header("proxy-status").is_some() {
                assert!(
                    !format!("{}{}", response.head, response.text()).contains(secret),
                    "{response:?}"
                );
            }
        }
        node.await_metrics("all to be gone", |metrics| {
            match metrics.require("hnp_connections_active") {
                0.0 => Ok(()),
                n => Err(format!("{n}")),
            }
        });
        node.log().await_line(&["10.0.0.1:80"]);
        for line in node.log().lines() {
            assert!(!line.contains(secret), "{line}");
        }
        // The path without it is.
        node.log().await_line(&["/head"]);
    }
}

#[test]
fn each_connection_has_one_line() {
    let node = Node::start();
    let echo = Server::echo();
    for _ in 0..20 {
        drop(connect(node.address(), echo.address()));
    }
    // Who leaves without a word has one as well.
    drop(TcpStream::connect(node.address()).unwrap());
    node.await_metrics("all to be gone", |metrics| {
        let (accepted, active) = (
            metrics.require("hnp_connections_accepted_total"),
            metrics.require("hnp_connections_active"),
        );
        match (accepted, active) {
            (21.0, 0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // A line behind all the others: then they are there.
    drop(connect(
        node.address(),
        format!("localhost:{}", echo.port()),
    ));
    node.log().await_line(&["log=access", "target=localhost"]);
    let lines: Vec<String> = node
        .log()
        .lines()
        .into_iter()
        .filter(|line| line.contains("log=access"))
        .collect();
    assert_eq!(lines.len(), 22, "{lines:#?}");
    let mut numbers: Vec<&str> = lines
        .iter()
        .map(|line| {
            line.split_once(" connection=")
                .unwrap()
                .1
                .split(' ')
                .next()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 22, "numbers of connections are unique");
}

#[test]
fn hostile_text_cannot_forge_a_line() {
    let node = Node::start();
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET http://127.0.0.1:1/\x1b[31m%0alog=access\xff\"status=200 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
        .unwrap();
    let _ = exchange::read_response(&mut stream);
    drop(stream);
    drop(connect(node.address(), Server::echo().address()));
    node.log().await_line(&["log=access", "status=200"]);
    for line in node.log().lines() {
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}
