//! WebSockets (RFC 6455), both ends, as far as the tests need them: an echo, and a client that sends text and reads it back.

use std::io::{self, Read, Write};

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::exchange;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Answers an opening handshake and echoes messages until the client closes.
///
/// # Errors
/// When the connection fails.
pub fn serve(stream: &mut (impl Read + Write), head: &str) -> io::Result<()> {
    let key = exchange::header(head, "sec-websocket-key").unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )?;
    stream.flush()?;
    loop {
        let Frame {
            first,
            payload,
            masked,
        } = read_frame(stream)?;
        if !masked {
            return Err(io::Error::other("a client's frame is not masked"));
        }
        match first & 0x0f {
            CLOSE => return write_frame(stream, first, &payload, None),
            PING => write_frame(stream, 0x80 | PONG, &payload, None)?,
            PONG => {}
            _ => write_frame(stream, first, &payload, None)?,
        }
    }
}

/// A client's WebSocket.
#[derive(Debug)]
pub struct WebSocket<S>(S);

impl<S: Read + Write> WebSocket<S> {
    /// Opens it on a connection.
    ///
    /// # Errors
    /// When the connection fails or the answer is not the one that RFC 6455 asks for.
    pub fn open(mut stream: S, host: &str, path: &str) -> io::Result<WebSocket<S>> {
        const KEY: &str = "aG5wIHRlc3RzIG5vbmNlIQ==";
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        )?;
        stream.flush()?;
        let response = exchange::read_response_head(&mut stream)?;
        if response.status != 101
            || response.header("sec-websocket-accept") != Some(accept(KEY).as_str())
        {
            return Err(io::Error::other(format!("{response:?}")));
        }
        Ok(WebSocket(stream))
    }

    /// Sends a message and waits for it to come back.
    ///
    /// # Errors
    /// When the connection fails or something else comes back.
    pub fn echo(&mut self, text: &str) -> io::Result<()> {
        write_frame(
            &mut self.0,
            0x80 | TEXT,
            text.as_bytes(),
            Some([3, 1, 4, 1]),
        )?;
        let frame = read_frame(&mut self.0)?;
        if frame.first == 0x80 | TEXT && frame.payload == text.as_bytes() && !frame.masked {
            return Ok(());
        }
        Err(io::Error::other(format!("{text:?} came back as {frame:?}")))
    }

    /// Closes it and waits for the other side to do so.
    ///
    /// # Errors
    /// When the connection fails or the other side does not.
    pub fn close(mut self) -> io::Result<()> {
        let normal = 1000_u16.to_be_bytes();
        write_frame(&mut self.0, 0x80 | CLOSE, &normal, Some([2, 7, 1, 8]))?;
        let frame = read_frame(&mut self.0)?;
        if frame.first == 0x80 | CLOSE && frame.payload == normal {
            return Ok(());
        }
        Err(io::Error::other(format!("closed with {frame:?}")))
    }
}

#[derive(Debug)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
    masked: bool,
}

fn read_frame(stream: &mut impl Read) -> io::Result<Frame> {
    let mut start = [0; 2];
    stream.read_exact(&mut start)?;
    let length = match start[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        length => u64::from(length),
    };
    let masked = start[1] & 0x80 != 0;
    let mut mask = [0; 4];
    if masked {
        stream.read_exact(&mut mask)?;
    }
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut payload)?;
    apply(mask, &mut payload);
    Ok(Frame {
        first: start[0],
        payload,
        masked,
    })
}

fn write_frame(
    stream: &mut impl Write,
    first: u8,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> io::Result<()> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(flag | length as u8),
        length @ 126..=0xffff => {
            frame.push(flag | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(flag | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask_at = frame.len();
    frame.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
    let payload_at = frame.len();
    frame.extend_from_slice(payload);
    if payload_at > mask_at {
        apply(mask.unwrap_or_default(), &mut frame[payload_at..]);
    }
    stream.write_all(&frame)?;
    stream.flush()
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// What the server answers to a key (RFC 6455 section 4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    BASE64_STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_key_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
