//! The table: bytes as a client sends them, and the status that answers them. 200 stands for "let through", 408 for "the head
//! never ends". `SECRET` marks what no answer may repeat.

use super::targets;

/// One head.
pub(crate) struct Case {
    /// What it is.
    pub(crate) name: &'static str,
    /// The bytes.
    pub(crate) head: Vec<u8>,
    /// The status it earns.
    pub(crate) status: u16,
}

/// A request that would be fine but for the fields given.
pub(crate) fn post(fields: &str) -> Vec<u8> {
    format!("POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n{fields}\r\n").into_bytes()
}

/// A CONNECT to this target.
pub(crate) fn connect(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: origin.test:443\r\n\r\n").into_bytes()
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = targets::cases();
    let mut case = |name, status, head: Vec<u8>| cases.push(Case { name, head, status });
    let text = |text: &str| text.as_bytes().to_vec();

    // Sound heads, so that a parser that refuses everything fails too.
    case("plain CONNECT", 200, connect("origin.test:443"));
    case(
        "CONNECT in HTTP/1.0 without Host",
        200,
        text("CONNECT origin.test:443 HTTP/1.0\r\n\r\n"),
    );
    case("CONNECT to IPv6", 200, connect("[2001:db8::1]:443"));
    case("CONNECT with final dot", 200, connect("origin.test.:443"));
    case(
        "CONNECT with Content-Length 0",
        200,
        text("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\nContent-Length: 0\r\n\r\n"),
    );
    case(
        "one empty line before",
        200,
        text("\r\nCONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n"),
    );
    case(
        "absolute-form GET",
        200,
        text("GET http://origin.test/a?b=c HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "absolute-form without path",
        200,
        text("GET http://origin.test HTTP/1.1\r\nHost: origin.test\r\n\r\n"),
    );
    case(
        "Host that disagrees with the target",
        200,
        text("GET http://origin.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n"),
    );
    case("Content-Length 5", 200, post("Content-Length: 5\r\n"));
    case("chunked", 200, post("Transfer-Encoding: chunked\r\n"));
    case(
        "chunked in capitals with blanks",
        200,
        post("Transfer-Encoding: \t CHUNKED \t\r\n"),
    );
    case("high bytes in a value", 200, post("X: \u{e9}\u{1f600}\r\n"));

    // Lines.
    case(
        "bare LF ends the request line",
        400,
        text("GET http://a.test/ HTTP/1.1\nHost: a.test\r\n\r\n"),
    );
    case(
        "bare LF ends a field",
        400,
        text("GET http://a.test/ HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n"),
    );
    case(
        "bare LF ends the head",
        400,
        text("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\n"),
    );
    case(
        "only LFs",
        400,
        text("CONNECT a.test:1 HTTP/1.1\nHost: a.test:1\n\n"),
    );
    case(
        "CR CR LF",
        400,
        text("GET http://a.test/ HTTP/1.1\r\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "bare CR in a value",
        400,
        post("X: a\rTransfer-Encoding: chunked\r\n"),
    );
    case("bare CR in a name", 400, post("X\rY: a\r\n"));
    case(
        "bare CR in the target",
        400,
        text("GET http://a.test/\rx HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "bare CR before the request line",
        400,
        text("\rGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "LF before the request line",
        400,
        text("\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "two empty lines before",
        400,
        text("\r\n\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "NUL in the method",
        400,
        text("G\0ET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "NUL in the target",
        400,
        text("GET http://a.test/\0 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case("NUL in a name", 400, post("X\0: a\r\n"));
    case("NUL in a value", 400, post("X: a\0b\r\n"));
    case(
        "NUL in the Host",
        400,
        text("GET http://a.test/ HTTP/1.1\r\nHost: a.test\0evil.test\r\n\r\n"),
    );
    case("DEL in a value", 400, post("X: a\x7fb\r\n"));
    case("escape in a value", 400, post("X: \x1b[2J\r\n"));
    case(
        "vertical tab in a value",
        400,
        post("Transfer-Encoding:\x0bchunked\r\n"),
    );
    case(
        "form feed before the colon",
        400,
        post("Content-Length\x0c: 5\r\n"),
    );
    case("first byte NUL", 400, text("\0\0\0\0"));
    case("first byte DEL", 400, text("\x7fELF"));

    // The request line.
    case(
        "two spaces after the method",
        400,
        text("GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "two spaces before the version",
        400,
        text("GET http://a.test/  HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "tab after the method",
        400,
        text("GET\thttp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "space in the target",
        400,
        text("GET http://a.test/a b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "space before the method",
        400,
        text(" GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "space behind the version",
        400,
        text("GET http://a.test/ HTTP/1.1 \r\nHost: a.test\r\n\r\n"),
    );
    case(
        "no target",
        400,
        text("GET HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "empty target",
        400,
        text("GET  HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case("method alone", 400, text("GET\r\n\r\n"));
    case("HTTP/0.9", 400, text("GET http://a.test/\r\n\r\n"));
    case(
        "method that is no token",
        400,
        text("GE(T http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "method of high bytes",
        400,
        text("G\u{c9}T http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "request line in the fields' place",
        400,
        text("GET http://a.test/ HTTP/1.1\r\nGET http://b.test/ HTTP/1.1\r\n\r\n"),
    );
    case(
        "version 1.2",
        505,
        text("GET http://a.test/ HTTP/1.2\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version 2.0",
        505,
        text("GET http://a.test/ HTTP/2.0\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version 0.9",
        505,
        text("GET http://a.test/ HTTP/0.9\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version 3",
        400,
        text("GET http://a.test/ HTTP/3\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version 1.10",
        400,
        text("GET http://a.test/ HTTP/1.10\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version 01.1",
        400,
        text("GET http://a.test/ HTTP/01.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "version in small letters",
        400,
        text("GET http://a.test/ http/1.1\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "another protocol",
        400,
        text("GET http://a.test/ RTSP/1.0\r\nHost: a.test\r\n\r\n"),
    );
    case(
        "HTTP/2 preface",
        505,
        text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    );
    case(
        "TLS ClientHello",
        400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    );
    case("SOCKS5", 400, b"\x05\x01\x00".to_vec());
    case(
        "SOCKS4",
        400,
        b"\x04\x01\x01\xbb\x0a\x00\x00\x01\x00".to_vec(),
    );
    case(
        "PROXY protocol",
        400,
        text(
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nCONNECT a.test:1 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
    );
    case("SSH", 408, text("SSH-2.0-OpenSSH_9.2\r\n"));
    case(
        "SMTP",
        400,
        text("EHLO mail.test\r\nMAIL FROM:<a@b.test>\r\n\r\n"),
    );

    // Fields.
    case(
        "space before the colon",
        400,
        post("Content-Length : 5\r\n"),
    );
    case(
        "tab before the colon",
        400,
        post("Transfer-Encoding\t: chunked\r\n"),
    );
    case("folded field", 400, post("X: a\r\n b\r\n"));
    case(
        "folded Transfer-Encoding",
        400,
        post("Transfer-Encoding:\r\n chunked\r\n"),
    );
    case("fold by tab", 400, post("X: a\r\n\tb\r\n"));
    case(
        "first field begins with a space",
        400,
        text("GET http://a.test/ HTTP/1.1\r\n Host: a.test\r\n\r\n"),
    );
    case(
        "field without a colon",
        400,
        post("Transfer-Encoding chunked\r\n"),
    );
    case("field without a name", 400, post(": chunked\r\n"));
    case("name in quotes", 400, post("\"Content-Length\": 5\r\n"));
    case(
        "name of high bytes",
        400,
        post("Cont\u{e9}nt-Length: 5\r\n"),
    );
    case("brackets in a name", 400, post("Content-Length[]: 5\r\n"));
    case("only blanks on a line", 400, post(" \r\n"));
    case(
        "Authorization twice",
        400,
        post("Authorization: a\r\nAuthorization: b\r\n"),
    );
    case(
        "Proxy-Authorization twice",
        400,
        post("Proxy-Authorization: Basic SECRET\r\nproxy-authorization: Basic SECRET2\r\n"),
    );
    case("unknown expectation", 417, post("Expect: 200-ok\r\n"));
    case(
        "Connection names Content-Length",
        400,
        post("Connection: close, content-length\r\nContent-Length: 5\r\n"),
    );
    case("Connection names Host", 400, post("Connection: host\r\n"));
    case(
        "Max-Forwards that is no number",
        400,
        post("Max-Forwards: -1\r\n"),
    );

    // Where the message ends.
    case(
        "Content-Length twice, different",
        400,
        post("Content-Length: 5\r\nContent-Length: 6\r\n"),
    );
    case(
        "Content-Length twice, equal",
        400,
        post("Content-Length: 5\r\nContent-Length: 5\r\n"),
    );
    case(
        "Content-Length as a list",
        400,
        post("Content-Length: 5, 5\r\n"),
    );
    case(
        "Content-Length with a sign",
        400,
        post("Content-Length: +5\r\n"),
    );
    case(
        "Content-Length negative",
        400,
        post("Content-Length: -5\r\n"),
    );
    case(
        "Content-Length in hex",
        400,
        post("Content-Length: 0x5\r\n"),
    );
    case("Content-Length empty", 400, post("Content-Length:\r\n"));
    case(
        "Content-Length with a space inside",
        400,
        post("Content-Length: 5 6\r\n"),
    );
    case(
        "Content-Length past 64 bits",
        400,
        post("Content-Length: 18446744073709551616\r\n"),
    );
    case(
        "Content-Length with underscore",
        400,
        post("Content-Length: 1_0\r\n"),
    );
    case(
        "Content-Length and chunked",
        400,
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    );
    case(
        "chunked and Content-Length",
        400,
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    );
    case(
        "Content-Length 0 and chunked",
        400,
        post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    );
    case(
        "chunked twice on one line",
        400,
        post("Transfer-Encoding: chunked, chunked\r\n"),
    );
    case(
        "chunked twice on two lines",
        400,
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    );
    case(
        "chunked, then identity",
        400,
        post("Transfer-Encoding: chunked, identity\r\n"),
    );
    case(
        "chunked, then another on a second line",
        400,
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    );
    case(
        "chunked with a parameter",
        400,
        post("Transfer-Encoding: chunked;q=1\r\n"),
    );
    case(
        "chunked in quotes",
        400,
        post("Transfer-Encoding: \"chunked\"\r\n"),
    );
    case(
        "chunked with an empty element",
        400,
        post("Transfer-Encoding: chunked,\r\n"),
    );
    case(
        "Transfer-Encoding empty",
        400,
        post("Transfer-Encoding:\r\n"),
    );
    case("identity", 400, post("Transfer-Encoding: identity\r\n"));
    case("xchunked", 400, post("Transfer-Encoding: xchunked\r\n"));
    case("gzip alone", 400, post("Transfer-Encoding: gzip\r\n"));
    case(
        "gzip, then chunked",
        501,
        post("Transfer-Encoding: gzip, chunked\r\n"),
    );
    case(
        "unknown coding on a line before chunked",
        501,
        post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
    );
    case(
        "chunked in HTTP/1.0",
        400,
        text("POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    );
    case(
        "CONNECT with Content-Length",
        400,
        text("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\nContent-Length: 5\r\n\r\n"),
    );
    case(
        "CONNECT with chunked",
        400,
        text("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    );
    case(
        "TRACE with content",
        400,
        text("TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n"),
    );

    // Too much of it.
    case(
        "long request line",
        414,
        format!("GET http://a.test/{} HTTP/1.1\r\n", "a".repeat(9000)).into_bytes(),
    );
    case("long request line without end", 414, vec![b'A'; 9000]);
    case(
        "one huge field",
        431,
        post(&format!("X: {}\r\n", "a".repeat(40_000))),
    );
    case(
        "one field without end",
        431,
        format!("GET http://a.test/ HTTP/1.1\r\nX: {}", "x".repeat(40_000)).into_bytes(),
    );
    case(
        "a hundred and one fields",
        431,
        post(&"X: y\r\n".repeat(100)),
    );
    case("many small fields", 431, post(&"a:\r\n".repeat(5000)));
    case("a hundred fields", 200, post(&"X: y\r\n".repeat(99)));
    case(
        "longest name",
        200,
        connect(&format!("{}e:443", "a.".repeat(126))),
    );
    case(
        "too long a name",
        400,
        connect(&format!("{}ee:443", "a.".repeat(126))),
    );
    case(
        "too long a label",
        400,
        connect(&format!("{}.test:443", "a".repeat(64))),
    );

    // Never enough of it: these wait for the rest until the head's time is up.
    case("nothing", 408, Vec::new());
    case("half a request line", 408, text("CONNECT origin.te"));
    case(
        "all but the last byte",
        408,
        text("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r"),
    );
    case("only an empty line", 408, text("\r\n"));
    cases
}
