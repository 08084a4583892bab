//! One HTTP/1.1 message at a time, read without a byte too much: what follows a head belongs to the tunnel.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::DEADLINE;

/// A response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its head as it came, with the empty line.
    pub head: String,
    /// Its body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Checks that this refuses as all of HNP's refusals do: the status, the error of RFC 9209, and one line of text for people
    /// that has every one of `parts` and says the same as `Proxy-Status`.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect_refusal(&self, status: u16, error: &str, parts: &[&str]) {
        assert_eq!(self.status, status, "{self:?}\n{}", self.text());
        let proxy_status = self
            .header("proxy-status")
            .unwrap_or_else(|| panic!("no Proxy-Status: {self:?}"));
        assert!(
            proxy_status.starts_with(&format!("hnp; error={error}; details=\"")),
            "{proxy_status}"
        );
        let text = self.text();
        assert_eq!(text.matches('\n').count(), 1, "not one line: {text:?}");
        assert!(
            text.ends_with('\n') && text.contains(&format!("HNP answers {status} ")),
            "{text}"
        );
        for part in parts {
            assert!(text.contains(part), "nothing about {part} in: {text}");
        }
        assert_eq!(
            self.header("content-length"),
            Some(text.len().to_string().as_str())
        );
        assert_eq!(self.header("connection"), Some("close"));
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The first field of this name in a head.
#[must_use]
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Reads a head to its empty line and no further; `None` when the stream ends before its first byte.
///
/// # Errors
/// When the stream fails or ends within the head.
pub fn read_head(stream: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            if head.is_empty() {
                return Ok(None);
            }
            let text = format!("end within a head: {:?}", String::from_utf8_lossy(&head));
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// Reads a response to the end of its body: by length, chunks or the end of the stream.
///
/// # Errors
/// When the stream fails or ends too early, or what came is no response.
pub fn read_response(stream: &mut impl Read) -> io::Result<Response> {
    let head = read_head(stream)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no response"))?;
    let status = status(&head).ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
    let mut body = Vec::new();
    read_body(stream, &head, status < 200 || status == 204, |part| {
        body.extend_from_slice(part);
    })?;
    Ok(Response { status, head, body })
}

/// Reads only the head of a response, as after CONNECT.
///
/// # Errors
/// When the stream fails or ends too early, or what came is no response.
pub fn read_response_head(stream: &mut impl Read) -> io::Result<Response> {
    let head = read_head(stream)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no response"))?;
    let status = status(&head).ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
    Ok(Response {
        status,
        head,
        body: Vec::new(),
    })
}

fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

/// Reads the body that `head` announces, in parts. Without length and chunks it goes to the end of the stream, unless `empty`.
///
/// # Errors
/// When the stream fails or ends too early, or a chunk's size is no number.
pub fn read_body(
    stream: &mut impl Read,
    head: &str,
    empty: bool,
    mut part: impl FnMut(&[u8]),
) -> io::Result<()> {
    if empty {
        return Ok(());
    }
    if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let line = read_line(stream)?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|e| io::Error::other(format!("chunk size {line:?}: {e}")))?;
            if size == 0 {
                // Trailers and the last empty line.
                while !read_line(stream)?.is_empty() {}
                return Ok(());
            }
            copy_exactly(stream, size, &mut part)?;
            read_line(stream)?;
        }
    }
    match header(head, "content-length") {
        Some(length) => {
            let length = length
                .parse()
                .map_err(|e| io::Error::other(format!("length {length:?}: {e}")))?;
            copy_exactly(stream, length, &mut part)
        }
        None => {
            let mut buffer = [0; 8192];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => part(&buffer[..n]),
                }
            }
        }
    }
}

fn copy_exactly(
    stream: &mut impl Read,
    mut length: u64,
    part: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while length > 0 {
        let want = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = stream.read(&mut buffer[..want])?;
        if n == 0 {
            let text = format!("end with {length} bytes of a body to come");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        part(&buffer[..n]);
        length -= n as u64;
    }
    Ok(())
}

fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

/// Sends `request` as it is on a connection of its own and reads the response.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn request(address: SocketAddr, request: &str) -> Response {
    try_request(address, request).unwrap_or_else(|e| panic!("{request:?} to {address}: {e}"))
}

/// Like [`request`], for when there may be no response.
///
/// # Errors
/// When the connection fails or ends before a whole response has come.
pub fn try_request(address: SocketAddr, request: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    read_response(&mut stream)
}

/// GETs `path` of a plain origin.
///
/// # Panics
/// When there is no response.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}
