//! RFC 9112 and RFC 9110 by table, requests and responses: each case is judged by the parsers and by a node on the wire; and
//! generated messages are judged by HNP and by Python's `h11`. (That a verdict does not depend on how bytes are split: `hostile_heads`, fuzzing.)
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "conformance/content.rs"]
mod content;
#[path = "conformance/differential.rs"]
mod differential;
#[path = "conformance/judge.rs"]
mod judge;
#[path = "conformance/requests.rs"]
mod requests;
#[path = "conformance/responses.rs"]
mod responses;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use hnp_tests::exchange::{read_response, read_response_head};
use hnp_tests::server::Accepted;
use hnp_tests::{DEADLINE, Node, Server};
use judge::{Message, Verdict};

/// One message and what becomes of it.
struct Case {
    section: &'static str,
    name: &'static str,
    bytes: Vec<u8>,
    /// Of the request that a response answers; nothing: it is a request itself.
    answers: Option<&'static str>,
    expect: Expect,
}

enum Expect {
    /// Of requests: with this status; of responses: 502.
    Refused(u16),
    /// The connection ends in the midst of the content.
    Cut,
    Incomplete,
    Accepted {
        content: String,
        trailers: Vec<(&'static str, &'static str)>,
        /// What does not belong to it.
        rest: &'static str,
    },
}

fn accepted(content: &str) -> Expect {
    Expect::Accepted {
        content: content.to_owned(),
        trailers: Vec::new(),
        rest: "",
    }
}

fn refused(status: u16) -> Expect {
    Expect::Refused(status)
}

impl Case {
    fn request(section: &'static str, name: &'static str, bytes: Vec<u8>, expect: Expect) -> Case {
        Case {
            section,
            name,
            bytes,
            answers: None,
            expect,
        }
    }

    fn response(
        section: &'static str,
        name: &'static str,
        answers: &'static str,
        bytes: Vec<u8>,
        expect: Expect,
    ) -> Case {
        Case {
            answers: Some(answers),
            ..Case::request(section, name, bytes, expect)
        }
    }

    fn judged(&self) -> Verdict {
        match self.answers {
            None => judge::request(&self.bytes),
            Some(method) => judge::response(&self.bytes, method, true),
        }
    }

    fn is_as_expected(&self, verdict: &Verdict) -> bool {
        match (&self.expect, verdict) {
            (Expect::Refused(status), Verdict::Refused(got)) => {
                self.answers.is_some() || status == got
            }
            (Expect::Cut, Verdict::Refused(_)) | (Expect::Incomplete, Verdict::Incomplete) => true,
            (
                Expect::Accepted {
                    content,
                    trailers,
                    rest,
                },
                Verdict::Message(message),
            ) => {
                let same = |(name, value): (&(&str, &str), &(String, Vec<u8>))| {
                    name.0 == value.0 && name.1.as_bytes() == value.1
                };
                message.content == content.as_bytes()
                    && message.trailers.len() == trailers.len()
                    && trailers.iter().zip(&message.trailers).all(same)
                    && &self.bytes[message.taken..] == rest.as_bytes()
            }
            _ => false,
        }
    }
}

fn all() -> Vec<Case> {
    let mut cases = requests::cases();
    cases.extend(responses::cases());
    cases
}

#[test]
fn there_are_enough_cases_and_none_twice() {
    let cases = all();
    println!(
        "{} requests, {} responses",
        requests::cases().len(),
        responses::cases().len()
    );
    assert!(cases.len() >= 80, "{}", cases.len());
    let mut bytes: Vec<_> = cases
        .iter()
        .map(|case| (&case.bytes, case.answers))
        .collect();
    bytes.sort_unstable();
    bytes.dedup();
    assert_eq!(bytes.len(), cases.len(), "two cases are one");
}

#[test]
fn each_is_judged_as_its_section_says() {
    let mut wrong = Vec::new();
    for case in all() {
        let verdict = case.judged();
        if !case.is_as_expected(&verdict) {
            wrong.push(format!("RFC {}: {}: {verdict:?}", case.section, case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A node that serves what comes to it from one server.
fn node(server: &Server) -> Node {
    Node::builder()
        .config(&format!(
            "modes = [\"reverse-proxy\"]\n[upstream]\nurl = \"http://{}\"\n",
            server.address()
        ))
        .start()
}

fn open(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The message that arrives at an upstream, read from its connection: head, then what its head announces.
fn arriving(stream: &mut TcpStream, head: String) -> Message {
    let mut bytes = head.into_bytes();
    loop {
        match judge::request(&bytes) {
            Verdict::Message(message) => {
                assert_eq!(message.taken, bytes.len(), "more than one request came");
                return message;
            }
            Verdict::Incomplete => {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                bytes.push(byte[0]);
            }
            Verdict::Refused(_) => panic!("a broken request came: {bytes:?}"),
        }
    }
}

/// Sends a request on a connection of its own; an upstream answers whatever arrives. Says what was wrong.
fn on_the_wire(node: &Node, accepted: &Accepted, case: &Case) -> Result<(), String> {
    let mut client = open(node);
    // A refusal may come, and the connection go, before all is written.
    let _ = client.write_all(&case.bytes);
    match &case.expect {
        Expect::Refused(status) => {
            let response = read_response(&mut client).map_err(|e| e.to_string())?;
            if response.status != *status {
                return Err(format!("{} instead of {status}", response.status));
            }
        }
        Expect::Incomplete => {
            client.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest);
            if rest.starts_with(b"HTTP/1.1 2") {
                return Err("half a request was answered".to_owned());
            }
        }
        Expect::Cut => unreachable!("only responses are cut"),
        Expect::Accepted {
            content, trailers, ..
        } => {
            let (mut upstream, head) = accepted.request();
            let message = arriving(&mut upstream, head);
            if message.content != content.as_bytes() || message.trailers.len() != trailers.len() {
                return Err(format!("{message:?} came"));
            }
            upstream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            let response = read_response_head(&mut client).map_err(|e| e.to_string())?;
            if response.status != 200 {
                return Err(format!("{} instead of 200", response.status));
            }
        }
    }
    Ok(())
}

#[test]
fn a_node_does_so_to_requests_and_passes_on_none_that_it_refuses() {
    let (server, accepted) = Server::handing_over();
    let node = node(&server);
    let mut wrong = Vec::new();
    for case in requests::cases() {
        // What is cut off, or followed by another, reaches the upstream in part: the exchange tests are about those.
        if matches!(&case.expect, Expect::Accepted { rest, .. } if !rest.is_empty())
            || matches!(case.expect, Expect::Incomplete)
        {
            continue;
        }
        if let Err(what) = on_the_wire(&node, &accepted, &case) {
            wrong.push(format!("RFC {}: {}: {what}", case.section, case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each request that was passed on has been taken at the upstream; a refused one would still be there.
    assert_eq!(accepted.waiting(), 0, "a refused request was passed on");
}

#[test]
fn a_node_does_so_to_responses() {
    let (server, accepted) = Server::handing_over();
    let node = node(&server);
    let mut wrong = Vec::new();
    for case in responses::cases() {
        let mut client = open(&node);
        let method = case.answers.unwrap();
        write!(client, "{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let (mut upstream, _) = accepted.request();
        upstream.write_all(&case.bytes).unwrap();
        drop(upstream);
        let mut bytes = Vec::new();
        // A response that is cut may have reset the connection already.
        let _ = client.shutdown(Shutdown::Write);
        let end = client.read_to_end(&mut bytes);
        let verdict = judge::response(&bytes, method, true);
        let right = match (&case.expect, &verdict) {
            (Expect::Refused(_), Verdict::Message(message)) => {
                message.start == "502" && message.taken == bytes.len()
            }
            (Expect::Cut, Verdict::Refused(_)) => end.is_err(),
            (
                Expect::Accepted {
                    content, trailers, ..
                },
                Verdict::Message(message),
            ) => {
                message.content == content.as_bytes()
                    && message.trailers.len() == trailers.len()
                    && message.taken == bytes.len()
                    && message.start != "502"
            }
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "RFC {}: {}: {verdict:?} from {:?} ({end:?})",
                case.section,
                case.name,
                String::from_utf8_lossy(&bytes)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
