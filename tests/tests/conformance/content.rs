//! Requests with content: where it ends, whether its length is said before or in chunks (RFC 9112, sections 6 and 7).

use super::requests::{chunked, get, post};
use super::{Case, Expect, accepted, refused};

/// All of them: the section, what it is, the bytes, and what becomes of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |section, name, bytes: String, expect| {
        cases.push(Case::request(section, name, bytes.into_bytes(), expect));
    };

    // Content-Length.
    case(
        "9112 6.2",
        "content of a length",
        post("Content-Length: 5\r\n", "hello"),
        accepted("hello"),
    );
    case(
        "9112 6.2",
        "a length of 0",
        post("Content-Length: 0\r\n", ""),
        accepted(""),
    );
    case(
        "9112 6.2",
        "leading zeros",
        post("Content-Length: 0005\r\n", "hello"),
        accepted("hello"),
    );
    case(
        "9110 8.6",
        "GET with content",
        get("Content-Length: 5\r\n") + "hello",
        accepted("hello"),
    );
    case(
        "9110 8.6",
        "a sign",
        post("Content-Length: +5\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "a negative length",
        post("Content-Length: -5\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "a hexadecimal length",
        post("Content-Length: 0x5\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "a fraction",
        post("Content-Length: 5.0\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "digits with an underscore",
        post("Content-Length: 1_0\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "an empty length",
        post("Content-Length:\r\n", ""),
        refused(400),
    );
    case(
        "9110 8.6",
        "more than 64 bits",
        post("Content-Length: 18446744073709551616\r\n", ""),
        refused(400),
    );
    case(
        "9110 8.6",
        "two lengths",
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "one length twice",
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        refused(400),
    );
    case(
        "9110 8.6",
        "a list of one length",
        post("Content-Length: 5, 5\r\n", "hello"),
        refused(400),
    );

    // Transfer-Encoding.
    case(
        "9112 6.1",
        "chunks",
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        accepted("hello"),
    );
    case(
        "9112 6.1",
        "codings have no case",
        post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"),
        accepted(""),
    );
    case(
        "9112 6.1",
        "both framings",
        post(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        refused(400),
    );
    case(
        "9112 6.1",
        "both framings, the other way round",
        post(
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        ),
        refused(400),
    );
    case(
        "9112 6.1",
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        refused(400),
    );
    case(
        "9112 6.1",
        "an unknown coding before chunked",
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        refused(501),
    );
    case(
        "9112 6.3",
        "chunked is not the last",
        post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 6.3",
        "chunked twice",
        post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 6.3",
        "chunked on two lines",
        post(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        refused(400),
    );
    case(
        "9112 6.3",
        "identity",
        post("Transfer-Encoding: identity\r\n", ""),
        refused(400),
    );
    case(
        "9112 6.3",
        "no coding",
        post("Transfer-Encoding:\r\n", ""),
        refused(400),
    );
    case(
        "9112 7",
        "chunked with a parameter",
        post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 6.3",
        "a vertical tab before chunked",
        post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
        refused(400),
    );

    // The chunks.
    case(
        "9112 7.1",
        "several chunks",
        chunked("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        accepted("hello"),
    );
    case(
        "9112 7.1",
        "sizes in capitals",
        chunked("A\r\n0123456789\r\n0\r\n\r\n"),
        accepted("0123456789"),
    );
    case(
        "9112 7.1",
        "sizes with zeros",
        chunked("0005\r\nhello\r\n000\r\n\r\n"),
        accepted("hello"),
    );
    case(
        "9112 7.1",
        "a size with 0x",
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "no size",
        chunked("\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "a negative size",
        chunked("-5\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "a blank before a size",
        chunked(" 5\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "a size of more than 64 bits",
        chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "a size line that ends in LF",
        chunked("5\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "data longer than its size",
        chunked("4\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1",
        "data that ends in LF",
        chunked("5\r\nhello\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1.1",
        "an extension",
        chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        accepted("hello"),
    );
    case(
        "9112 7.1.1",
        "an extension with LF",
        chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1.1",
        "an extension without end",
        chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(5000))),
        refused(400),
    );
    case(
        "9112 7.1.2",
        "a trailer",
        chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"),
        Expect::Accepted {
            content: "hello".into(),
            trailers: vec![("x-sum", "1"), ("x-more", "2")],
            rest: "",
        },
    );
    case(
        "9110 6.5.1",
        "framing in a trailer",
        chunked("0\r\nContent-Length: 5\r\n\r\n"),
        refused(400),
    );
    case(
        "9110 6.5.1",
        "a Host in a trailer",
        chunked("0\r\nHost: b.test\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1.2",
        "a folded trailer",
        chunked("0\r\nX: a\r\n b\r\n\r\n"),
        refused(400),
    );
    case(
        "9112 7.1.2",
        "a trailer without a colon",
        chunked("0\r\nX\r\n\r\n"),
        refused(400),
    );
    cases
}
