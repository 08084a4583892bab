//! A connection's messages as the exchange engine reads and passes them: the same however the bytes are split, and never more than one
//! message for one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::OnceLock;

use hnp_dataplane::http::body::{Body, BodyFraming, Piece};
use hnp_dataplane::http::head::{RequestParser, RequestTarget};
use hnp_dataplane::http::response::ResponseParser;
use hnp_dataplane::http::reverse::{Client, Rewriter};
use hnp_dataplane::http::{HeadLimits, parse_request};
use hnp_dataplane::origin::{Origin, Route};
use url::Url;

use crate::oracle::limits;

/// Room for what is added to a head on its way.
const LARGE: HeadLimits = HeadLimits {
    size: 1 << 16,
    first_line: 1 << 14,
    fields: 200,
};

/// What came of the bytes of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    /// Messages that are complete, as they leave.
    complete: Vec<Vec<u8>>,
    /// The content of each, without framing.
    contents: Vec<Vec<u8>>,
    /// The message that is not complete, unless it is refused.
    open: Vec<u8>,
    refused: bool,
    /// The connection cannot be used for a message more.
    over: bool,
}

/// A connection of a client (`role` even) or of an upstream, which is sent `bytes`, split behind each of `splits` bytes.
pub fn connection(role: u8, splits: &[u8], bytes: &[u8]) {
    let whole = read(role, &[bytes]);
    let mut parts = Vec::new();
    let mut rest = bytes;
    for split in splits {
        let (part, more) = rest.split_at(usize::from(*split).min(rest.len()));
        parts.push(part);
        rest = more;
    }
    parts.push(rest);
    assert_eq!(read(role, &parts), whole, "split behind {splits:?}");
    if bytes.len() < 300 {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(role, &single), whole, "byte by byte");
    }
    for (message, content) in whole.complete.iter().zip(&whole.contents) {
        one_message(role, message, content);
    }
}

fn read(role: u8, parts: &[&[u8]]) -> Passed {
    let mut reader = Reader {
        role,
        passed: Passed::default(),
        content: Vec::new(),
        state: State::new(role),
    };
    let mut buffer = Vec::new();
    for part in parts {
        buffer.extend_from_slice(part);
        while reader.step(&mut buffer) {}
        if reader.passed.refused || reader.passed.over {
            reader.passed.open.clear();
            break;
        }
    }
    reader.passed
}

enum State {
    Request(RequestParser),
    Response(ResponseParser),
    Content(Body),
}

impl State {
    fn new(role: u8) -> State {
        match role % 2 {
            0 => State::Request(RequestParser::new()),
            _ => State::Response(ResponseParser::new()),
        }
    }
}

struct Reader {
    role: u8,
    passed: Passed,
    content: Vec<u8>,
    state: State,
}

impl Reader {
    /// Takes what it can; false when it needs more, or wants no more.
    fn step(&mut self, buffer: &mut Vec<u8>) -> bool {
        if self.passed.refused || self.passed.over {
            return false;
        }
        match &mut self.state {
            State::Request(parser) => match parser.parse(buffer, &limits()) {
                Ok(None) => return false,
                Err(_) => self.passed.refused = true,
                Ok(Some((head, _)))
                    if !matches!(
                        head.target,
                        RequestTarget::Origin(_) | RequestTarget::Asterisk
                    ) =>
                {
                    self.passed.over = true;
                }
                Ok(Some((head, length))) => {
                    let framing = head.framing;
                    rewriter()
                        .request_head(&head, &mut self.passed.open)
                        .expect("everything is served");
                    buffer.drain(..length);
                    self.begin(framing);
                }
            },
            State::Response(parser) => match parser.parse(buffer, &limits(), method(self.role)) {
                Ok(None) => return false,
                Err(_) => self.passed.refused = true,
                Ok(Some((head, _))) if head.status == 101 => self.passed.over = true,
                Ok(Some((head, length))) => {
                    let framing = head.framing;
                    rewriter().response_head(&head, false, true, &mut self.passed.open);
                    buffer.drain(..length);
                    self.begin(framing);
                }
            },
            State::Content(body) => {
                let mut taken = 0;
                let mut broken = false;
                while taken < buffer.len() && !body.is_done() {
                    match body.next(&buffer[taken..]) {
                        Ok(Piece { skip, data }) => {
                            let data = taken + skip..taken + skip + data;
                            taken = data.end;
                            self.content.extend_from_slice(&buffer[data]);
                        }
                        Err(_) => {
                            broken = true;
                            break;
                        }
                    }
                }
                self.passed.open.extend_from_slice(&buffer[..taken]);
                buffer.drain(..taken);
                if broken {
                    self.passed.refused = true;
                } else if !body.is_done() {
                    return false;
                } else {
                    self.complete();
                }
            }
        }
        true
    }

    fn begin(&mut self, framing: BodyFraming) {
        let body = Body::new(framing);
        if body.is_done() {
            self.complete();
        } else {
            self.state = State::Content(body);
        }
    }

    fn complete(&mut self) {
        self.passed
            .complete
            .push(std::mem::take(&mut self.passed.open));
        self.passed.contents.push(std::mem::take(&mut self.content));
        self.state = State::new(self.role);
    }
}

/// What left is one message to whoever reads it next, with the same content, and nothing behind it.
fn one_message(role: u8, message: &[u8], content: &[u8]) {
    let (framing, head) = match role % 2 {
        0 => {
            let (head, length) = parse_request(message, &LARGE)
                .expect("sound")
                .expect("complete");
            (head.framing, length)
        }
        _ => {
            let parsed = ResponseParser::new().parse(message, &LARGE, method(role));
            let (head, length) = parsed.expect("sound").expect("complete");
            (head.framing, length)
        }
    };
    let mut body = Body::new(framing);
    let mut at = head;
    let mut again = Vec::new();
    while !body.is_done() {
        assert!(at < message.len(), "it is cut short");
        let Piece { skip, data } = body.next(&message[at..]).expect("sound");
        again.extend_from_slice(&message[at + skip..at + skip + data]);
        at += skip + data;
    }
    assert_eq!(at, message.len(), "more than one message");
    assert_eq!(again, content);
}

/// Of the requests that responses answer.
fn method(role: u8) -> &'static str {
    match role / 2 % 2 {
        0 => "GET",
        _ => "HEAD",
    }
}

fn rewriter() -> &'static Rewriter {
    static REWRITER: OnceLock<Rewriter> = OnceLock::new();
    REWRITER.get_or_init(|| {
        let url = Url::parse("http://origin.test:8080/").expect("a url");
        let route = Route {
            origin: Arc::new(Origin::new(&url, None).expect("a host")),
            prefix: "".into(),
            server_name: None,
            forwarded_headers: true,
            client_certificate_header: true,
        };
        let client = Client {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            over_tls: false,
            certificate: Some("Hash=0"),
        };
        Rewriter::new(&Arc::new(route), client)
    })
}
