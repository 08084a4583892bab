//! Generated messages, judged by HNP and by Python's `h11`, which is strict as well. What `h11` refuses HNP refuses; where both
//! accept, content, trailers and what follows are the same. HNP refuses more than `h11` does, which the table of requests and responses
//! is about.
//!
//! HNP accepts what `h11` does not in these cases, and nothing else may be the cause ([`is_meant`]):
//! * blanks between the name of a response's field and its colon: RFC 9112 section 5.1 has a proxy remove them, not refuse;
//! * a transfer coding other than `chunked` in a response that has no content, where nothing is coded;
//! * a malformed line of a head whose end has not come: `h11` refuses as soon as the line is there, HNP with the head.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hnp_tests::random::{self, Random};
use hnp_tests::{bin, process};
use serde_json::{Value, json};

use super::judge::{self, Verdict};

/// Messages of each kind.
const MESSAGES: usize = 20_000;

/// What a message is put together from. The first of each is sound; the rest are the ways in which implementations differ.
const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "get", "G@T", "", "M-SEARCH",
];
const TARGETS: &[&str] = &[
    "/", "/a?b=c", "/a%20b", "//", "/a b", "/#x", "*", "", "/\u{e9}",
];
const VERSIONS: &[&str] = &[
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "http/1.1",
    "HTTP/1.11",
    "",
];
const STATUSES: &[&str] = &[
    "200 OK",
    "200 OK",
    "201 Created",
    "204 No Content",
    "304 Not Modified",
    "404 ",
    "500",
    "99 Low",
    "2000 High",
    "abc",
    "600 Odd",
    "103 Early Hints",
];
const FRAMINGS: &[&str] = &[
    "",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: Chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length : 5\r\n",
    "Content-Length:\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
];
const FIELDS: &[&str] = &[
    "",
    "",
    "",
    "Accept: */*\r\n",
    "X-Empty:\r\n",
    "X: a\tb\r\n",
    "X: \u{e9}\r\n",
    "Connection: close\r\n",
    "X : y\r\n",
    "X: a\r\n b\r\n",
    "X: a\0b\r\n",
    "X: a\u{7f}\r\n",
    "X: \u{1}\r\n",
    "X\r\n",
    ": x\r\n",
    "X(): y\r\n",
    "X: a\rb\r\n",
    "X: a\n",
    "Expect: 100-continue\r\n",
    "Trailer: X-Sum\r\n",
    "\tX: y\r\n",
    "Host: b.test\r\n",
];
const HOSTS: &[&str] = &[
    "Host: a.test\r\n",
    "Host: a.test\r\n",
    "Host: a.test\r\n",
    "Host: a.test:80\r\n",
    "host: [::1]\r\n",
    "",
    "Host: a.test, b.test\r\n",
    "Host:\r\n",
    "Host: a b\r\n",
];
const CONTENTS: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    "5;x=y\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n",
    "5\r\nhello\r\n0\r\nX\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n",
    "5\r\nhello\r\n0\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "11111111111111111\r\nx",
    "\r\n",
    "5;\u{1}\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "helloGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
];

/// The first element of each three times out of four, so that most messages have one fault or none.
fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    if random.between(0, 3) > 0 {
        from[0]
    } else {
        from[random.between(0, from.len() - 1)]
    }
}

fn any<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.between(0, from.len() - 1)]
}

fn request(random: &mut Random) -> Vec<u8> {
    let method = pick(random, METHODS);
    let target = pick(random, TARGETS);
    let version = pick(random, VERSIONS);
    let host = pick(random, HOSTS);
    let rest = rest(random);
    format!("{method} {target} {version}\r\n{host}{rest}").into_bytes()
}

fn response(random: &mut Random) -> Vec<u8> {
    let version = pick(random, VERSIONS);
    let status = pick(random, STATUSES);
    let rest = rest(random);
    format!("{version} {status}\r\n{rest}").into_bytes()
}

fn rest(random: &mut Random) -> String {
    let one = pick(random, FIELDS);
    let framing = any(random, FRAMINGS);
    let other = pick(random, FIELDS);
    let content = any(random, CONTENTS);
    format!("{one}{framing}{other}\r\n{content}")
}

/// Changes a byte somewhere, in one of two.
fn spoilt(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    if random.between(0, 1) == 1 || bytes.is_empty() {
        return bytes;
    }
    let at = random.between(0, bytes.len() - 1);
    let telling = b"\0\t\n\r ,:;/?#0159aAxX-+\x7f\x80\xff\x0b\x0c";
    match random.between(0, 2) {
        0 => bytes[at] = telling[random.between(0, telling.len() - 1)],
        1 => bytes.insert(at, telling[random.between(0, telling.len() - 1)]),
        _ => drop(bytes.remove(at)),
    }
    bytes
}

struct Sent {
    bytes: Vec<u8>,
    answers: Option<&'static str>,
}

fn judged_by_h11(messages: &[Sent]) -> Vec<Value> {
    let python = bin::target_directory().join("venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: `cargo xtask test` installs it",
        python.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/h11_judge.py");
    let mut input = tempfile::tempfile().unwrap();
    for Sent { bytes, answers } in messages {
        let line = json!({ "bytes": STANDARD.encode(bytes), "answers": answers });
        writeln!(input, "{line}").unwrap();
    }
    std::io::Seek::rewind(&mut input).unwrap();
    let mut command = Command::new(python);
    command.arg("-B").arg(script);
    let limit = Duration::from_secs(120);
    let output = process::run_with(&mut command, limit, input.into(), process::read_all).success();
    let verdicts: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(verdicts.len(), messages.len());
    verdicts
}

fn ours(sent: &Sent) -> Verdict {
    match sent.answers {
        None => judge::request(&sent.bytes),
        Some(method) => judge::response(&sent.bytes, method, true),
    }
}

/// What the two say, where they must not differ.
fn disagreement(sent: &Sent, ours: &Verdict, theirs: &Value) -> Option<String> {
    let refused = &theirs["refused"];
    match ours {
        // What we refuse and they accept is a choice: see the list in the documentation of `http::head`.
        Verdict::Refused(_) => None,
        Verdict::Incomplete if theirs["content"].is_null() && refused.is_null() => None,
        _ if is_meant(sent, ours, refused) => None,
        Verdict::Incomplete => Some("incomplete to HNP only".to_owned()),
        Verdict::Message(message) => {
            let Some(content) = theirs["content"].as_str() else {
                return Some("accepted by HNP only".to_owned());
            };
            let decode = |text: &str| STANDARD.decode(text).unwrap();
            let trailers: Vec<(String, Vec<u8>)> = theirs["trailers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| {
                    let name = pair[0].as_str().unwrap().to_owned();
                    (name, decode(pair[1].as_str().unwrap()))
                })
                .collect();
            if message.content != decode(content) {
                return Some("content differs".to_owned());
            }
            if message.trailers != trailers {
                return Some("trailers differ".to_owned());
            }
            let rest = decode(theirs["rest"].as_str().unwrap());
            (sent.bytes[message.taken..] != rest).then(|| "what follows differs".to_owned())
        }
    }
}

/// Whether this is one of the differences that are meant.
fn is_meant(sent: &Sent, ours: &Verdict, refused: &Value) -> bool {
    let why = refused.as_str().unwrap_or_default();
    match ours {
        Verdict::Incomplete => !why.is_empty() && !contains(&sent.bytes, b"\r\n\r\n"),
        Verdict::Message(message) => {
            let of_response = sent.answers.is_some();
            let blank = why.starts_with("illegal header line")
                && (contains(&sent.bytes, b" :") || contains(&sent.bytes, b"\t:"));
            let coded = why.contains("Transfer-Encoding") && message.content.is_empty();
            of_response && (blank || coded)
        }
        Verdict::Refused(_) => true,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn what_h11_refuses_hnp_refuses_and_messages_end_where_h11_ends_them() {
    let mut random = Random::new(random::seed());
    let mut messages = Vec::new();
    for _ in 0..MESSAGES {
        let bytes = request(&mut random);
        messages.push(Sent {
            bytes: spoilt(&mut random, bytes),
            answers: None,
        });
        let bytes = response(&mut random);
        let answers = any(&mut random, &["GET", "GET", "POST", "HEAD"]);
        messages.push(Sent {
            bytes: spoilt(&mut random, bytes),
            answers: Some(answers),
        });
    }
    let theirs = judged_by_h11(&messages);
    let mut both = 0;
    let mut by_us = 0;
    let mut wrong = Vec::new();
    for (sent, theirs) in messages.iter().zip(&theirs) {
        let ours = ours(sent);
        match (&ours, theirs["content"].is_null()) {
            (Verdict::Message(_), false) => both += 1,
            (Verdict::Refused(_), false) => by_us += 1,
            _ => {}
        }
        if let Some(what) = disagreement(sent, &ours, theirs) {
            wrong.push(format!(
                "{what}: {:?} {:?}\n  HNP: {ours:?}\n  h11: {theirs}",
                sent.answers,
                String::from_utf8_lossy(&sent.bytes)
            ));
        }
    }
    println!(
        "{} messages: {both} accepted by both, {by_us} by h11 only",
        messages.len()
    );
    // A generator whose messages nobody accepts, or everybody, shows nothing.
    assert!(both > MESSAGES / 10 && both < 2 * MESSAGES, "{both}");
    let count = wrong.len();
    wrong.truncate(10);
    assert!(
        wrong.is_empty(),
        "{count} disagreements, such as\n{}",
        wrong.join("\n")
    );
}
