//! One request, and what the answer tells.

use std::io;
use std::time::Duration;

use crate::check::clock;
use crate::origin::Origin;
use crate::stream::Stream;
use crate::tls::{Alpn, HandshakeError, RecordError};
use crate::uring;

/// Bytes of an answer that are looked at.
const MOST: usize = 8 << 10;
/// How long the rest of a complaint is waited for.
const REST: Duration = Duration::from_millis(500);

/// The first bytes of an answer.
pub(super) struct Answer {
    /// 0 where it is not HTTP/1.1.
    pub(super) status: u16,
    /// What it says of the time: seconds since 1970.
    pub(super) date: Option<i64>,
    /// nginx refuses a client's certificate by an answer, not in the handshake.
    pub(super) about_certificate: bool,
}

/// Why there is none.
pub(super) enum NoAnswer {
    /// A server of TLS 1.3 refuses a client's certificate only after the client's handshake is done.
    Alert(HandshakeError),
    Broken(io::Error),
    Closed,
}

/// One request; in HTTP/2 only what begins a connection, for the upstream answers that as well.
pub(super) async fn ask(stream: &Stream, origin: &Origin, alpn: Alpn) -> Result<Answer, NoAnswer> {
    let request = match alpn {
        // The preface and a SETTINGS frame without settings (RFC 9113 section 3.4).
        Alpn::H2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        _ => format!(
            "GET {}/ HTTP/1.1\r\nHost: {}\r\nUser-Agent: hnp-check\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            origin.base_path, origin.authority
        )
        .into_bytes(),
    };
    // Where writing fails, an alert that says why may be there to be read.
    let _ = stream.write_all(&request).await;
    let mut buffer = vec![0; MOST];
    let mut filled = 0;
    while filled < MOST && !(filled > 0 && alpn == Alpn::H2) && !head_is_whole(&buffer[..filled]) {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if filled == 0 => return Err(NoAnswer::from(error)),
            Err(_) => break,
        }
    }
    if filled == 0 {
        return Err(NoAnswer::Closed);
    }
    if read(&buffer[..filled]).status == 400 {
        let rest = async {
            while let Ok(n @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += n;
            }
        };
        // What has come by then will do.
        let _ = uring::timeout(REST, rest).await;
    }
    Ok(read(&buffer[..filled]))
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        let record = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<RecordError>());
        match record {
            Some(RecordError::Alert(alert)) => {
                NoAnswer::Alert(rustls::Error::AlertReceived(*alert).into())
            }
            _ => NoAnswer::Broken(error),
        }
    }
}

fn head_is_whole(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

fn read(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.");
    let status = status.and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let date = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    });
    Answer {
        status: status.unwrap_or_default(),
        date: date.and_then(clock::http_date),
        about_certificate: status == Some(400) && body.contains("SSL certificate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_status_time_and_complaint() {
        let answer =
            read(b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nSSL certificate");
        assert_eq!((answer.status, answer.date), (200, Some(784_111_777)));
        assert!(!answer.about_certificate);
        let nginx = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<title>400 No required SSL certificate was sent</title>";
        assert!(read(nginx).about_certificate);
        assert_eq!(read(b"\0\0\x12\x04\0\0\0\0\0").status, 0);
    }
}
