//! How long a stream may be silent, and how long a connection may be without one.

use std::time::Instant;

use super::*;

/// A stream is open for much longer than a connection may be without one.
const OUTLASTS: Duration = Duration::from_millis(1500);

#[test]
fn an_open_stream_outlasts_http_idle() {
    let setting = Setting {
        timeouts: "http-idle = \"300ms\"\nupstream-idle = \"300ms\"\n",
        ..HttpProtocol::H2.into()
    };
    proxied(
        setting,
        async |listener| {
            http2(listener, async |request, mut respond| {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                // As of a gRPC server that has nothing to tell: until the client ends its side.
                whole(&mut request.into_body()).await.unwrap();
                send.send_data("late".into(), true).unwrap();
            })
            .await;
        },
        async |node| {
            let stream = TcpStream::connect(node.address).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut send = send.ready().await.unwrap();
            let (response, mut request) = send.send_request(post("/"), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            tokio::time::sleep(OUTLASTS).await;
            request.send_data(Bytes::new(), true).unwrap();
            let (late, _) = whole(&mut body).await.unwrap();
            assert_eq!(late, b"late");
            // Without a stream the limit counts: GOAWAY, then the end.
            let idle = Instant::now();
            connection.await.unwrap().unwrap();
            assert!(idle.elapsed() < OUTLASTS, "{:?}", idle.elapsed());
        },
    );
}

#[test]
fn an_open_stream_is_bounded_as_a_tunnel_is() {
    let setting = Setting {
        timeouts: "http-idle = \"60s\"\ntunnel-idle = \"500ms\"\n",
        ..HttpProtocol::H2.into()
    };
    proxied(
        setting,
        async |listener| {
            http2(listener, async |request, mut respond| {
                let begins = request.uri().path() == "/begins";
                let mut send = match begins {
                    true => Some(respond.send_response(Response::new(()), false).unwrap()),
                    false => None,
                };
                let given_up = std::future::poll_fn(|cx| match &mut send {
                    Some(send) => send.poll_reset(cx),
                    None => respond.poll_reset(cx),
                });
                assert_eq!(given_up.await.unwrap(), Reason::CANCEL);
            })
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let (response, _) = send.send_request(get("/silent"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 504);
            let (why, _) = whole(&mut response.into_body()).await.unwrap();
            let why = String::from_utf8(why).unwrap();
            assert!(why.contains("500ms (timeouts.tunnel-idle)"), "{why}");
            let (response, _) = send.send_request(get("/begins"), true).unwrap();
            let cut = whole(response.await.unwrap().body_mut()).await.unwrap_err();
            assert_eq!(cut.reason(), Some(Reason::CANCEL));
        },
    );
}
