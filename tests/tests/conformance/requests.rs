//! Requests, by the section that says what becomes of them. RFC 9110 is HTTP Semantics, RFC 9112 is HTTP/1.1.

use super::{Case, Expect, accepted, content, refused};

pub(crate) fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

pub(crate) fn post(fields: &str, content: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{content}")
}

pub(crate) fn chunked(content: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", content)
}

/// All of them: the section, what it is, the bytes, and what becomes of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = content::cases();
    let mut case = |section, name, bytes: String, expect| {
        cases.push(Case::request(section, name, bytes.into_bytes(), expect));
    };

    // The message and its lines.
    case(
        "9112 2.1",
        "a request without content",
        get(""),
        accepted(""),
    );
    case(
        "9112 2.2",
        "one empty line before it",
        format!("\r\n{}", get("")),
        accepted(""),
    );
    case(
        "9112 2.2",
        "two empty lines before it",
        format!("\r\n\r\n{}", get("")),
        refused(400),
    );
    case(
        "9112 2.2",
        "lines that end in LF alone",
        get("").replace("\r\n", "\n"),
        refused(400),
    );
    case(
        "9112 2.2",
        "one line that ends in LF alone",
        "GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 2.2",
        "CR without LF in a value",
        get("X: a\rb\r\n"),
        refused(400),
    );
    case(
        "9112 2.2",
        "CR CR LF",
        "GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 2.2",
        "a blank before the first field",
        "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n".into(),
        refused(400),
    );
    case("9112 2.2", "a line of blanks", get("  \r\n"), refused(400));

    // The request line.
    case(
        "9112 3",
        "two spaces",
        "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3",
        "a tab between the words",
        "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3",
        "a space at the end",
        "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3",
        "a space before the method",
        " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3",
        "no version",
        "GET /\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.1",
        "a method with a colon",
        "GE:T / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9110 9.1",
        "a method that nobody knows",
        "BREW / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 9.1",
        "methods have their case",
        "get / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9112 2.3",
        "HTTP/1.2",
        "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n".into(),
        refused(505),
    );
    case(
        "9112 2.3",
        "HTTP/2.0",
        "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n".into(),
        refused(505),
    );
    case(
        "9112 2.3",
        "http/1.1",
        "GET / http/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 2.3",
        "HTTP/1.10",
        "GET / HTTP/1.10\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 2.3",
        "HTTP/1.0 without Host",
        "GET / HTTP/1.0\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9112 3.2",
        "a space in the target",
        "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "a fragment",
        "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "a byte above 127 in the target",
        "GET /\u{e9} HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2.4",
        "* for OPTIONS",
        "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9112 3.2.4",
        "* for another method",
        "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2.1",
        "a query without a path",
        "GET ?a HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        refused(400),
    );

    // Host.
    case(
        "9112 3.2",
        "no Host",
        "GET / HTTP/1.1\r\nX: y\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "two Hosts",
        get("Host: b.test\r\n"),
        refused(400),
    );
    case(
        "9112 3.2",
        "the same Host twice",
        get("Host: a.test\r\n"),
        refused(400),
    );
    case(
        "9112 3.2",
        "a Host with a path",
        "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "a Host with user information",
        "GET / HTTP/1.1\r\nHost: x@a.test\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "a Host with a bad port",
        "GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 3.2",
        "two hosts in one Host",
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n".into(),
        refused(400),
    );

    // Fields.
    case(
        "9112 5.1",
        "a blank before the colon",
        get("X : y\r\n"),
        refused(400),
    );
    case(
        "9112 5.1",
        "a tab before the colon",
        get("X\t: y\r\n"),
        refused(400),
    );
    case(
        "9112 5.1",
        "a blank before the colon of what frames",
        post("Content-Length : 5\r\n", "hello"),
        refused(400),
    );
    case(
        "9112 5.1",
        "blanks around a value",
        get("X: \t y \t\r\n"),
        accepted(""),
    );
    case("9112 5.1", "an empty value", get("X:\r\n"), accepted(""));
    case(
        "9112 5",
        "a field without a colon",
        get("X y\r\n"),
        refused(400),
    );
    case(
        "9112 5",
        "a field without a name",
        get(": y\r\n"),
        refused(400),
    );
    case(
        "9110 5.6.2",
        "a name that is no token",
        get("X(y): z\r\n"),
        refused(400),
    );
    case(
        "9112 5.2",
        "a folded field",
        get("X: a\r\n b\r\n"),
        refused(400),
    );
    case(
        "9112 5.2",
        "folded framing",
        post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        refused(400),
    );
    case(
        "9110 5.5",
        "NUL in a value",
        get("X: a\0b\r\n"),
        refused(400),
    );
    case(
        "9110 5.5",
        "a control character in a value",
        get("X: a\u{1}b\r\n"),
        refused(400),
    );
    case(
        "9110 5.5",
        "DEL in a value",
        get("X: a\u{7f}b\r\n"),
        refused(400),
    );
    case(
        "9110 5.5",
        "bytes above 127 in a value",
        get("X: \u{e9}\r\n"),
        accepted(""),
    );
    case(
        "9110 5.5",
        "a tab inside a value",
        get("X: a\tb\r\n"),
        accepted(""),
    );

    // What belongs to the next request.
    case(
        "9112 9.3.2",
        "a second request behind it",
        get("") + &get(""),
        Expect::Accepted {
            content: String::new(),
            trailers: vec![],
            rest: "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        },
    );
    case(
        "9112 6.3",
        "content without a length is the next request",
        post("", "hello"),
        Expect::Accepted {
            content: String::new(),
            trailers: vec![],
            rest: "hello",
        },
    );
    case(
        "9112 8",
        "less content than announced",
        post("Content-Length: 10\r\n", "hello"),
        Expect::Incomplete,
    );
    case(
        "9112 8",
        "chunks without their end",
        chunked("5\r\nhello\r\n"),
        Expect::Incomplete,
    );
    case(
        "9112 8",
        "half a head",
        "GET / HTTP/1.1\r\nHost: a.te".into(),
        Expect::Incomplete,
    );

    // Semantics that a proxy must mind.
    case(
        "9110 9.3.8",
        "TRACE with content",
        "TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx".into(),
        refused(400),
    );
    case(
        "9110 10.1.1",
        "an expectation that nobody knows",
        post("Expect: 200-ok\r\nContent-Length: 0\r\n", ""),
        refused(417),
    );
    case(
        "9110 7.6.1",
        "Connection names what frames",
        post(
            "Connection: Content-Length\r\nContent-Length: 5\r\n",
            "hello",
        ),
        refused(400),
    );
    case(
        "9110 7.6.1",
        "Connection names Host",
        get("Connection: Host\r\n"),
        refused(400),
    );
    case(
        "9110 7.6.2",
        "Max-Forwards that is no number",
        get("Max-Forwards: x\r\n"),
        refused(400),
    );
    cases
}
