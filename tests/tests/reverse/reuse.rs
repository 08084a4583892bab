//! Connections to the upstream that are used again, and requests that are sent again.

use super::*;

#[test]
fn many_clients_share_few_connections() {
    let (server, connections) = counting();
    let node = before(&server, "", "workers = 1\n");
    for seed in 0..40 {
        let mut client = open(&node);
        for (turn, kind) in ["bytes", "chunked"].into_iter().enumerate() {
            let length = 1000 * turn as u64 + seed;
            let response = ask(&mut client, &get(&format!("/{kind}/{seed}/{length}")));
            assert_eq!(receive(response.body.as_slice()), expected(seed, length));
        }
    }
    let used = || connections.load(Ordering::SeqCst);
    assert_eq!(used(), 1, "one request at a time needs one connection");
    // Those that ask at one time have one each, and leave them for those that come after.
    let mut clients: Vec<_> = (0..8).map(|_| open(&node)).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.write_all(get("/events/3").as_bytes()).unwrap();
        }
        for client in &mut clients {
            assert_eq!(read_response(client).unwrap().status, 200);
        }
    }
    assert!(used() <= 8, "{}", used());
}

/// An origin that counts the connections over which a request has come.
fn counting() -> (Server, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = Server::start(move |mut stream| {
        let mut first = true;
        origin::serve_observed(&mut stream, |_| {
            if std::mem::take(&mut first) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    (server, connections)
}

#[test]
fn what_idles_too_long_is_closed() {
    let server = origin::plain();
    let node = before(&server, "", "[timeouts]\nupstream-idle = \"100ms\"\n");
    assert_eq!(ask(&mut open(&node), &get("/head")).status, 200);
    server.await_idle();
}

#[test]
fn a_drain_closes_what_idles() {
    let server = origin::plain();
    let mut node = before(&server, "", "");
    assert_eq!(ask(&mut open(&node), &get("/head")).status, 200);
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code(), 0);
    server.await_idle();
}

#[test]
fn an_upstream_that_hangs_up_in_between_is_not_used_again() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "workers = 1\n");
    let mut client = open(&node);
    for turn in 0..20 {
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{turn:02}");
        client.write_all(post.as_bytes()).unwrap();
        let (mut upstream, _) = accepted.request();
        upstream.read_exact(&mut [0; 2]).unwrap();
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        // It promised to stay. Not before the response is complete does it go.
        let response = read_response(&mut client).unwrap();
        assert_eq!(response.text(), "ok");
        drop(upstream);
        // The FIN of a socket on this machine is in the other's queue when close() returns.
    }
}

/// Serves one request on a connection that is then kept, and takes the next one on it without a word.
fn die_under_the_second(client: &mut TcpStream, accepted: &Accepted, second: &str) -> String {
    client.write_all(get("/first").as_bytes()).unwrap();
    let (mut upstream, _) = accepted.request();
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(read_response(client).unwrap().status, 200);
    client.write_all(second.as_bytes()).unwrap();
    let head = read_head(&mut upstream).unwrap().unwrap();
    let mut content = vec![0; header(&head, "content-length").map_or(0, |n| n.parse().unwrap())];
    upstream.read_exact(&mut content).unwrap();
    head
}

#[test]
fn what_can_be_done_twice_is_sent_again() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "workers = 1\n");
    for second in [
        get("/second"),
        "PUT /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "DELETE /second HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        let mut client = open(&node);
        let first = die_under_the_second(&mut client, &accepted, &second);
        let (mut upstream, again) = accepted.request();
        assert_eq!(again, first);
        if first.starts_with("PUT") {
            let mut content = [0; 5];
            upstream.read_exact(&mut content).unwrap();
            assert_eq!(&content, b"hello");
        }
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n2")
            .unwrap();
        assert_eq!(read_response(&mut client).unwrap().text(), "2");
    }
}

#[test]
fn what_does_something_is_sent_once() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "workers = 1\n");
    for second in [
        "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "PATCH /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let mut client = open(&node);
        die_under_the_second(&mut client, &accepted, second);
        let response = read_response(&mut client).unwrap();
        response.expect_refusal(502, "connection_terminated", &["upstream"]);
        assert_eq!(accepted.waiting(), 0, "{second}");
    }
}

#[test]
fn a_request_that_was_answered_in_part_is_not_sent_again() {
    let (server, accepted) = Server::handing_over();
    let node = before(&server, "", "workers = 1\n");
    for part in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTT",
    ] {
        let mut client = open(&node);
        client.write_all(get("/first").as_bytes()).unwrap();
        let (mut upstream, _) = accepted.request();
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        assert_eq!(read_response(&mut client).unwrap().status, 200);
        client.write_all(get("/second").as_bytes()).unwrap();
        read_head(&mut upstream).unwrap().unwrap();
        upstream.write_all(part.as_bytes()).unwrap();
        drop(upstream);
        let mut response = read_response(&mut client).unwrap();
        while response.status < 200 {
            response = read_response(&mut client).unwrap();
        }
        assert_eq!(response.status, 502, "{part:?}");
        assert_eq!(accepted.waiting(), 0, "{part:?}");
    }
}
