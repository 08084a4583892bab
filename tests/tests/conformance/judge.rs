//! What HNP makes of one message: the judgement that its exchange engine acts on, from the same parsers.

use hnp_dataplane::http::body::{Body, BodyFraming, Piece};
use hnp_dataplane::http::head::{HeadLimits, RequestParser};
use hnp_dataplane::http::response::ResponseParser;

/// Larger than what any case sends, so that a limit is never what refuses.
const LIMITS: HeadLimits = HeadLimits {
    size: 1 << 20,
    first_line: 1 << 18,
    fields: 1000,
};

/// What is read of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is refused; with the status, for a request.
    Refused(u16),
    /// It goes on.
    Incomplete,
    /// It is complete.
    Message(Message),
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method or status.
    pub(crate) start: String,
    /// Content, without framing.
    pub(crate) content: Vec<u8>,
    /// Fields after chunked content: names in lower case.
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// Bytes that belong to it.
    pub(crate) taken: usize,
}

/// The first request in `bytes`.
pub(crate) fn request(bytes: &[u8]) -> Verdict {
    match RequestParser::new().parse(bytes, &LIMITS) {
        Ok(None) => Verdict::Incomplete,
        Err(error) => Verdict::Refused(error.status()),
        Ok(Some((head, length))) => {
            let start = head.method.to_owned();
            content(start, head.framing, bytes, length, false)
        }
    }
}

/// The final response in `bytes` to a request of `method`, interim ones passed over; `ends` says that the connection does behind them.
pub(crate) fn response(bytes: &[u8], method: &str, ends: bool) -> Verdict {
    let mut at = 0;
    loop {
        let parsed = ResponseParser::new().parse(&bytes[at..], &LIMITS, method);
        match parsed {
            // A connection that ends in a head leaves no response.
            Ok(None) if ends => return Verdict::Refused(502),
            Ok(None) => return Verdict::Incomplete,
            Err(_) => return Verdict::Refused(502),
            Ok(Some((head, length))) if head.is_interim() => at += length,
            // Nobody asks for a switch of protocols here.
            Ok(Some((head, _))) if head.status == 101 => return Verdict::Refused(502),
            Ok(Some((head, length))) => {
                let start = head.status.to_string();
                return content(start, head.framing, bytes, at + length, ends);
            }
        }
    }
}

fn content(start: String, framing: BodyFraming, bytes: &[u8], head: usize, ends: bool) -> Verdict {
    let mut body = Body::new(framing);
    let mut message = Message {
        start,
        taken: head,
        ..Message::default()
    };
    let mut last: &[u8] = &[];
    while !body.is_done() && message.taken < bytes.len() {
        let rest = &bytes[message.taken..];
        let Ok(Piece { skip, data }) = body.next(rest) else {
            return Verdict::Refused(400);
        };
        last = &rest[..skip];
        message.content.extend_from_slice(&rest[skip..skip + data]);
        message.taken += skip + data;
    }
    let over = body.is_done() || ends && body.connection_ended().is_ok();
    match over {
        true => {
            message.trailers = trailers(last);
            Verdict::Message(message)
        }
        // Cut short.
        false if ends => Verdict::Refused(502),
        false => Verdict::Incomplete,
    }
}

/// The fields between the last chunk and the empty line.
fn trailers(framing: &[u8]) -> Vec<(String, Vec<u8>)> {
    let framing = framing.strip_prefix(b"\r\n").unwrap_or(framing);
    let mut lines = framing.split(|&b| b == b'\n');
    // The last chunk's own line.
    lines.next();
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
            Some((name, line[colon + 1..].trim_ascii().to_vec()))
        })
        .collect()
}
