//! What must hold whatever bytes come, for fuzzing and for the property tests alike. Each function panics where it does not.

use hnp_dataplane::http::body::{Body, BodyError, Piece, Scan};
use hnp_dataplane::http::head::RequestParser;
use hnp_dataplane::http::response::{ResponseError, ResponseHead, ResponseParser};
use hnp_dataplane::http::rewrite;
use hnp_dataplane::http::{
    Answer, BodyFraming, HeadError, HeadLimits, RequestHead, RequestTarget, Version, parse_request,
};
use hnp_dataplane::target::Target;

/// Small enough that the limits are met, large enough for a real head.
pub fn limits() -> HeadLimits {
    HeadLimits {
        size: 4096,
        first_line: 1024,
        fields: 80,
    }
}

/// Request heads: the verdict does not depend on how the bytes were split (at `split`, and at every byte where there are few), a refused
/// one has a clean answer, an accepted one means the same when it is written down again and when it is forwarded.
pub fn request(bytes: &[u8], split: usize) {
    let whole = parse_request(bytes, &limits());
    same_in_two_parts(bytes, split.min(bytes.len()), &whole);
    if bytes.len() <= 512 {
        same_byte_by_byte(bytes, &whole);
    }
    match whole {
        Ok(None) => {}
        Ok(Some((head, length))) => accepted(&head, &bytes[..length]),
        Err(error) => refused(&error),
    }
}

type Verdict<'a> = Result<Option<(RequestHead<'a>, usize)>, HeadError>;

fn same_in_two_parts(bytes: &[u8], split: usize, whole: &Verdict<'_>) {
    let mut parser = RequestParser::new();
    let verdict = match parser.parse(&bytes[..split], &limits()) {
        Ok(None) => parser.parse(bytes, &limits()),
        done => done,
    };
    assert_eq!(&verdict, whole, "split at {split}");
}

fn same_byte_by_byte(bytes: &[u8], whole: &Verdict<'_>) {
    let mut parser = RequestParser::new();
    let verdict =
        (0..=bytes.len()).find_map(|end| parser.parse(&bytes[..end], &limits()).transpose());
    assert_eq!(&verdict.transpose(), whole, "byte by byte");
}

fn refused(error: &HeadError) {
    let bytes = Answer::from(error.clone()).to_bytes();
    let text = std::str::from_utf8(&bytes).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(
        head.starts_with(&format!("HTTP/1.1 {} ", error.status())),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(
        body.len() < 1024 && body.ends_with('\n') && body.matches('\n').count() == 1,
        "{body}"
    );
    let clean = |b: u8| b == b'\r' || b == b'\n' || (0x20..0x7f).contains(&b);
    assert!(bytes.iter().all(|&b| clean(b)), "{text:?}");
    // A client must be able to read it, whatever it sent.
    let (answer, length) = response_head(&bytes, "GET")
        .expect("sound")
        .expect("complete");
    assert_eq!((answer.status, length), (error.status(), head.len() + 4));
}

fn accepted(head: &RequestHead<'_>, bytes: &[u8]) {
    assert!(bytes.len() <= limits().size + 2 && bytes.ends_with(b"\r\n\r\n"));
    assert!(head.fields.iter().count() <= limits().fields);
    for (name, value) in head.fields {
        assert!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'),
            "{name:?}"
        );
        assert!(
            value
                .iter()
                .all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f)),
            "{name}: {value:?}"
        );
    }
    let again = written(head);
    let (same, length) = parse_request(&again, &HeadLimits::default())
        .expect("accepted again")
        .expect("complete");
    assert_eq!(length, again.len());
    assert_eq!(
        (same.method, same.version, &same.target, same.framing),
        (head.method, head.version, &head.target, head.framing)
    );
    assert!(same.fields.iter().eq(head.fields.iter()));
    let _ = (
        head.host(),
        head.proxy_authorization(),
        head.upgrade(),
        head.expects_continue(),
        head.keeps_alive(),
    );
    forwarded(head);
}

/// The head in its plainest form.
fn written(head: &RequestHead<'_>) -> Vec<u8> {
    let target = match &head.target {
        RequestTarget::Authority(target) => target.to_string(),
        RequestTarget::Absolute {
            target,
            path_and_query,
        } => format!("http://{target}{path_and_query}"),
        RequestTarget::Origin(text) => (*text).to_owned(),
        RequestTarget::Asterisk => "*".to_owned(),
    };
    let version = if head.version == Version::Http10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut out = format!("{} {target} {version}\r\n", head.method).into_bytes();
    for (name, value) in head.fields {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// What leaves for the origin server is one request with the same meaning, for the host that was authorised.
fn forwarded(head: &RequestHead<'_>) {
    let mut out = Vec::new();
    if !rewrite::request_head(head, &mut out) {
        return;
    }
    let RequestTarget::Absolute { target, .. } = &head.target else {
        panic!("only absolute-form is forwarded")
    };
    let large = HeadLimits {
        size: 1 << 16,
        first_line: 1 << 14,
        fields: 200,
    };
    let (sent, length) = parse_request(&out, &large)
        .expect("sound")
        .expect("complete");
    assert_eq!(length, out.len(), "more than one request is sent");
    assert_eq!(
        (sent.method, sent.framing, sent.version),
        (head.method, head.framing, Version::Http11)
    );
    assert_eq!(
        Target::parse_authority_or(sent.host().expect("a host"), 80).as_ref(),
        Ok(target)
    );
    assert!(matches!(
        sent.target,
        RequestTarget::Origin(_) | RequestTarget::Asterisk
    ));
    assert_eq!(sent.proxy_authorization(), None);
    assert_eq!(sent.fields.first("proxy-connection"), None);
}

/// Response heads and what follows them, as answers to a GET and to a HEAD request.
pub fn response(bytes: &[u8], split: usize) {
    for method in ["GET", "HEAD", "CONNECT"] {
        let whole = response_head(bytes, method);
        let mut parser = ResponseParser::new();
        let split = split.min(bytes.len());
        let parts = match parser.parse(&bytes[..split], &limits(), method) {
            Ok(None) => parser.parse(bytes, &limits(), method),
            done => done,
        };
        assert_eq!(parts, whole, "split at {split}");
        if let Ok(Some((head, length))) = whole {
            passed_on(&head, method);
            content(head.framing, &bytes[length..], split);
        }
    }
    content(BodyFraming::Chunked, bytes, split);
}

fn response_head<'a>(
    bytes: &'a [u8],
    method: &str,
) -> Result<Option<(ResponseHead<'a>, usize)>, ResponseError> {
    ResponseParser::new().parse(bytes, &limits(), method)
}

/// What leaves for the client is one response that ends where the upstream's ends.
fn passed_on(head: &ResponseHead<'_>, method: &str) {
    let mut out = Vec::new();
    rewrite::response_head(head, false, true, &mut out);
    let large = HeadLimits {
        size: 1 << 16,
        first_line: 1 << 14,
        fields: 200,
    };
    let parsed = ResponseParser::new()
        .parse(&out, &large, method)
        .expect("sound");
    let (sent, length) = parsed.expect("complete");
    assert_eq!(length, out.len(), "more than one response is sent");
    assert_eq!((sent.status, sent.framing), (head.status, head.framing));
}

/// Content: however it is split, the same bytes are taken and the same error is found; taking it apart takes the same bytes.
pub fn content(framing: BodyFraming, bytes: &[u8], split: usize) {
    let whole = scan_all(framing, &[bytes]);
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    assert_eq!(
        scan_all(framing, &[first, second]),
        whole,
        "split at {split}"
    );
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(scan_all(framing, &single), whole, "byte by byte");
    assert_eq!(take_apart(framing, bytes), whole, "taken apart");
}

fn scan_all(framing: BodyFraming, parts: &[&[u8]]) -> Result<Scan, BodyError> {
    let mut body = Body::new(framing);
    let mut take = 0;
    for part in parts {
        let scan = body.scan(part)?;
        assert!(
            scan.take == part.len() || scan.done,
            "bytes of an open message are left"
        );
        take += scan.take;
    }
    Ok(Scan {
        take,
        done: body.is_done(),
    })
}

fn take_apart(framing: BodyFraming, bytes: &[u8]) -> Result<Scan, BodyError> {
    let mut body = Body::new(framing);
    let mut take = 0;
    while take < bytes.len() && !body.is_done() {
        let Piece { skip, data } = body.next(&bytes[take..])?;
        assert!(skip + data > 0, "no progress");
        take += skip + data;
    }
    Ok(Scan {
        take,
        done: body.is_done(),
    })
}
