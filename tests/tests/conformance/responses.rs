//! Responses, by the section that says what becomes of them. Each is all that an upstream sends; then it closes the connection.

use super::{Case, Expect, accepted, refused};

fn ok(fields: &str, content: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{content}")
}

fn chunked(content: &str) -> String {
    ok("Transfer-Encoding: chunked\r\n", content)
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |section, name, method, bytes: String, expect| {
        cases.push(Case::response(
            section,
            name,
            method,
            bytes.into_bytes(),
            expect,
        ));
    };
    let bad = || refused(502);

    // The status line.
    case(
        "9112 4",
        "a response with a length",
        "GET",
        ok("Content-Length: 5\r\n", "hello"),
        accepted("hello"),
    );
    case(
        "9112 4",
        "no reason",
        "GET",
        "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9112 4",
        "no reason and no space",
        "GET",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 15",
        "a status of a class that nobody knows",
        "GET",
        "HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\nok".into(),
        accepted("ok"),
    );
    case(
        "9110 15",
        "a status below 100",
        "GET",
        "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 4",
        "a status of two digits",
        "GET",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 4",
        "a status of four digits",
        "GET",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 4",
        "no status",
        "GET",
        "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 4",
        "two spaces before the status",
        "GET",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 2.3",
        "HTTP/2.0",
        "GET",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 2.3",
        "another protocol",
        "GET",
        "ICY 200 OK\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 2.2",
        "an empty line before it",
        "GET",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 4",
        "a control character in the reason",
        "GET",
        "HTTP/1.1 200 O\u{1}K\r\nContent-Length: 0\r\n\r\n".into(),
        bad(),
    );

    // Lines and fields.
    case(
        "9112 2.2",
        "lines that end in LF alone",
        "GET",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n".into(),
        bad(),
    );
    case(
        "9112 2.2",
        "CR without LF in a value",
        "GET",
        ok("X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n", ""),
        bad(),
    );
    case(
        "9112 5.1",
        "a blank before the colon",
        "GET",
        ok("X : y\r\nContent-Length: 0\r\n", ""),
        accepted(""),
    );
    case(
        "9112 5.1",
        "a blank before the colon of what frames",
        "GET",
        ok("Content-Length : 5\r\n", "hello"),
        accepted("hello"),
    );
    case(
        "9112 5.2",
        "a folded field",
        "GET",
        ok("X: a\r\n b\r\nContent-Length: 0\r\n", ""),
        bad(),
    );
    case(
        "9110 5.5",
        "NUL in a value",
        "GET",
        ok("X: a\0b\r\nContent-Length: 0\r\n", ""),
        bad(),
    );
    case(
        "9112 5",
        "a field without a colon",
        "GET",
        ok("X y\r\nContent-Length: 0\r\n", ""),
        bad(),
    );

    // Where the content ends.
    case(
        "9112 6.3",
        "until the connection ends",
        "GET",
        ok("", "hello"),
        accepted("hello"),
    );
    case(
        "9112 6.3",
        "HTTP/1.0 until the connection ends",
        "GET",
        "HTTP/1.0 200 OK\r\n\r\nhello".into(),
        accepted("hello"),
    );
    case(
        "9112 6.3",
        "two lengths",
        "GET",
        ok("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        bad(),
    );
    case(
        "9112 6.3",
        "one length twice",
        "GET",
        ok("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        bad(),
    );
    case(
        "9112 6.3",
        "a list of lengths",
        "GET",
        ok("Content-Length: 5, 5\r\n", "hello"),
        bad(),
    );
    case(
        "9112 6.3",
        "a length with a sign",
        "GET",
        ok("Content-Length: +5\r\n", "hello"),
        bad(),
    );
    case(
        "9112 6.3",
        "an empty length",
        "GET",
        ok("Content-Length:\r\n", ""),
        bad(),
    );
    case(
        "9112 6.3",
        "both framings",
        "GET",
        ok(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        bad(),
    );
    case(
        "9112 6.1",
        "chunks in HTTP/1.0",
        "GET",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        bad(),
    );
    case(
        "9112 6.1",
        "another coding",
        "GET",
        ok("Transfer-Encoding: gzip\r\n", "x"),
        bad(),
    );
    case(
        "9112 6.1",
        "a coding before chunked",
        "GET",
        ok("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 6.3",
        "chunked twice",
        "GET",
        ok("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 6.1",
        "an empty coding before chunked",
        "GET",
        ok("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 6.3",
        "chunked on two lines",
        "GET",
        ok(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        bad(),
    );
    case(
        "9112 6.3",
        "identity",
        "GET",
        ok("Transfer-Encoding: identity\r\n", "x"),
        bad(),
    );
    case(
        "9112 8",
        "less than announced",
        "GET",
        ok("Content-Length: 10\r\n", "hello"),
        Expect::Cut,
    );
    case(
        "9112 8",
        "chunks without their end",
        "GET",
        chunked("5\r\nhello\r\n"),
        Expect::Cut,
    );
    case(
        "9112 8",
        "a head without its end",
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Le".into(),
        bad(),
    );
    case("9112 8", "nothing", "GET", String::new(), bad());
    case(
        "9112 9.3",
        "bytes behind a response",
        "GET",
        ok(
            "Content-Length: 2\r\n",
            "okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        Expect::Accepted {
            content: "ok".into(),
            trailers: vec![],
            rest: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        },
    );

    // Chunks.
    case(
        "9112 7.1",
        "chunks",
        "GET",
        chunked("3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"),
        accepted("hello"),
    );
    case(
        "9112 7.1.2",
        "a trailer",
        "GET",
        chunked("2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n"),
        Expect::Accepted {
            content: "ok".into(),
            trailers: vec![("grpc-status", "0")],
            rest: "",
        },
    );
    case(
        "9112 7.1",
        "a size that is none",
        "GET",
        chunked("zz\r\nok\r\n0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 7.1",
        "a size line that ends in LF",
        "GET",
        chunked("2\nok\r\n0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 7.1",
        "data longer than its size",
        "GET",
        chunked("1\r\nok\r\n0\r\n\r\n"),
        bad(),
    );
    case(
        "9112 7.1",
        "a size of more than 64 bits",
        "GET",
        chunked("fffffffffffffffff\r\nok\r\n0\r\n\r\n"),
        bad(),
    );
    case(
        "9110 6.5.1",
        "framing in a trailer",
        "GET",
        chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        bad(),
    );

    // Responses without content.
    case(
        "9110 9.3.2",
        "HEAD has a length and no content",
        "HEAD",
        ok("Content-Length: 5\r\n", ""),
        accepted(""),
    );
    case(
        "9110 9.3.2",
        "HEAD has a coding and no content",
        "HEAD",
        chunked(""),
        accepted(""),
    );
    case(
        "9110 15.3.5",
        "204 has no content",
        "GET",
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 8.6",
        "204 that announces a length",
        "GET",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9112 6.1",
        "204 that announces chunks",
        "GET",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 15.4.5",
        "304 has a length and no content",
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 15.3.6",
        "205 with a length of 0",
        "GET",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".into(),
        accepted(""),
    );
    case(
        "9110 9.3.2",
        "bytes behind a response to HEAD",
        "HEAD",
        ok("Content-Length: 5\r\n", "hello"),
        Expect::Accepted {
            content: String::new(),
            trailers: vec![],
            rest: "hello",
        },
    );
    case(
        "9110 15.3.5",
        "bytes behind 204",
        "GET",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".into(),
        Expect::Accepted {
            content: String::new(),
            trailers: vec![],
            rest: "hello",
        },
    );

    // Interim responses.
    case(
        "9110 15.2",
        "103, then 200",
        "GET",
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
            ok("Content-Length: 2\r\n", "ok")
        ),
        accepted("ok"),
    );
    case(
        "9110 15.2",
        "100 that nobody waits for",
        "GET",
        format!(
            "HTTP/1.1 100 Continue\r\n\r\n{}",
            ok("Content-Length: 2\r\n", "ok")
        ),
        accepted("ok"),
    );
    case(
        "9110 8.6",
        "an interim response that announces a length",
        "GET",
        format!(
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n{}",
            ok("Content-Length: 2\r\n", "ok")
        ),
        accepted("ok"),
    );
    case(
        "9110 15.2",
        "an interim response and no other",
        "GET",
        "HTTP/1.1 102 Processing\r\n\r\n".into(),
        bad(),
    );
    case(
        "9110 15.2.2",
        "101 that nobody asked for",
        "GET",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n".into(),
        bad(),
    );
    cases
}
