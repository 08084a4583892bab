//! Heads that name whom they are for: `Host`, and the targets of requests.

use super::cases::{Case, connect};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name, status, head: Vec<u8>| cases.push(Case { name, head, status });
    let text = |text: &str| text.as_bytes().to_vec();

    // Host.
    case("no Host", 400, text("CONNECT a.test:443 HTTP/1.1\r\n\r\n"));
    case(
        "two Hosts",
        400,
        text("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nHost: a.test:443\r\n\r\n"),
    );
    case(
        "two Hosts in HTTP/1.0",
        400,
        text("CONNECT a.test:443 HTTP/1.0\r\nHost: a.test:443\r\nHost: b.test:443\r\n\r\n"),
    );
    case(
        "empty Host",
        400,
        text("CONNECT a.test:443 HTTP/1.1\r\nHost:\r\n\r\n"),
    );
    case(
        "Host with user information",
        400,
        text("CONNECT a.test:443 HTTP/1.1\r\nHost: SECRET@a.test:443\r\n\r\n"),
    );
    case(
        "Host with a path",
        400,
        text("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test/x\r\n\r\n"),
    );
    case(
        "Host with a comma",
        400,
        text("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n"),
    );

    // What is asked for.
    case("CONNECT without port", 400, connect("origin.test"));
    case("CONNECT with empty port", 400, connect("origin.test:"));
    case("CONNECT to port 0", 400, connect("origin.test:0"));
    case("CONNECT to port 65536", 400, connect("origin.test:65536"));
    case(
        "CONNECT with leading zero",
        400,
        connect("origin.test:0443"),
    );
    case("CONNECT with signed port", 400, connect("origin.test:+443"));
    case("CONNECT with named port", 400, connect("origin.test:https"));
    case("CONNECT without host", 400, connect(":443"));
    case(
        "CONNECT with user information",
        400,
        connect("user:SECRET@origin.test:443"),
    );
    case("CONNECT with zone", 400, connect("[fe80::1%25eth0]:443"));
    case("CONNECT with open bracket", 400, connect("[::1:443"));
    case("CONNECT to bare IPv6", 400, connect("::1:443"));
    case(
        "CONNECT with percent-encoding",
        400,
        connect("origin%2etest:443"),
    );
    case("CONNECT to hex IPv4", 400, connect("0x7f.1:443"));
    case("CONNECT to short IPv4", 400, connect("127.1:443"));
    case(
        "CONNECT to IPv4 as one number",
        400,
        connect("2130706433:443"),
    );
    case("CONNECT to octal IPv4", 400, connect("0177.0.0.1:443"));
    case(
        "CONNECT to IPv4 with final dot",
        400,
        connect("127.0.0.1.:443"),
    );
    case(
        "CONNECT to a name that is not ASCII",
        400,
        connect("b\u{fc}cher.test:443"),
    );
    case(
        "CONNECT to full-width digits",
        400,
        connect("\u{ff11}27.0.0.1:443"),
    );
    case(
        "CONNECT to a name with empty label",
        400,
        connect("origin..test:443"),
    );
    case("CONNECT to a wildcard", 400, connect("*.test:443"));
    case(
        "CONNECT with absolute-form",
        400,
        connect("http://origin.test:443/"),
    );
    case(
        "CONNECT with https absolute-form",
        400,
        connect("https://origin.test:443"),
    );
    case("CONNECT with origin-form", 400, connect("/"));
    case("CONNECT with asterisk-form", 400, connect("*"));
    case("CONNECT with query", 400, connect("origin.test:443?SECRET"));
    case(
        "CONNECT with backslash",
        400,
        connect("origin.test\\@evil.test:443"),
    );
    case(
        "connect in small letters",
        400,
        text("connect origin.test:443 HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "GET with authority-form",
        400,
        text("GET origin.test:80 HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "GET with origin-form",
        400,
        text("GET /a?SECRET HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "GET with asterisk-form",
        400,
        text("GET * HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "OPTIONS with asterisk-form",
        400,
        text("OPTIONS * HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "https in absolute-form",
        400,
        text("GET https://origin.test/?SECRET HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "ftp in absolute-form",
        400,
        text("GET ftp://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "absolute-form without host",
        400,
        text("GET http:///SECRET HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "absolute-form with user information",
        400,
        text("GET http://u:SECRET@origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "absolute-form with fragment",
        400,
        text("GET http://origin.test/#SECRET HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "absolute-form with backslash",
        400,
        text("GET http://origin.test\\@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "absolute-form to short IPv4",
        400,
        text("GET http://169.16689662/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "absolute-form with high bytes",
        400,
        text("GET http://origin.test/\u{e9} HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    cases
}
