//! Heads between the versions (RFC 9113 section 8.3): a request becomes its HTTP/1.1 equivalent, so that there is one set of rules, and
//! back, where the upstream speaks HTTP/2.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, request};

use super::message::{Broken, Heads};
use crate::http::answer::Answer;
use crate::http::fields::Fields;
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::response::ResponseHead;
use crate::http::rewrite::write_field;

/// How HNP names itself in `Via` for a message that came in HTTP/1.1.
const VIA_11: &[u8] = b"\r\nVia: 1.1 hnp\r\n";
/// The same for one that came in HTTP/2.
const VIA_2: &[u8] = b"\r\nVia: 2 hnp\r\n";
const VIA_2_VALUE: &str = "2 hnp";

/// Fields that belong to one connection: in HTTP/2 they must not stand (RFC 9113 section 8.2.2), or are for the next hop alone.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// A request's head as HTTP/1.1 would have it. `ended` says that no content follows.
///
/// # Errors
/// 400 where the head has no such equivalent.
pub(crate) fn request_to_http1(head: &request::Parts, ended: bool) -> Result<Vec<u8>, Answer> {
    let authority = authority(head)?;
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    if head.method == Method::CONNECT {
        out.extend_from_slice(authority);
    } else {
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        out.extend_from_slice(path.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(&mut out, "host", authority);
    let mut cookies = head.headers.get_all(header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        // RFC 9113 section 8.2.3.
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for crumb in cookies {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &head.headers {
        if name == header::HOST || name == header::COOKIE {
            continue;
        }
        if HOP_BY_HOP.contains(&name.as_str()) && name != header::PROXY_AUTHORIZATION {
            return Err(malformed(format!(
                "the field `{name}` belongs to HTTP/1.1 and must not stand in HTTP/2 (RFC 9113 section 8.2.2)"
            )));
        }
        write_field(&mut out, name.as_str(), value.as_bytes());
    }
    if !ended
        && head.method != Method::CONNECT
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        write_field(&mut out, "transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// `:authority`, or `Host` where there is none; both must not differ (RFC 9113 section 8.3.1).
fn authority(head: &request::Parts) -> Result<&[u8], Answer> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(malformed("there is more than one Host field".to_owned()));
    }
    let authority = head.uri.authority().map(|a| a.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(malformed(
            "`:authority` and Host name different hosts".to_owned(),
        )),
        (Some(authority), _) => Ok(authority),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(malformed(
            "neither `:authority` nor Host says which host is meant".to_owned(),
        )),
    }
}

/// Has a head that the rewriting has made say which version the request came in. Names that came over HTTP/2 are in lower case: `Via` is
/// HNP's own.
pub(crate) fn name_version(head: &mut Vec<u8>) {
    if let Some(at) = head.windows(VIA_11.len()).position(|some| some == VIA_11) {
        head.splice(at..at + VIA_11.len(), VIA_2.iter().copied());
    }
}

/// A head that the rewriting has made as HTTP/2 has it, for an upstream that is reached by `scheme`.
///
/// # Errors
/// 400 where a field cannot stand in HTTP/2.
pub(crate) fn request_to_http2(head: Vec<u8>, scheme: Scheme) -> Result<Request<()>, Answer> {
    let head = Bytes::from(head);
    let request = || -> Option<Request<()>> {
        let first = head.iter().position(|&b| b == b'\n')? + 1;
        let mut words = head[..first].split(|&b| b == b' ');
        let method = Method::from_bytes(words.next()?).ok()?;
        let path = words.next()?;
        let path = PathAndQuery::from_maybe_shared(head.slice_ref(path)).ok()?;
        let fields = Fields::checked(head.get(first..head.len() - 2)?);
        let mut authority = None;
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("host") {
                authority = Some(Authority::from_maybe_shared(head.slice_ref(value)).ok()?);
            } else {
                append(&mut headers, name, head.slice_ref(value))?;
            }
        }
        let mut parts = uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = authority;
        parts.path_and_query = Some(path);
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        *request.headers_mut() = headers;
        Some(request)
    };
    request().ok_or_else(|| malformed("its head cannot be said in HTTP/2".to_owned()))
}

/// Adds a field unless it belongs to an HTTP/1.1 connection; of `TE` only `trailers` may stand (RFC 9113 section 8.2.2).
fn append(headers: &mut HeaderMap, name: &str, value: Bytes) -> Option<()> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if HOP_BY_HOP.contains(&name.as_str()) || (name == header::TE && &*value != b"trailers") {
        return Some(());
    }
    headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    Some(())
}

/// The head of an HTTP/1.1 response as the client gets it.
///
/// # Errors
/// It has a field that HTTP/2 cannot say.
pub(crate) fn response(
    head: &ResponseHead<'_>,
    heads: &impl Heads,
) -> Result<Response<()>, Broken> {
    let mut rewritten = Vec::with_capacity(512);
    heads.response(head, &mut rewritten);
    response_from(&rewritten.into()).ok_or_else(|| {
        Broken::Malformed(
            ErrorType::HttpProtocolError,
            "the head of its response cannot be said in HTTP/2".to_owned(),
        )
    })
}

fn response_from(head: &Bytes) -> Option<Response<()>> {
    let first = head.iter().position(|&b| b == b'\n')? + 1;
    let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in Fields::checked(head.get(first..head.len() - 2)?) {
        append(&mut headers, name, head.slice_ref(value))?;
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Some(response)
}

/// The head of an HTTP/2 response as a client of HTTP/2 gets it.
pub(crate) fn response_between(mut head: Response<()>, heads: &impl Heads) -> Response<()> {
    let headers = head.headers_mut();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let Some(value) = headers.get(&name) else {
            continue;
        };
        if let Some(other) = heads.location(value.as_bytes())
            && let Ok(other) = HeaderValue::from_maybe_shared(Bytes::from(other))
        {
            headers.insert(name, other);
        }
    }
    headers.append(header::VIA, HeaderValue::from_static(VIA_2_VALUE));
    *head.version_mut() = http::Version::HTTP_2;
    head
}

/// What HNP itself says, and the text that goes with it (nothing, in answer to HEAD).
pub(crate) fn answer(answer: &Answer, method: &Method) -> (Response<()>, Bytes) {
    let bytes = Bytes::from(answer.to_bytes());
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(bytes.len(), |at| at + 4);
    let head = response_from(&bytes.slice(..end)).unwrap_or_else(|| {
        // HNP's own answers can be said in either version; only the status matters where one could not.
        let mut head = Response::new(());
        *head.status_mut() =
            StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        head
    });
    let body = if method == Method::HEAD {
        Bytes::new()
    } else {
        bytes.slice(end..)
    };
    (head, body)
}

fn malformed(why: String) -> Answer {
    Answer::new(400, ErrorType::HttpRequestError, Side::Client, why)
}
