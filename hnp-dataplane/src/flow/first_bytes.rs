//! The first bytes of a connection say what is spoken on it. Two protocols tell themselves apart from HTTP/1; what is
//! neither is left to the parser of heads, which says what is wrong with it.

/// A record of TLS that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The preface of HTTP/2 (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TLS.
    Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/1, or nothing that is known here.
    Http1,
}

/// Tells what begins with `bytes`; `None` while that may still be one or the other.
#[must_use]
pub fn detect(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        [] => None,
        [TLS_HANDSHAKE, ..] => Some(Protocol::Tls),
        _ if bytes.starts_with(HTTP2_PREFACE) => Some(Protocol::Http2),
        _ if HTTP2_PREFACE.starts_with(bytes) => None,
        _ => Some(Protocol::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_tls() {
        assert_eq!(detect(&[0x16]), Some(Protocol::Tls));
        assert_eq!(detect(&[0x16, 3, 1, 0, 200, 1, 0]), Some(Protocol::Tls));
        assert_eq!(detect(&[0x15, 3, 1, 0, 2]), Some(Protocol::Http1));
    }

    #[test]
    fn the_preface_tells_http2_once_it_is_whole() {
        for cut in 0..HTTP2_PREFACE.len() {
            assert_eq!(detect(&HTTP2_PREFACE[..cut]), None, "{cut} bytes");
        }
        assert_eq!(detect(HTTP2_PREFACE), Some(Protocol::Http2));
        let more = [HTTP2_PREFACE, &[0, 0, 0, 4]].concat();
        assert_eq!(detect(&more), Some(Protocol::Http2));
    }

    #[test]
    fn everything_else_is_for_the_parser_of_heads() {
        for bytes in [
            &b"CONNECT a:1 HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nGET",
            b"PRI / HTTP/1.1",
            b"PUT",
            b"\x05\x01\x00",
            b"\r\nGET",
        ] {
            assert_eq!(detect(bytes), Some(Protocol::Http1), "{bytes:?}");
        }
    }
}
