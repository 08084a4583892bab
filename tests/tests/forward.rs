//! Requests in absolute form, as `http_proxy` users send them: one message at a time, nothing lost, nothing smuggled.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use hnp_tests::exchange::{self, Response, read_head, read_response, read_response_head};
use hnp_tests::server::{Accepted, expected, hex, receive};
use hnp_tests::{DEADLINE, Node, Server, client, origin};
use sha2::{Digest, Sha256};

/// A client's connection to the node.
fn open(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn get(origin: &Server, path: &str) -> String {
    let address = origin.address();
    format!("GET http://{address}{path} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

/// Sends a request and takes it at the origin: the client's end, the origin's end, and the head that came there.
fn handed(
    node: &Node,
    server: &Server,
    accepted: &Accepted,
    request: &str,
) -> (TcpStream, TcpStream, String) {
    let mut stream = open(node);
    let request = request.replace("ORIGIN", &server.address().to_string());
    stream.write_all(request.as_bytes()).unwrap();
    let mut origin = accepted.next();
    let head = read_head(&mut origin).unwrap().unwrap();
    (stream, origin, head)
}

#[test]
fn the_origin_sees_a_request_of_its_own() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let (_, _, head) = handed(
        &node,
        &server,
        &accepted,
        "GET http://ORIGIN/a/b?c=d HTTP/1.1\r\nHost: other.example\r\nUser-Agent: x\r\nConnection: X-Hop, keep-alive\r\n\
         X-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\n\
         Upgrade-Insecure-Requests: 1\r\nX-Kept: 2\r\n\r\n",
    );
    assert!(head.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{head}");
    // RFC 9112 section 3.2.2: the target decides, whatever Host says.
    assert_eq!(
        exchange::header(&head, "host"),
        Some(server.address().to_string().as_str())
    );
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
    ] {
        assert_eq!(exchange::header(&head, gone), None, "{head}");
    }
    assert_eq!(exchange::header(&head, "x-kept"), Some("2"));
    assert_eq!(exchange::header(&head, "user-agent"), Some("x"));
    assert!(exchange::header(&head, "via").is_some(), "{head}");
}

#[test]
fn the_client_sees_a_response_of_its_own() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let (mut stream, mut origin, _) = handed(
        &node,
        &server,
        &accepted,
        "GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n",
    );
    origin
        .write_all(
            b"HTTP/1.1 200 Fine\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
              Content-Length: 2\r\n\r\nok",
        )
        .unwrap();
    let response = read_response(&mut stream).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.header("x-hop"), None, "{response:?}");
    assert_eq!(
        response.head.matches("Set-Cookie: ").count(),
        2,
        "{response:?}"
    );
}

#[test]
fn one_connection_serves_many_requests() {
    let node = Node::start();
    let origin = origin::plain();
    let other = origin::plain();
    let mut stream = open(&node);
    for turn in 0..30 {
        // The origin changes on the way, which a client connection must survive.
        let to = if turn % 3 == 0 { &other } else { &origin };
        let (path, length) = match turn % 4 {
            0 => ("bytes", 70_001),
            1 => ("chunked", 40_001),
            2 => ("bytes", 0),
            _ => ("chunked", 1),
        };
        let path = format!("/{path}/{turn}/{length}");
        stream.write_all(get(to, &path).as_bytes()).unwrap();
        let response = read_response(&mut stream).unwrap();
        assert_eq!(response.status, 200, "{turn}: {response:?}");
        assert_eq!(
            receive(response.body.as_slice()),
            expected(turn, length),
            "{turn}"
        );
    }
    assert_eq!(
        node.metrics().require("hnp_connections_accepted_total"),
        1.0
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start();
    let origin = origin::plain();
    let mut stream = open(&node);
    let all: String = (0..10)
        .map(|n| get(&origin, &format!("/bytes/{n}/{}", n * 1000)))
        .collect();
    stream.write_all(all.as_bytes()).unwrap();
    for n in 0..10 {
        let response = read_response(&mut stream).unwrap();
        assert_eq!(
            receive(response.body.as_slice()),
            expected(n, n * 1000),
            "{n}"
        );
    }
}

#[test]
fn a_request_body_and_the_next_request_do_not_run_together() {
    let node = Node::start();
    let origin = origin::plain();
    let address = origin.address();
    let mut stream = open(&node);
    let body = b"GET http://10.0.0.1/ HTTP/1.1\r\n\r\n";
    let digest = hex(&Sha256::digest(body));
    for turn in 0..4 {
        let mut message =
            format!("POST http://{address}/digest HTTP/1.1\r\nHost: {address}\r\n").into_bytes();
        if turn % 2 == 0 {
            message.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            message.extend_from_slice(body);
        } else {
            message.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(7) {
                message.extend_from_slice(format!("{:x};ext=1\r\n", part.len()).as_bytes());
                message.extend_from_slice(part);
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
        }
        // And the next one right behind.
        message.extend_from_slice(get(&origin, "/bytes/5/5").as_bytes());
        stream.write_all(&message).unwrap();
        assert_eq!(read_response(&mut stream).unwrap().text(), digest, "{turn}");
        assert_eq!(
            receive(read_response(&mut stream).unwrap().body.as_slice()),
            expected(5, 5)
        );
    }
}

#[test]
fn events_come_one_by_one_and_are_not_held_back() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let (mut stream, mut origin, _) = handed(
        &node,
        &server,
        &accepted,
        "GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n",
    );
    origin
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    assert_eq!(read_response_head(&mut stream).unwrap().status, 200);
    for turn in 0..50 {
        // The next is sent only when this one has come.
        let event = format!("data: {turn:04}\n\n");
        write!(origin, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while !got.ends_with(format!("{event}\r\n").as_bytes()) {
            stream.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
        }
    }
    origin.write_all(b"0\r\n\r\n").unwrap();
    let mut last = [0; 5];
    stream.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"0\r\n\r\n");
}

#[test]
fn a_websocket_upgrade_becomes_a_tunnel() {
    let node = Node::start();
    let origin = origin::plain();
    let address = origin.address();
    let mut stream = open(&node);
    write!(
        stream,
        "GET http://{address}/websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    .unwrap();
    let response = read_response_head(&mut stream).unwrap();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("upgrade"), Some("websocket"));
    for turn in 0..20_u8 {
        let message = vec![turn; 3000];
        stream.write_all(&message).unwrap();
        let mut back = vec![0; 3000];
        stream.read_exact(&mut back).unwrap();
        assert!(back == message, "{turn}");
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn expect_100_continue_waits_for_the_origin() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let (mut stream, mut origin, head) = handed(
        &node,
        &server,
        &accepted,
        "POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert_eq!(exchange::header(&head, "expect"), Some("100-continue"));
    origin.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert_eq!(read_response_head(&mut stream).unwrap().status, 100);
    stream.write_all(b"body").unwrap();
    let mut body = [0; 4];
    origin.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"body");
    origin
        .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 201);
}

#[test]
fn responses_without_a_body() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    for (method, answer, status) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            200,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            304,
        ),
    ] {
        let request = format!("{method} http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n");
        let (mut stream, mut origin, _) = handed(&node, &server, &accepted, &request);
        origin.write_all(answer.as_bytes()).unwrap();
        assert_eq!(read_response_head(&mut stream).unwrap().status, status);
        // What comes next on the connection is the next response, not a body.
        stream
            .write_all(
                request
                    .replace("ORIGIN", &server.address().to_string())
                    .as_bytes(),
            )
            .unwrap();
        let mut origin = match read_head(&mut origin) {
            Ok(Some(_)) => origin,
            // The connection to the origin need not be kept.
            _ => {
                let mut fresh = accepted.next();
                read_head(&mut fresh).unwrap().unwrap();
                fresh
            }
        };
        origin
            .write_all(b"HTTP/1.1 200 Second\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let second = read_response_head(&mut stream).unwrap();
        assert!(
            second.head.starts_with("HTTP/1.1 200 Second"),
            "{method} {status}: {second:?}"
        );
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_is_told_apart_from_one_cut_short() {
    let node = Node::start();
    let origin = origin::plain();
    let mut stream = open(&node);
    stream
        .write_all(get(&origin, "/until-close/9/500009").as_bytes())
        .unwrap();
    let response = read_response(&mut stream).unwrap();
    assert_eq!(receive(response.body.as_slice()), expected(9, 500_009));

    // By length, and by chunks: ends that come too early reach the client as such.
    let (server, accepted) = Server::handing_over();
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (mut stream, mut origin, _) = handed(
            &node,
            &server,
            &accepted,
            "GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n",
        );
        origin.write_all(start.as_bytes()).unwrap();
        drop(origin);
        assert!(read_response(&mut stream).is_err(), "{start}");
    }
}

#[test]
fn an_http_1_0_client_gets_what_it_understands() {
    let node = Node::start();
    let origin = origin::plain();
    let address = origin.address();
    for (path, length) in [("/bytes/4/5000", 5000), ("/chunked/4/5000", 5000)] {
        let mut stream = open(&node);
        write!(stream, "GET http://{address}{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let end = all
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap()
            + 4;
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        assert!(
            head.starts_with("HTTP/1.") && head.contains(" 200 "),
            "{head}"
        );
        assert_eq!(exchange::header(&head, "transfer-encoding"), None, "{head}");
        assert_eq!(receive(&all[end..]), expected(4, length), "{path}");
    }
}

#[test]
fn what_an_origin_gets_wrong_is_502() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    for (answer, error) in [
        ("", "connection_terminated"),
        ("HTTP/1.1 200", "http_response_incomplete"),
        ("220 mail.example ESMTP\r\n\r\n", "http_protocol_error"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "http_protocol_error",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "http_protocol_error",
        ),
    ] {
        let (mut stream, mut origin, _) = handed(
            &node,
            &server,
            &accepted,
            "GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n",
        );
        origin.write_all(answer.as_bytes()).unwrap();
        drop(origin);
        let response: Response = read_response(&mut stream).unwrap();
        response.expect_refusal(502, error, &[&server.address().to_string()]);
    }
}

#[test]
fn a_client_that_goes_away_takes_the_request_along() {
    let node = Node::start();
    let (server, accepted) = Server::handing_over();
    let (stream, mut origin, _) = handed(
        &node,
        &server,
        &accepted,
        "GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n",
    );
    client::reset(stream);
    let mut rest = [0];
    let end = origin.read(&mut rest);
    assert!(
        matches!(end, Ok(0))
            || end
                .as_ref()
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
}

#[test]
fn connect_may_follow_on_a_connection_that_was_used() {
    let node = Node::start();
    let origin = origin::plain();
    let echo = Server::echo();
    let mut stream = open(&node);
    stream
        .write_all(get(&origin, "/bytes/1/100").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    client::send_connect(&mut stream, echo.address(), "", b"").unwrap();
    let response = read_response_head(&mut stream).unwrap();
    assert_eq!(response.status, 200);
    stream.write_all(b"through").unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"through");
}

#[test]
fn policy_is_asked_for_each_request_of_a_connection() {
    let node = Node::start();
    let origin = origin::plain();
    let mut stream = open(&node);
    stream
        .write_all(get(&origin, "/bytes/1/1").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    stream.write_all(b"GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").unwrap();
    read_response(&mut stream).unwrap().expect_refusal(
        403,
        "destination_ip_prohibited",
        &["169.254.169.254"],
    );
}
