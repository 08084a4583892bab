//! Upstreams of HTTP/1.1, which see exactly what they should.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use tokio::net::TcpListener;

use super::*;

/// An upstream that reads a request up to `end` and writes `response`, once for each connection.
async fn scripted(listener: TcpListener, script: &'static [(&'static str, &'static str)]) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(async move {
            let mut got = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&got).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                if let Some((_, response)) = script
                    .iter()
                    .find(|(name, _)| path.starts_with(name) && text.ends_with("\r\n\r\n"))
                {
                    let echo = format!("{:?}", text);
                    let response = response
                        .replace("{echo}", &echo)
                        .replace("{length}", &echo.len().to_string());
                    stream.write_all(response.as_bytes()).await.unwrap();
                    return;
                }
                if stream.read_buf(&mut got).await.unwrap() == 0 {
                    return;
                }
            }
        });
    }
}

#[test]
fn heads_are_translated() {
    proxied(
        HttpProtocol::Auto,
        async |listener| {
            scripted(
                listener,
                &[(
                    "/",
                    "HTTP/1.1 200 Fine\r\nContent-Length: {length}\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n{echo}",
                )],
            )
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let mut request = get("/a/b?c=d");
            for cookie in ["a=1", "b=2"] {
                let cookie = HeaderValue::from_static(cookie);
                request.headers_mut().append("cookie", cookie);
            }
            let (response, _) = send.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let headers = response.headers();
            assert!(!headers.contains_key("connection") && !headers.contains_key("x-hop"));
            assert_eq!(headers["x-end"], "2");
            assert_eq!(headers["via"], "1.1 hnp");
            let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
            let (echo, _) = whole(&mut response.into_body()).await.unwrap();
            assert_eq!(echo.len(), length);
            let echo = String::from_utf8(echo).unwrap();
            assert!(
                echo.starts_with("\"GET /a/b?c=d HTTP/1.1\\r\\nHost: "),
                "{echo}"
            );
            assert!(echo.contains("cookie: a=1; b=2\\r\\n"), "{echo}");
            assert!(echo.contains("Via: 2 hnp\\r\\n"), "{echo}");
            assert!(!echo.to_lowercase().contains("transfer-encoding"), "{echo}");
        },
    );
}

#[test]
fn content_is_chunked_and_trailers_pass() {
    proxied(
        HttpProtocol::Auto,
        async |listener| {
            scripted(
                listener,
                &[(
                    "/",
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0;x=y\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
                )],
            )
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            let (mut response, mut stream) = send.send_request(post("/"), false).unwrap();
            stream.send_data("hello".into(), false).unwrap();
            let mut sent = trailers("x-sum", "5");
            sent.insert("host", HeaderValue::from_static("evil"));
            stream.send_trailers(sent).unwrap();
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            assert_eq!(interim.unwrap().unwrap().status(), 100);
            let response = response.await.unwrap();
            let (bytes, trailers) = whole(&mut response.into_body()).await.unwrap();
            assert_eq!(bytes, b"abc");
            let trailers = trailers.unwrap();
            assert_eq!(
                (&trailers["x-sum"], &trailers["x-more"]),
                (
                    &HeaderValue::from_static("1"),
                    &HeaderValue::from_static("2")
                )
            );
        },
    );
}

#[test]
fn what_has_no_content_ends_with_its_head() {
    proxied(
        HttpProtocol::Auto,
        async |listener| {
            scripted(
                listener,
                &[
                    ("/head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
                    ("/none", "HTTP/1.1 204 No Content\r\n\r\n"),
                    (
                        "/same",
                        "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
                    ),
                    (
                        "/close",
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
                    ),
                ],
            )
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            for (method, path, status, length, content) in [
                ("HEAD", "/head", 200, Some("5"), ""),
                ("GET", "/none", 204, None, ""),
                ("GET", "/same", 304, Some("7"), ""),
                ("GET", "/close", 200, None, "until the end"),
            ] {
                let mut request = get(path);
                *request.method_mut() = method.parse().unwrap();
                let (response, _) = send.send_request(request, true).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.status(), status, "{path}");
                let got = response.headers().get("content-length");
                assert_eq!(got.map(|got| got.to_str().unwrap()), length, "{path}");
                let (bytes, _) = whole(&mut response.into_body()).await.unwrap();
                assert_eq!(bytes, content.as_bytes(), "{path}");
            }
        },
    );
}

/// A response that is not what it says is never passed off as complete.
#[test]
fn an_upstreams_fault_is_told_or_cuts() {
    proxied(
        HttpProtocol::Auto,
        async |listener| {
            scripted(
                listener,
                &[
                    ("/garbage", "HELLO\r\n\r\n"),
                    ("/both", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
                    ("/switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
                    ("/short", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"),
                    ("/chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz"),
                ],
            )
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            for path in ["/garbage", "/both", "/switch"] {
                let (response, _) = send.send_request(get(path), true).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.status(), 502, "{path}");
                let status = response.headers()["proxy-status"].to_str().unwrap();
                assert!(status.starts_with("hnp; error="), "{status}");
            }
            for path in ["/short", "/chunk"] {
                let (response, _) = send.send_request(get(path), true).unwrap();
                // The reset may overtake what was there of the response.
                let error = match response.await {
                    Ok(response) => whole(&mut response.into_body()).await.unwrap_err(),
                    Err(error) => error,
                };
                assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
            }
        },
    );
}

/// What HTTP/1.1 could not say, or would say ambiguously, does not reach the upstream.
#[test]
fn a_request_that_smuggles_is_refused() {
    proxied(
        HttpProtocol::Auto,
        async |listener| {
            scripted(
                listener,
                &[("/", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
            )
            .await;
        },
        async |node| {
            let mut send = node.client().await.ready().await.unwrap();
            for (name, value, status) in [
                ("host", "other.test", 400),
                ("host", "NODE.test", 200),
                ("expect", "200-maybe", 417),
                ("max-forwards", "x", 400),
                ("x-fine", "y", 200),
            ] {
                let mut request = get("/");
                let value = HeaderValue::from_static(value);
                request.headers_mut().insert(name, value);
                let (response, _) = send.send_request(request, true).unwrap();
                assert_eq!(response.await.unwrap().status(), status, "{name}");
            }
            let (response, _) = send
                .send_request(get(&format!("/{}", "x".repeat(9000))), true)
                .unwrap();
            assert_eq!(response.await.unwrap().status(), 414);
        },
    );
}
