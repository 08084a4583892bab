use std::net::{Ipv4Addr, Ipv6Addr};

use url::Url;

use super::*;
use crate::http::head::{HeadLimits, parse_request};
use crate::http::response::ResponseParser;
use crate::origin::Origin;

fn route(url: &str, prefix: &str) -> Route {
    Route {
        origin: Arc::new(Origin::new(&Url::parse(url).unwrap(), None).unwrap()),
        prefix: prefix.into(),
        server_name: None,
        forwarded_headers: true,
        client_certificate_header: true,
    }
}

const CLIENT: Client<'static> = Client {
    address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    over_tls: true,
    certificate: Some("Hash=abc;Subject=\"CN=pod\""),
};

fn sent(route: Route, client: Client<'_>, text: &str) -> Result<String, u16> {
    let text = text.replace('\n', "\r\n");
    let (head, _) = parse_request(text.as_bytes(), &HeadLimits::default())
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    Rewriter::new(&Arc::new(route), client)
        .request_head(&head, &mut out)
        .map_err(|answer| answer.status())?;
    Ok(String::from_utf8(out).unwrap().replace("\r\n", "\n"))
}

fn returned(route: Route, text: &str) -> String {
    let text = text.replace('\n', "\r\n");
    let (head, _) = ResponseParser::new()
        .parse(text.as_bytes(), &HeadLimits::default(), "GET")
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    Rewriter::new(&Arc::new(route), CLIENT).response_head(&head, false, true, &mut out);
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

#[test]
fn the_upstream_sees_a_request_of_its_own() {
    let request = "POST /acme/a?b HTTP/1.1\nHost: Gateway.Test:7777\nAccept: */*\nX-Forwarded-For: 10.0.0.1\nForwarded: for=evil\n\
        X-Real-IP: 10.0.0.1\nX-Forwarded-Client-Cert: Hash=evil\nssl_client_verify: SUCCESS\nContent-Length: 5\nConnection: keep-alive, X-Hop\n\
        X-Hop: 1\nTE: trailers\nProxy-Authorization: Basic x\nAuthorization: y\nVia: 1.0 edge\n\n";
    let sent = sent(route("http://app.test:8080/base", "/acme"), CLIENT, request).unwrap();
    assert_eq!(
        sent,
        "POST /base/a?b HTTP/1.1\nHost: app.test:8080\nAccept: */*\nAuthorization: y\nVia: 1.0 edge\nContent-Length: 5\nTE: trailers\n\
         Connection: TE\nVia: 1.1 hnp\nX-Forwarded-For: 192.0.2.7\nX-Forwarded-Proto: https\n\
         x-forwarded-client-cert: Hash=abc;Subject=\"CN=pod\"\nX-Forwarded-Host: Gateway.Test:7777\n\
         Forwarded: for=192.0.2.7;proto=https;host=\"Gateway.Test:7777\"\n\n"
    );
}

#[test]
fn addresses_of_version_6() {
    let client = |address: Ipv6Addr| Client {
        address: address.into(),
        over_tls: false,
        certificate: None,
    };
    let text = |address: &str| {
        let client = client(address.parse().unwrap());
        sent(route("http://app.test", ""), client, "GET / HTTP/1.0\n\n").unwrap()
    };
    let sent = text("2001:db8::1");
    assert!(
        sent.contains("\nX-Forwarded-For: 2001:db8::1\nX-Forwarded-Proto: http\n"),
        "{sent}"
    );
    assert!(
        sent.ends_with("\nForwarded: for=\"[2001:db8::1]\";proto=http\n\n"),
        "{sent}"
    );
    // One that came by version 4 says so.
    let sent = text("::ffff:192.0.2.7");
    assert!(
        sent.ends_with("\nForwarded: for=192.0.2.7;proto=http\n\n"),
        "{sent}"
    );
}

#[test]
fn forwarded_fields_can_be_left_out() {
    let route = Route {
        forwarded_headers: false,
        client_certificate_header: false,
        ..route("http://app.test", "")
    };
    let request = "GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 10.0.0.1\nForwarded: for=edge\nX-Forwarded-Client-Cert: evil\n\n";
    assert_eq!(
        sent(route, CLIENT, request).unwrap(),
        "GET / HTTP/1.1\nHost: app.test\nVia: 1.1 hnp\n\n"
    );
}

#[test]
fn an_endpoint_serves_its_own_name() {
    let status = |host: &str| {
        let route = Route {
            server_name: Some("acme.gateway.test".into()),
            ..route("http://app.test", "")
        };
        sent(route, CLIENT, &format!("GET / HTTP/1.1\nHost: {host}\n\n"))
            .map(|_| 200)
            .unwrap_or_else(|status| status)
    };
    for host in [
        "acme.gateway.test",
        "ACME.Gateway.Test",
        "acme.gateway.test.",
        "acme.gateway.test:7777",
        "acme.gateway.test.:7777",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in [
        "other.gateway.test",
        "gateway.test",
        "xacme.gateway.test",
        "acme.gateway.test.evil",
        "127.0.0.1",
        "[::1]:7777",
    ] {
        assert_eq!(status(host), 421, "{host}");
    }
}

#[test]
fn what_is_not_beneath_the_prefix_is_not_there() {
    for (line, status) in [
        ("GET /other", 404),
        ("GET /acmex", 404),
        ("GET /acme/../other", 404),
        ("OPTIONS *", 404),
    ] {
        let request = format!("{line} HTTP/1.1\nHost: x\n\n");
        assert_eq!(
            sent(route("http://app.test", "/acme"), CLIENT, &request),
            Err(status),
            "{line}"
        );
    }
    let sent = sent(
        route("http://app.test", ""),
        CLIENT,
        "OPTIONS * HTTP/1.1\nHost: x\n\n",
    )
    .unwrap();
    assert!(
        sent.starts_with("OPTIONS * HTTP/1.1\nHost: app.test\n"),
        "{sent}"
    );
}

#[test]
fn locations_lead_where_the_client_can_go() {
    let location = |url: &str, prefix: &str, location: &str| {
        let head = returned(
            route(url, prefix),
            &format!("HTTP/1.1 302 Found\nLocation: {location}\nContent-Length: 0\n\n"),
        );
        let (_, rest) = head.split_once("Location: ").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    for (url, prefix, from, to) in [
        (
            "http://app.test:8080",
            "",
            "http://app.test:8080/login?x#y",
            "/login?x#y",
        ),
        ("http://app.test:8080", "", "HTTP://APP.test:8080", "/"),
        ("http://app.test", "", "http://app.test:80/a", "/a"),
        ("http://app.test", "", "http://app.test?q", "/?q"),
        (
            "http://app.test",
            "",
            "http://app.test//evil.test/",
            "/evil.test/",
        ),
        (
            "http://app.test",
            "",
            "https://app.test/a",
            "https://app.test/a",
        ),
        (
            "http://app.test",
            "",
            "http://other.test/a",
            "http://other.test/a",
        ),
        (
            "http://app.test",
            "",
            "http://app.test.evil/a",
            "http://app.test.evil/a",
        ),
        (
            "http://app.test",
            "",
            "http://app.test@evil.test/a",
            "http://app.test@evil.test/a",
        ),
        ("http://app.test", "", "//other.test/a", "//other.test/a"),
        ("http://app.test", "", "/a", "/a"),
        ("http://app.test", "/acme", "/a", "/acme/a"),
        ("http://app.test", "/acme", "a/b", "a/b"),
        ("http://app.test", "/acme", "http://app.test/a", "/acme/a"),
        ("http://app.test/base", "/acme", "/base/a", "/acme/a"),
        ("http://app.test/base", "/acme", "/basement", "/basement"),
        ("http://app.test/base", "", "/base", "/"),
        ("http://app.test/base", "/base", "/base/a", "/base/a"),
        (
            "http://app.test/base",
            "/acme",
            "http://app.test/elsewhere",
            "http://app.test/elsewhere",
        ),
    ] {
        assert_eq!(location(url, prefix, from), to, "{url} {prefix} {from}");
    }
    let head = returned(
        route("http://app.test", "/p"),
        "HTTP/1.1 201 Created\nContent-Location: /doc/1\nX-Location: /doc\nContent-Length: 0\n\n",
    );
    assert!(
        head.contains("\nContent-Location: /p/doc/1\nX-Location: /doc\n"),
        "{head}"
    );
}
