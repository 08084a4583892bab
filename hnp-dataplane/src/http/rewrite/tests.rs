use super::*;
use crate::http::head::{HeadLimits, parse_request};
use crate::http::response::ResponseParser;

fn forwarded(text: &str) -> String {
    let text = text.replace('\n', "\r\n");
    let (head, _) = parse_request(text.as_bytes(), &HeadLimits::default())
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    assert!(request_head(&head, &mut out));
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

fn returned(text: &str, method: &str, close: bool, framed: bool) -> String {
    let text = text.replace('\n', "\r\n");
    let (head, _) = ResponseParser::new()
        .parse(text.as_bytes(), &HeadLimits::default(), method)
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    response_head(&head, close, framed, &mut out);
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

#[test]
fn hop_by_hop_fields_stay() {
    let request = "GET http://Origin.Test/a?b HTTP/1.1\nHost: other.test\nProxy-Connection: keep-alive\nKeep-Alive: 5\n\
        Connection: X-Hop, keep-alive\nX-Hop: 1\nX-End: 2\nProxy-Authorization: Basic x\nTE: gzip, trailers;q=1\nAuthorization: y\n\
        Upgrade: websocket\nCookie: z\nVia: 1.0 edge\n\n";
    assert_eq!(
        forwarded(request),
        "GET /a?b HTTP/1.1\nHost: origin.test\nX-End: 2\nAuthorization: y\nCookie: z\nVia: 1.0 edge\nVia: 1.1 hnp\n\n"
    );
}

#[test]
fn the_target_decides_host_and_path() {
    for (line, first, host) in [
        ("GET http://a.test HTTP/1.1", "GET / HTTP/1.1", "a.test"),
        ("GET http://a.test?x HTTP/1.1", "GET /?x HTTP/1.1", "a.test"),
        (
            "GET http://a.test:8080/ HTTP/1.1",
            "GET / HTTP/1.1",
            "a.test:8080",
        ),
        (
            "GET http://A.test.:80/ HTTP/1.1",
            "GET / HTTP/1.1",
            "a.test",
        ),
        ("GET http://[::1]/ HTTP/1.1", "GET / HTTP/1.1", "[::1]"),
        (
            "GET http://[::1]:81/ HTTP/1.1",
            "GET / HTTP/1.1",
            "[::1]:81",
        ),
        (
            "OPTIONS http://a.test HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "a.test",
        ),
        (
            "OPTIONS http://a.test/ HTTP/1.1",
            "OPTIONS / HTTP/1.1",
            "a.test",
        ),
        (
            "GET http://a.test/http://b.test/ HTTP/1.0",
            "GET /http://b.test/ HTTP/1.1",
            "a.test",
        ),
    ] {
        let out = forwarded(&format!("{line}\nHost: x\n\n"));
        assert!(
            out.starts_with(&format!("{first}\nHost: {host}\n")),
            "{line}: {out}"
        );
        assert_eq!(out.matches("Host:").count(), 1, "{line}: {out}");
    }
}

#[test]
fn what_frames_is_written_anew() {
    let post = |fields: &str| {
        forwarded(&format!(
            "POST http://a.test/ HTTP/1.1\nHost: a.test\n{fields}\n"
        ))
    };
    assert!(post("content-length:   007\n").contains("\nContent-Length: 7\n"));
    assert!(post("Content-Length: 0\n").contains("\nContent-Length: 0\n"));
    assert!(post("transfer-encoding: CHUNKED\n").contains("\nTransfer-Encoding: chunked\n"));
    assert!(post("Expect: 100-Continue\nContent-Length: 1\n").contains("\nExpect: 100-continue\n"));
    assert!(!post("").contains("Content-Length"));
}

#[test]
fn upgrades_pass_except_to_http2() {
    let upgrade = |to: &str| {
        forwarded(&format!(
            "GET ws://a.test/ HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: {to}\n\n"
        ))
    };
    assert!(upgrade("websocket").contains("\nUpgrade: websocket\nConnection: Upgrade\n"));
    assert!(!upgrade("h2c").to_lowercase().contains("upgrade"));
    assert!(!upgrade("websocket, H2C").to_lowercase().contains("upgrade"));
    let te = forwarded("GET http://a.test/ HTTP/1.1\nHost: a\nConnection: TE\nTE: trailers\n\n");
    assert!(te.contains("\nTE: trailers\nConnection: TE\n"), "{te}");
}

#[test]
fn max_forwards_counts_down_for_trace_and_options() {
    let out = |method: &str| {
        forwarded(&format!(
            "{method} http://a.test/ HTTP/1.1\nHost: a\nMax-Forwards: 5\n\n"
        ))
    };
    assert!(out("TRACE").contains("\nMax-Forwards: 4\n"));
    assert!(out("OPTIONS").contains("\nMax-Forwards: 4\n"));
    assert!(out("GET").contains("\nMax-Forwards: 5\n"));
}

#[test]
fn responses_lose_what_is_the_connections() {
    let head = "HTTP/1.0 200 Fine\nConnection: X-Hop\nX-Hop: 1\nKeep-Alive: 3\nProxy-Authenticate: Basic\nServer : s\nContent-Length: 3\n\n";
    assert_eq!(
        returned(head, "GET", true, true),
        "HTTP/1.1 200 Fine\nServer: s\nContent-Length: 3\nConnection: close\nVia: 1.0 hnp\n\n"
    );
}

#[test]
fn chunks_are_announced_to_those_who_know_them() {
    let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n";
    assert!(returned(head, "GET", false, true).contains("Transfer-Encoding: chunked"));
    assert!(!returned(head, "GET", true, false).contains("Transfer-Encoding"));
}

#[test]
fn lengths_without_content() {
    let length = |status: &str, method: &str| {
        returned(
            &format!("HTTP/1.1 {status}\nContent-Length: 5\n\n"),
            method,
            false,
            true,
        )
        .contains("Content-Length: 5")
    };
    assert!(length("200 OK", "HEAD"));
    assert!(length("304 Not Modified", "GET"));
    assert!(!length("204 No Content", "GET"));
}

#[test]
fn loops_are_counted() {
    let text = "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 hnp, 1.0 other\r\nVia: 1.1 hnp (x)\r\n\r\n";
    let (head, _) = parse_request(text.as_bytes(), &HeadLimits::default())
        .unwrap()
        .unwrap();
    assert_eq!(times_through_hnp(&head), 2);
}
