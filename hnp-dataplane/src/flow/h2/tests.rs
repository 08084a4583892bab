//! A worker between clients and upstreams that are the library's own, and upstreams of HTTP/1.1 written by hand.

mod harness;
mod http1;
mod plain;
mod silence;

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderValue, Response};
use tokio::net::TcpStream;

use crate::config::model::HttpProtocol;
use harness::{Setting, Told, get, http2, post, proxied, trailers, whole};

/// Each message is answered before the next is sent, and the head comes before any: what bidirectional gRPC streams do.
#[test]
fn both_ways_at_once() {
    proxied(
        HttpProtocol::H2,
        async |listener| {
            http2(listener, async |request, mut respond| {
                assert_eq!(request.uri().path(), "/echo");
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.headers()["via"], "2 hnp");
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
            let mut send = node.client().await.ready().await.unwrap();
            let mut request = post("/echo");
            request
                .headers_mut()
                .insert("te", HeaderValue::from_static("trailers"));
            let (response, mut stream) = send.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers()["via"], "2 hnp");
            let mut body = response.into_body();
            for message in ["one", "two", "three"] {
                stream.send_data(message.into(), false).unwrap();
                assert_eq!(body.data().await.unwrap().unwrap(), message);
            }
            stream.send_trailers(trailers("x-end", "up")).unwrap();
            assert!(body.data().await.is_none());
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        },
    );
}

/// What a client does not read is not taken from the upstream, and everything arrives in the end.
#[test]
fn a_slow_client_slows_the_upstream() {
    const PIECE: usize = 16 << 10;
    const PIECES: usize = 1024;
    static SENT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    use std::sync::atomic::Ordering::SeqCst;
    proxied(
        HttpProtocol::H2,
        async |listener| {
            http2(listener, async |_, mut respond| {
                SENT.store(0, SeqCst);
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                for piece in 0..PIECES {
                    let mut data = Bytes::from(vec![piece as u8; PIECE]);
                    while !data.is_empty() {
                        send.reserve_capacity(data.len());
                        let room = match send.capacity() {
                            0 => std::future::poll_fn(|cx| send.poll_capacity(cx))
                                .await
                                .unwrap()
                                .unwrap(),
                            room => room,
                        };
                        let now = data.split_to(room.min(data.len()));
                        SENT.fetch_add(now.len(), SeqCst);
                        send.send_data(now, false).unwrap();
                    }
                }
                send.send_data(Bytes::new(), true).unwrap();
            })
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let (response, _) = send.send_request(get("/"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            // Nothing is read: what the upstream got rid of settles.
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let now = SENT.load(SeqCst);
                if now == before && now > 0 {
                    break;
                }
                before = now;
            }
            // The client's window, HNP's towards the upstream, and what either side buffers.
            assert!(before < 2 << 20, "{before} bytes were taken");
            let (bytes, _) = whole(&mut body).await.unwrap();
            assert_eq!(bytes.len(), PIECE * PIECES);
            let pieces = bytes.chunks(PIECE).enumerate();
            assert!(
                { pieces }.all(|(n, piece)| piece.iter().all(|&b| b == n as u8)),
                "the bytes are the upstream's"
            );
        },
    );
}

#[test]
fn resets_keep_their_codes() {
    static SEEN: std::sync::Mutex<Vec<Reason>> = std::sync::Mutex::new(Vec::new());
    proxied(
        HttpProtocol::H2,
        async |listener| {
            SEEN.lock().unwrap().clear();
            http2(listener, async |request, mut respond| {
                match request.uri().path() {
                    "/early" => respond.send_reset(Reason::ENHANCE_YOUR_CALM),
                    "/late" => {
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        send.send_data("some".into(), false).unwrap();
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        send.send_reset(Reason::HTTP_1_1_REQUIRED);
                    }
                    _ => {
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                        SEEN.lock().unwrap().push(reason.unwrap());
                    }
                }
            })
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let mut request = get("/early");
            request
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/grpc"));
            let (response, _) = send.send_request(request, true).unwrap();
            let error = response.await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
            // Who does not speak gRPC is told why.
            let (response, _) = send.send_request(get("/early"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 502);
            let (text, _) = whole(&mut response.into_body()).await.unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("ENHANCE_YOUR_CALM"), "{text}");

            let (response, _) = send.send_request(get("/late"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let error = whole(&mut body).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::HTTP_1_1_REQUIRED));

            let (response, mut stream) = send.send_request(post("/wait"), false).unwrap();
            let response = response.await.unwrap();
            stream.send_reset(Reason::STREAM_CLOSED);
            while SEEN.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(*SEEN.lock().unwrap(), [Reason::STREAM_CLOSED]);
            drop(response);
        },
    );
}

/// What an upstream says it has not looked at is sent again, content and all, on another connection if need be.
#[test]
fn the_unprocessed_is_sent_again() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    proxied(
        HttpProtocol::H2,
        async |listener| {
            REFUSED.store(0, SeqCst);
            CONNECTIONS.store(0, SeqCst);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let first = CONNECTIONS.fetch_add(1, SeqCst) == 0;
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if first {
                            REFUSED.fetch_add(1, SeqCst);
                            respond.send_reset(Reason::REFUSED_STREAM);
                            // And goodbye: GOAWAY, then the end.
                            connection.graceful_shutdown();
                            continue;
                        }
                        tokio::task::spawn_local(async move {
                            let mut send = respond.send_response(Response::new(()), false).unwrap();
                            let (bytes, trailers) = whole(&mut request.into_body()).await.unwrap();
                            send.send_data(bytes.into(), trailers.is_none()).unwrap();
                            if let Some(trailers) = trailers {
                                send.send_trailers(trailers).unwrap();
                            }
                        });
                    }
                });
            }
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let (response, mut stream) = send.send_request(post("/"), false).unwrap();
            stream.send_data("all of ".into(), false).unwrap();
            stream.send_data("it".into(), false).unwrap();
            stream.send_trailers(trailers("x-end", "up")).unwrap();
            let mut body = response.await.unwrap().into_body();
            let (bytes, trailers) = whole(&mut body).await.unwrap();
            assert_eq!(bytes, b"all of it");
            assert_eq!(trailers.unwrap()["x-end"], "up");
            assert!(REFUSED.load(SeqCst) >= 1);
            assert!(CONNECTIONS.load(SeqCst) >= 2);
        },
    );
}

/// An upstream that goes without a word takes nothing down that may be asked again.
#[test]
fn a_connection_that_died_is_replaced() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    proxied(
        HttpProtocol::H2,
        async |listener| {
            CONNECTIONS.store(0, SeqCst);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                CONNECTIONS.fetch_add(1, SeqCst);
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let mut requests = 0;
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        requests += 1;
                        if requests == 2 {
                            return;
                        }
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                });
            }
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let mut statuses = Vec::new();
            for request in [get("/"), get("/"), post("/")] {
                let (response, _) = send.send_request(request, true).unwrap();
                statuses.push(response.await.unwrap().status().as_u16());
            }
            assert_eq!(statuses, [200, 200, 502]);
            assert_eq!(CONNECTIONS.load(SeqCst), 2);
        },
    );
}

/// Requests of several clients share connections, and no connection has more of them than the upstream allows.
#[test]
fn connections_are_shared_up_to_the_upstreams_limit() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    proxied(
        HttpProtocol::H2,
        async |listener| {
            CONNECTIONS.store(0, SeqCst);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                CONNECTIONS.fetch_add(1, SeqCst);
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::Builder::new()
                        .max_concurrent_streams(4)
                        .handshake::<_, Bytes>(stream)
                        .await
                        .unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        tokio::task::spawn_local(async move {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            respond.send_response(Response::new(()), true).unwrap();
                        });
                    }
                });
            }
        },
        async |node| {
            let (one, other) = (node.client().await, node.client().await);
            // The first brings the settings.
            let (response, _) = one.clone().send_request(get("/"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            assert_eq!(CONNECTIONS.load(SeqCst), 1);
            let asked: Vec<_> = (0..12)
                .map(|n| {
                    let mut send = if n % 2 == 0 {
                        one.clone()
                    } else {
                        other.clone()
                    };
                    tokio::spawn(async move {
                        let (response, _) = send.send_request(get("/"), true).unwrap();
                        response.await.unwrap().status()
                    })
                })
                .collect();
            for response in asked {
                assert_eq!(response.await.unwrap(), 200);
            }
            let connections = CONNECTIONS.load(SeqCst);
            assert!((2..=4).contains(&connections), "{connections} connections");
        },
    );
}

/// Each request is with the upstream, and has its response's head, before it is given up: the library's own limits see no harm in that.
#[test]
fn a_flood_of_resets_ends_the_connection() {
    proxied(
        HttpProtocol::H2,
        async |listener| {
            http2(listener, async |_, mut respond| {
                let Ok(mut send) = respond.send_response(Response::new(()), false) else {
                    return;
                };
                let _ = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
            })
            .await;
        },
        async |node| {
            let stream = TcpStream::connect(node.address).await.unwrap();
            let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut given_up = 0;
            loop {
                send = match send.ready().await {
                    Ok(send) => send,
                    Err(_) => break,
                };
                let (response, mut stream) = match send.send_request(post("/"), false) {
                    Ok(sent) => sent,
                    Err(_) => break,
                };
                match response.await {
                    Ok(_) => stream.send_reset(Reason::CANCEL),
                    Err(_) => break,
                }
                given_up += 1;
                assert!(
                    given_up < 5000,
                    "a client may give up any number of requests"
                );
            }
            let error = connection.await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
            assert!(given_up >= 200, "after {given_up}");
            // Others are served on.
            let mut send = node.client().await.ready().await.unwrap();
            let (response, _) = send.send_request(get("/"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        },
    );
}

/// A drain takes no new requests, and lets the open ones end.
#[test]
fn a_drain_says_goodbye() {
    static MAY_END: tokio::sync::Notify = tokio::sync::Notify::const_new();
    proxied(
        HttpProtocol::H2,
        async |listener| {
            http2(listener, async |_, mut respond| {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                MAY_END.notified().await;
                send.send_data("done".into(), true).unwrap();
            })
            .await;
        },
        async |node| {
            let stream = TcpStream::connect(node.address).await.unwrap();
            let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let (response, _) = send.send_request(get("/"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            node.tell.send(Told::Drain).unwrap();
            // GOAWAY has come when no request can begin any more, and this one is open still.
            while send.clone().ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            MAY_END.notify_one();
            let (bytes, _) = whole(&mut body).await.unwrap();
            assert_eq!(bytes, b"done");
            connection.await.unwrap().unwrap();
        },
    );
}

#[test]
fn an_idle_connection_is_closed() {
    proxied(
        HttpProtocol::H2,
        async |listener| {
            http2(listener, async |_, mut respond| {
                respond.send_response(Response::new(()), true).unwrap();
            })
            .await;
        },
        async |node| {
            let stream = TcpStream::connect(node.address).await.unwrap();
            let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let (response, _) = send.send_request(get("/"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            // GOAWAY without an error, then the end.
            connection.await.unwrap().unwrap();
        },
    );
}
