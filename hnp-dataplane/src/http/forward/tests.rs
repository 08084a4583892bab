//! Forwarding on both backends, between plain blocking sockets: a client's script and an origin's, each on a thread of its own.

mod faults;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use std::cell::{Cell, RefCell};

use super::*;
use crate::http::head::RequestTarget;
use crate::http::proxy_status::{ErrorType, Side};
use crate::target::Target;
use crate::uring::{self, Mechanism, Socket, why_unavailable};

/// Admits everything but `denied.test`; every name leads to the one origin.
struct Open {
    origin: SocketAddr,
    connected: Cell<usize>,
    /// The request at hand.
    asked: RefCell<String>,
    log: RefCell<Vec<String>>,
    kept: RefCell<Option<(Target, Upstream)>>,
}

impl Open {
    fn new(origin: SocketAddr) -> Self {
        Open {
            origin,
            connected: Cell::new(0),
            asked: RefCell::default(),
            log: RefCell::default(),
            kept: RefCell::default(),
        }
    }
}

impl Gate for Open {
    type Hop = Target;

    fn carries(&self, head: &RequestHead<'_>) -> bool {
        matches!(head.target, RequestTarget::Absolute { .. })
    }

    async fn admit(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) -> Result<Target, Answer> {
        let target = head.proxy_target()?;
        *self.asked.borrow_mut() = format!("{} {target}{}", head.method, head.target.path());
        match target.to_string().as_str() {
            "denied.test:80" => Err(Answer::new(
                403,
                ErrorType::HttpRequestDenied,
                Side::Configuration,
                "no rule allows it",
            )),
            _ => {
                assert!(rewrite::request_head(head, out));
                Ok(target.clone())
            }
        }
    }

    fn kept(&self, hop: &Target) -> Option<Upstream> {
        let (target, upstream) = self.kept.take()?;
        (target == *hop).then_some(upstream)
    }

    async fn connect(&self, _: &Target) -> Result<Stream, Answer> {
        self.connected.set(self.connected.get() + 1);
        Socket::connect(self.origin)
            .await
            .map(Stream::from)
            .map_err(|e| {
                Answer::new(
                    502,
                    ErrorType::ConnectionRefused,
                    Side::Upstream,
                    e.to_string(),
                )
            })
    }

    fn keep(&self, hop: &Target, upstream: Upstream) {
        *self.kept.borrow_mut() = Some((hop.clone(), upstream));
    }

    fn about(&self, hop: &Target, answer: Answer) -> Answer {
        answer.about(hop)
    }

    fn finished(&self, exchange: &Exchange) {
        let end = match &exchange.end {
            ExchangeEnd::Complete => "complete",
            ExchangeEnd::Upgraded => "upgraded",
            ExchangeEnd::Answered(_) => "answered",
            ExchangeEnd::Cut(_) => "cut",
            ExchangeEnd::ClientGone => "client gone",
        };
        let asked = self.asked.take();
        self.log
            .borrow_mut()
            .push(format!("{asked} {} {end}", exchange.status));
    }
}

struct Outcome<T> {
    client: T,
    log: Vec<String>,
    connected: usize,
    end: End,
    up: u64,
    down: u64,
}

fn options() -> Options {
    Options {
        limits: HeadLimits::default(),
        head_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
    }
}

/// Runs the scripts on both backends; `check` sees the outcome of each.
fn forwarded<T: Send + 'static>(
    options: Options,
    client: impl Fn(TcpStream) -> T + Send + Copy + 'static,
    origin: impl Fn(TcpListener) + Send + Copy + 'static,
    check: impl Fn(Outcome<T>),
) {
    assert_eq!(why_unavailable(), None, "this test needs io_uring");
    for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
        println!("on {}", mechanism.name());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Open::new(listener.local_addr().unwrap());
        let entry = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = entry.local_addr().unwrap();
        let origin = thread::spawn(move || origin(listener));
        let client = thread::spawn(move || client(TcpStream::connect(address).unwrap()));
        let (accepted, _) = entry.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let traffic = Rc::new(Traffic::default());
        let served = uring::run(mechanism, async {
            let socket = Stream::from(Socket::from_fd(accepted.into()).unwrap());
            let end = serve(socket, Vec::new(), options, Rc::clone(&traffic), &gate).await;
            // A connection that is kept for the next request ends with the client's.
            drop(gate.kept.take());
            // Sockets belong to the runtime: what a test looks at afterwards are the bytes.
            if let End::Upgraded(both) = &end {
                both.client.write_all(&both.to_client).await.unwrap();
                both.upstream.write_all(&both.to_upstream).await.unwrap();
                both.client.shutdown_write().unwrap();
                both.upstream.shutdown_write().unwrap();
            }
            end
        });
        let end = served.unwrap();
        let (up, down) = (traffic.up.get(), traffic.down.get());
        let (log, connected) = (gate.log.take(), gate.connected.get());
        let client = client.join().unwrap();
        origin.join().unwrap();
        check(Outcome {
            client,
            log,
            connected,
            end,
            up,
            down,
        });
    }
}

/// Reads up to the end of a head.
fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn read_some(stream: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Answers every request of one connection with its own first line.
fn echo_lines(listener: TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    while let Ok(head) = read_head(&mut stream) {
        let line = head.lines().next().unwrap();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
            line.len()
        )
        .unwrap();
    }
}

#[test]
fn pipelined_requests_come_one_after_the_other_over_one_connection() {
    forwarded(
        options(),
        |mut stream| {
            let get = |path: &str, more: &str| {
                format!("GET http://origin.test{path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
            };
            let all = get("/1", "") + &get("/2?q", "") + &get("/3", "Connection: close\r\n");
            stream.write_all(all.as_bytes()).unwrap();
            read_all(&mut stream)
        },
        echo_lines,
        |outcome| {
            let heads: Vec<_> = outcome.client.matches("HTTP/1.1 200 OK").collect();
            assert_eq!(heads.len(), 3, "{}", outcome.client);
            let at = |text: &str| outcome.client.find(text).unwrap();
            assert!(
                at("GET /1 HTTP") < at("GET /2?q HTTP") && at("GET /2?q HTTP") < at("GET /3 HTTP")
            );
            assert_eq!(outcome.client.matches("Connection: close").count(), 1);
            assert_eq!(outcome.connected, 1);
            let log = [
                "GET origin.test:80/1 200 complete",
                "GET origin.test:80/2 200 complete",
                "GET origin.test:80/3 200 complete",
            ];
            assert_eq!(outcome.log, log);
            assert_eq!(outcome.down, outcome.client.len() as u64);
            assert!(outcome.up > 100);
        },
    );
}

#[test]
fn another_target_gets_another_connection() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .unwrap();
            stream
                .write_all(
                    b"GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n",
                )
                .unwrap();
            read_all(&mut stream)
        },
        |listener| {
            for host in ["Host: a.test\r\n", "Host: b.test\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(read_head(&mut stream).unwrap().contains(host));
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .unwrap();
                assert!(read_head(&mut stream).is_err());
            }
        },
        |outcome| {
            assert_eq!(
                (outcome.connected, outcome.client.matches("204").count()),
                (2, 2)
            )
        },
    );
}

#[test]
fn content_flows_both_ways_at_once() {
    const SIZE: usize = 8 << 20;
    forwarded(
        options(),
        |mut stream| {
            let mut writer = stream.try_clone().unwrap();
            let up = thread::spawn(move || {
                write!(
                    writer,
                    "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"
                )
                .unwrap();
                let bytes: Vec<u8> = (0..SIZE).map(|n| (n * 7 + n / 251) as u8).collect();
                writer.write_all(&bytes).unwrap();
                bytes
            });
            let head = read_head(&mut stream).unwrap();
            assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
            let mut back = Vec::new();
            loop {
                let line = read_line(&mut stream);
                let size = usize::from_str_radix(&line, 16).unwrap();
                back.extend(read_some(&mut stream, size));
                assert_eq!(read_line(&mut stream), "");
                if size == 0 {
                    break;
                }
            }
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(up.join().unwrap() == back, "what came back differs");
        },
        // Sends each piece back before it reads the next, so nothing moves unless both ways do.
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            let mut left = SIZE;
            let mut buffer = vec![0; 100_000];
            while left > 0 {
                let n = stream.read(&mut buffer).unwrap();
                write!(stream, "{n:x}\r\n").unwrap();
                stream.write_all(&buffer[..n]).unwrap();
                stream.write_all(b"\r\n").unwrap();
                left -= n;
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
            assert!(read_head(&mut stream).is_err());
        },
        |outcome| assert_eq!(outcome.log, ["POST a.test:80/ 200 complete"]),
    );
}

fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(read_some(stream, 1));
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

#[test]
fn chunks_are_taken_apart_for_http10() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                .unwrap();
            read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            let response = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nT: 1\r\n\r\n";
            for byte in response.as_bytes() {
                stream.write_all(&[*byte]).unwrap();
            }
        },
        |outcome| {
            let (head, body) = outcome.client.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, "hello, world");
            assert!(
                head.starts_with("HTTP/1.1 200 OK") && head.contains("Connection: close"),
                "{head}"
            );
            assert!(
                !head.contains("chunked") && !outcome.client.contains("103"),
                "{head}"
            );
        },
    );
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_origin() {
    forwarded(
        options(),
        |mut stream| {
            let head = b"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
            stream.write_all(head).unwrap();
            assert!(
                read_head(&mut stream)
                    .unwrap()
                    .starts_with("HTTP/1.1 100 Continue\r\n")
            );
            stream.write_all(b"2\r\nok\r\n0\r\n\r\n").unwrap();
            read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(
                read_head(&mut stream)
                    .unwrap()
                    .contains("Expect: 100-continue")
            );
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            assert_eq!(read_some(&mut stream, 12), b"2\r\nok\r\n0\r\n\r\n");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        },
        |outcome| assert!(outcome.client.ends_with("\r\n\r\nok"), "{}", outcome.client),
    );
}

#[test]
fn a_switch_of_protocols_hands_over_every_byte() {
    forwarded(
        options(),
        |mut stream| {
            let head = b"GET ws://a.test/chat?token HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly client";
            stream.write_all(head).unwrap();
            read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            let head = read_head(&mut stream).unwrap();
            assert!(
                head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n"),
                "{head}"
            );
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly origin";
            stream.write_all(head.as_bytes()).unwrap();
            assert_eq!(read_all(&mut stream), "early client");
        },
        |outcome| {
            let (head, rest) = outcome.client.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
                "{head}"
            );
            assert_eq!(rest, "early origin");
            assert!(matches!(outcome.end, End::Upgraded(_)));
            assert_eq!(outcome.log, ["GET a.test:80/chat 101 upgraded"]);
        },
    );
}

#[test]
fn a_switch_nobody_asked_for_is_refused() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
                .unwrap();
        },
        |outcome| {
            assert!(
                outcome.client.contains("502 Bad Gateway")
                    && outcome.client.contains("http_upgrade_failed")
            )
        },
    );
}

/// Answers one request, then takes the next without a word and closes.
fn die_under_the_second(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    read_head(&mut stream).unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
        .unwrap();
    read_head(&mut stream).unwrap();
}

#[test]
fn a_request_is_repeated_where_a_kept_connection_died_under_it() {
    forwarded(
        options(),
        |mut stream| {
            for more in ["", "Connection: close\r\n"] {
                write!(
                    stream,
                    "GET http://a.test/ HTTP/1.1\r\nHost: a\r\n{more}\r\n"
                )
                .unwrap();
            }
            read_all(&mut stream)
        },
        |listener| {
            die_under_the_second(&listener);
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
                .unwrap();
        },
        |outcome| {
            assert!(outcome.client.ends_with('2'), "{}", outcome.client);
            assert_eq!(outcome.connected, 2);
            assert_eq!(outcome.log.len(), 2, "{:?}", outcome.log);
        },
    );
}

#[test]
fn a_request_that_does_something_is_not_repeated() {
    forwarded(
        options(),
        |mut stream| {
            for _ in 0..2 {
                write!(
                    stream,
                    "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                )
                .unwrap();
            }
            read_all(&mut stream)
        },
        |listener| die_under_the_second(&listener),
        |outcome| {
            assert!(
                outcome.client.contains("502 Bad Gateway"),
                "{}",
                outcome.client
            );
            assert_eq!(outcome.connected, 1);
            assert_eq!(outcome.log[1], "POST a.test:80/ 502 answered");
        },
    );
}

#[test]
fn an_early_response_ends_the_connection_and_content_is_never_read_as_a_request() {
    forwarded(
        options(),
        |mut stream| {
            stream
                .write_all(
                    b"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
                )
                .unwrap();
            let head = read_head(&mut stream).unwrap();
            // Content, which happens to look like a request.
            let _ = stream.write_all(b"GET http://a.test/smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
            head + &read_all(&mut stream)
        },
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream).unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
                )
                .unwrap();
            drop(stream);
            listener.set_nonblocking(true).unwrap();
        },
        |outcome| {
            assert!(outcome.client.ends_with("\r\n\r\nno"), "{}", outcome.client);
            assert_eq!(outcome.connected, 1);
            assert_eq!(outcome.log, ["POST a.test:80/ 413 complete"]);
        },
    );
}

#[test]
fn the_future_of_a_connection_is_small() {
    let gate = Open::new(SocketAddr::from(([127, 0, 0, 1], 1)));
    let size = uring::run(Mechanism::Epoll, async {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Stream::from(Socket::from_fd(ours.into()).unwrap());
        let serving = serve(socket, Vec::new(), options(), Rc::default(), &gate);
        size_of_val(&serving)
    })
    .unwrap();
    assert!(size <= 8192, "{size} bytes");
}
