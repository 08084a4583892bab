//! Clients of HTTP/1.1 before an upstream that is reached by HTTP/2 alone.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::Node;
use super::*;

const SETTING: Setting = Setting {
    protocol: HttpProtocol::H2,
    clients: HttpProtocol::Http1,
    timeouts: "http-idle = \"2s\"\n",
};

/// A client's connection, and what came over it.
struct Http1 {
    stream: TcpStream,
    got: Vec<u8>,
}

impl Http1 {
    async fn new(node: &Node) -> Http1 {
        let stream = TcpStream::connect(node.address).await.unwrap();
        Http1 {
            stream,
            got: Vec::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to `end`, and gives it with what stands before it.
    async fn up_to(&mut self, end: &str) -> String {
        loop {
            let found = self
                .got
                .windows(end.len())
                .position(|w| w == end.as_bytes());
            if let Some(at) = found {
                let rest = self.got.split_off(at + end.len());
                let text = std::mem::replace(&mut self.got, rest);
                return String::from_utf8(text).unwrap();
            }
            let n = self.stream.read_buf(&mut self.got).await.unwrap();
            let got = String::from_utf8_lossy(&self.got);
            assert_ne!(n, 0, "no {end:?} in {got:?}");
        }
    }

    /// All until the connection ends.
    async fn rest(mut self) -> String {
        while self.stream.read_buf(&mut self.got).await.unwrap() > 0 {}
        String::from_utf8(self.got).unwrap()
    }
}

/// What comes of requests on one connection, up to its end.
async fn exchange(node: &Node, requests: &str) -> String {
    let mut client = Http1::new(node).await;
    client.send(requests).await;
    client.rest().await
}

#[test]
fn both_ways_at_once() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |request, mut respond| {
                assert_eq!(request.uri().path(), "/echo");
                let headers = request.headers();
                assert_eq!(headers["te"], "trailers");
                assert_eq!(headers["via"], "1.1 hnp");
                for name in ["connection", "transfer-encoding", "keep-alive", "host"] {
                    assert!(!headers.contains_key(name), "{name}");
                }
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    send.send_data(data, false).unwrap();
                }
                assert_eq!(body.trailers().await.unwrap().unwrap()["x-end"], "up");
                send.send_trailers(trailers("grpc-status", "0")).unwrap();
            })
            .await;
        },
        async |node| {
            let mut client = Http1::new(&node).await;
            client
                .send("POST /echo HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, keep-alive\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            let head = client.up_to("\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(
                head.contains("\r\ntransfer-encoding: chunked\r\n"),
                "{head}"
            );
            assert!(head.contains("\r\nvia: 2 hnp\r\n"), "{head}");
            for message in ["one", "two", "three"] {
                let chunk = format!("{:x}\r\n{message}\r\n", message.len());
                client.send(&chunk).await;
                assert_eq!(
                    client.up_to("\r\n").await + &client.up_to("\r\n").await,
                    chunk
                );
            }
            client.send("0\r\nX-End: up\r\n\r\n").await;
            assert_eq!(
                client.up_to("\r\n\r\n").await,
                "0\r\ngrpc-status: 0\r\n\r\n"
            );
        },
    );
}

/// What each kind of response is framed by, one after the other on one connection; all of them are there before the first is answered.
#[test]
fn responses_are_framed_for_http1() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |request, mut respond| {
                let mut head = Response::new(());
                let mut content = Some("hello");
                match request.uri().path() {
                    "/length" => {
                        let length = HeaderValue::from_static("5");
                        head.headers_mut().insert("content-length", length);
                    }
                    "/head" => {
                        let length = HeaderValue::from_static("7");
                        head.headers_mut().insert("content-length", length);
                        content = None;
                    }
                    "/204" => *head.status_mut() = http::StatusCode::NO_CONTENT,
                    "/304" => *head.status_mut() = http::StatusCode::NOT_MODIFIED,
                    _ => {}
                }
                if matches!(request.uri().path(), "/204" | "/304" | "/empty") {
                    content = None;
                }
                let mut send = respond.send_response(head, content.is_none()).unwrap();
                if let Some(content) = content {
                    send.send_data(content.into(), true).unwrap();
                }
            })
            .await;
        },
        async |node| {
            let requests = "GET /length HTTP/1.1\r\nHost: x\r\n\r\n\
                HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n\
                GET /204 HTTP/1.1\r\nHost: x\r\n\r\n\
                GET /304 HTTP/1.1\r\nHost: x\r\n\r\n\
                POST /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
                GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n\
                GET /last HTTP/1.0\r\nHost: x\r\n\r\n";
            let all = exchange(&node, requests).await;
            let (got, last) = all.rsplit_once("HTTP/1.1 ").unwrap();
            let got = got.replace("via: 2 hnp\r\n", "");
            assert_eq!(
                got,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello\
                 HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n\
                 HTTP/1.1 204 No Content\r\n\r\n\
                 HTTP/1.1 304 Not Modified\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\
                 HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            );
            // HTTP/1.0 knows no chunks: the end of the connection is the end.
            assert_eq!(
                last,
                "200 OK\r\nvia: 2 hnp\r\nconnection: close\r\n\r\nhello"
            );
        },
    );
}

#[test]
fn a_switch_of_protocols_is_refused_and_h2c_is_passed_over() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |request, mut respond| {
                assert_eq!(request.uri().path(), "/h2c");
                assert!(!request.headers().contains_key("upgrade"));
                respond.send_response(Response::new(()), true).unwrap();
            })
            .await;
        },
        async |node| {
            let websocket = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let got = exchange(&node, websocket).await;
            assert!(got.starts_with("HTTP/1.1 501 "), "{got}");
            assert!(got.contains("error=http_upgrade_failed"), "{got}");
            assert!(got.contains("its protocol is `h2`"), "{got}");
            let h2c = "GET /h2c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
            let got = exchange(&node, h2c).await;
            assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        },
    );
}

#[test]
fn a_response_before_the_request_is_whole_ends_the_connection() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |_, mut respond| {
                let mut head = Response::new(());
                *head.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
                respond.send_response(head, true).unwrap();
            })
            .await;
        },
        async |node| {
            // What is left of the content must not be read as a request.
            let half =
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nGET /never HTTP/1.1\r\n";
            let got = exchange(&node, half).await;
            assert!(got.starts_with("HTTP/1.1 413 "), "{got}");
            assert!(got.contains("\r\nconnection: close\r\n"), "{got}");
            assert_eq!(got.matches("HTTP/1.1").count(), 1, "{got}");
        },
    );
}

#[test]
fn interim_responses_pass_but_for_a_switch() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |request, mut respond| {
                let mut head = Response::new(());
                *head.status_mut() = match request.uri().path() {
                    "/switch" => http::StatusCode::SWITCHING_PROTOCOLS,
                    _ => http::StatusCode::EARLY_HINTS,
                };
                head.headers_mut()
                    .insert("link", HeaderValue::from_static("</style.css>"));
                if respond.send_informational(head).is_ok() {
                    // Where the stream is given up by now, nobody misses it.
                    let _ = respond.send_response(Response::new(()), true);
                }
            })
            .await;
        },
        async |node| {
            let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let got = exchange(&node, &ask("/hints")).await;
            assert!(
                got.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n"),
                "{got}"
            );
            assert!(got.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"), "{got}");
            let got = exchange(&node, &ask("/switch")).await;
            assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
        },
    );
}

#[test]
fn what_breaks_is_told_by_a_status_while_it_can_be() {
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |request, mut respond| {
                match request.uri().path() {
                    "/early" => respond.send_reset(Reason::INTERNAL_ERROR),
                    "/late" => {
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        send.send_data("some".into(), false).unwrap();
                        // Only when the beginning is there: a reset overtakes what waits.
                        let mut body = request.into_body();
                        assert_eq!(body.data().await.unwrap().unwrap(), "go");
                        send.send_reset(Reason::INTERNAL_ERROR);
                    }
                    _ => {
                        // The client has broken its chunks: there is no whole request.
                        let _ = whole(&mut request.into_body()).await;
                    }
                }
            })
            .await;
        },
        async |node| {
            let got = exchange(&node, "GET /early HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
            assert!(got.contains("INTERNAL_ERROR"), "{got}");

            let broken = "POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n";
            let got = exchange(&node, broken).await;
            assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
            assert!(got.contains("not followed by CRLF"), "{got}");

            let mut client = Http1::new(&node).await;
            client
                .send("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
                .await;
            client.up_to("4\r\nsome\r\n").await;
            client.send("go").await;
            // It must not take what it has for the whole.
            let end = client.stream.read_buf(&mut client.got).await;
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        },
    );
}

#[test]
fn a_client_that_leaves_ends_its_stream() {
    static GONE: tokio::sync::Notify = tokio::sync::Notify::const_new();
    proxied(
        SETTING,
        async |listener| {
            http2(listener, async |_, mut respond| {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                assert_eq!(reason.unwrap(), Reason::CANCEL);
                GONE.notify_one();
            })
            .await;
        },
        async |node| {
            let mut client = Http1::new(&node).await;
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            client.up_to("\r\n\r\n").await;
            // A reset; its half alone it may close.
            client.stream.set_zero_linger().unwrap();
            drop(client);
            GONE.notified().await;
        },
    );
}

#[test]
fn what_was_not_looked_at_is_sent_again() {
    static SEEN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::SeqCst;
    proxied(
        SETTING,
        async |listener| {
            SEEN.store(0, SeqCst);
            http2(listener, async |request, mut respond| {
                let (content, _) = whole(&mut request.into_body()).await.unwrap();
                assert_eq!(content, b"hello");
                if SEEN.fetch_add(1, SeqCst) == 0 {
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                respond.send_response(Response::new(()), true).unwrap();
            })
            .await;
        },
        async |node| {
            let request =
                "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
            let got = exchange(&node, request).await;
            assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
            assert_eq!(SEEN.load(SeqCst), 2);
        },
    );
}
