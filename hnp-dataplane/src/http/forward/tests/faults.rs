//! What either side gets wrong, leaves unsaid, or ends in the midst.

use super::*;

#[test]
fn a_response_cut_short_does_not_look_complete() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let response: &'static str = response;
        forwarded(
            options(),
            |mut stream| {
                stream
                    .write_all(b"GET http://a.test/ HTTP/1.0\r\n\r\n")
                    .unwrap();
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).map_err(|e| e.kind())
            },
            move |listener| {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream).unwrap();
                stream.write_all(response.as_bytes()).unwrap();
            },
            |outcome| {
                assert_eq!(outcome.client, Err(io::ErrorKind::ConnectionReset));
                assert_eq!(outcome.log, ["GET a.test:80/ 200 cut"]);
            },
        );
    }
}

#[test]
fn what_the_upstream_gets_wrong_is_a_502() {
    for (response, error) in [
        ("", "connection_terminated"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "http_response_incomplete"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "http_protocol_error",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "http_response_transfer_coding",
        ),
    ] {
        let response: &'static str = response;
        forwarded(
            options(),
            |mut stream| {
                stream
                    .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                    .unwrap();
                read_all(&mut stream)
            },
            move |listener| {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream).unwrap();
                stream.write_all(response.as_bytes()).unwrap();
            },
            |outcome| {
                assert!(
                    outcome.client.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
                    "{}",
                    outcome.client
                );
                assert!(
                    outcome.client.contains(&format!("error={error};")),
                    "{}",
                    outcome.client
                );
                assert!(
                    outcome.client.contains("at fault: upstream): a.test:80: "),
                    "{}",
                    outcome.client
                );
            },
        );
    }
}

#[test]
fn what_the_client_gets_wrong_is_its_fault() {
    for (request, status) in [
        ("GET http://a.test/ HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (
            "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
            "400 Bad Request",
        ),
        (
            "GET http://denied.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "403 Forbidden",
        ),
        (
            "TRACE http://a.test/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "405 Method Not Allowed",
        ),
    ] {
        let request: &'static str = request;
        forwarded(
            options(),
            move |mut stream| {
                stream.write_all(request.as_bytes()).unwrap();
                read_all(&mut stream)
            },
            move |listener| {
                // Only content that turns out broken gets as far as a connection.
                if request.starts_with("POST") {
                    let (mut stream, _) = listener.accept().unwrap();
                    assert!(
                        read_head(&mut stream).is_err(),
                        "a part of a broken request"
                    );
                }
            },
            |outcome| {
                assert!(
                    outcome
                        .client
                        .starts_with(&format!("HTTP/1.1 {status}\r\n")),
                    "{}",
                    outcome.client
                );
                assert!(
                    outcome.client.contains("\r\nProxy-Status: hnp; error="),
                    "{}",
                    outcome.client
                );
                assert_eq!(outcome.log.len(), 1, "{:?}", outcome.log);
            },
        );
    }
}

#[test]
fn silence_is_a_504_and_a_slow_head_a_408() {
    let short = Options {
        head_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..options()
    };
    forwarded(
        short,
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            assert!(read_head(&mut stream).is_err());
        },
        |outcome| {
            assert!(
                outcome.client.starts_with("HTTP/1.1 504 ")
                    && outcome.client.contains("http_response_timeout")
            )
        },
    );
    forwarded(
        short,
        |mut stream| {
            stream.write_all(b"GET http://a.test/ HT").unwrap();
            read_all(&mut stream)
        },
        drop,
        |outcome| {
            assert!(
                outcome.client.starts_with("HTTP/1.1 408 "),
                "{}",
                outcome.client
            )
        },
    );
    // Between requests there is nobody to answer.
    forwarded(
        short,
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            read_all(&mut stream)
        },
        echo_lines,
        |outcome| {
            assert!(
                outcome.client.ends_with("GET / HTTP/1.1"),
                "{}",
                outcome.client
            )
        },
    );
}

#[test]
fn a_connect_after_other_requests_goes_back_to_the_flow() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"HEAD http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            let head = read_head(&mut stream).unwrap();
            stream
                .write_all(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\nhello")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            head
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                .unwrap();
            assert!(read_head(&mut stream).is_err());
        },
        |outcome| {
            assert!(outcome.client.contains("Content-Length: 1000\r\n"));
            let End::Other { received, .. } = outcome.end else {
                panic!("{:?}", outcome.end)
            };
            assert!(received.starts_with(b"CONNECT a.test:443 HTTP/1.1\r\n"));
        },
    );
}

#[test]
fn a_client_that_goes_away_takes_its_request_along() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            // The head of a response says that the request is under way.
            read_head(&mut stream).unwrap();
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            // Nothing is written to the client any more, so only its reset can end this.
            assert!(read_head(&mut stream).is_err());
        },
        |outcome| assert_eq!(outcome.log, ["GET a.test:80/ 0 client gone"]),
    );
}

#[test]
fn a_client_that_closed_its_half_still_gets_its_response() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&mut stream)
        },
        echo_lines,
        |outcome| {
            assert!(
                outcome.client.ends_with("GET / HTTP/1.1"),
                "{}",
                outcome.client
            )
        },
    );
}

#[test]
fn an_upstream_that_hangs_up_on_a_request_does_not_make_its_content_the_next_one() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(
                    b"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
                )
                .unwrap();
            // The response promises to keep the connection; the content is requests from one end to the other.
            let head = read_head(&mut stream).unwrap();
            let line = b"GET http://a.test/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            for _ in 0..1_000_000 / line.len() {
                if stream.write_all(line).is_err() {
                    break;
                }
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            head
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        },
        |outcome| {
            assert!(
                !outcome.client.contains("Connection: close"),
                "{}",
                outcome.client
            );
            assert_eq!(
                (outcome.connected, outcome.log.len()),
                (1, 1),
                "{:?}",
                outcome.log
            );
        },
    );
}
