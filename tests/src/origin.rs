//! An HTTP/1.1 origin, plain or behind TLS, with a path for everything a proxy could get wrong.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/SEED/LENGTH` | that much of the seed's stream, by `Content-Length` |
//! | `GET /chunked/SEED/LENGTH` | the same in chunks of random size |
//! | `GET /until-close/SEED/LENGTH` | the same until the end of the connection |
//! | `POST /digest` | the SHA-256 of the body |
//! | `GET /head` | the request's head as it came |
//! | `GET /events/N` | N server-sent events, each in a chunk of its own |
//! | `GET /websocket` with `Sec-WebSocket-Key` | 101, then an echo of messages |
//! | `GET /websocket` with `Upgrade` | 101, then an echo of bytes |

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

use crate::Server;
use crate::exchange;
use crate::pki::Pki;
use crate::random::Random;
use crate::server::{self, hex};
use crate::websocket;

/// A plain origin.
#[must_use]
pub fn plain() -> Server {
    Server::start(|mut stream| serve(&mut stream))
}

/// An origin behind TLS, with a certificate of `pki` for `localhost` and 127.0.0.1.
#[must_use]
pub fn tls(pki: &Pki) -> Server {
    let config = pki.server_config();
    Server::start(move |stream| serve_tls(stream, Arc::clone(&config)))
}

/// Such an origin at an address of the caller's choice, in the network namespace of the calling thread.
#[must_use]
pub fn tls_on(address: SocketAddr, pki: &Pki) -> Server {
    let config = pki.server_config();
    Server::on(address, move |stream| {
        serve_tls(stream, Arc::clone(&config))
    })
}

fn serve_tls(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    serve(&mut stream)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Serves one connection until it ends.
///
/// # Errors
/// When the connection fails.
pub fn serve(stream: &mut (impl Read + Write)) -> io::Result<()> {
    serve_observed(stream, |_| {})
}

/// Like [`serve`], and shows every request's head to `observe` before it is answered.
///
/// # Errors
/// When the connection fails.
pub fn serve_observed(
    stream: &mut (impl Read + Write),
    mut observe: impl FnMut(&str),
) -> io::Result<()> {
    while let Some(head) = exchange::read_head(stream)? {
        observe(&head);
        let line = head.lines().next().unwrap_or_default();
        let mut words = line.split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let has_body = exchange::header(&head, "content-length").is_some()
            || exchange::header(&head, "transfer-encoding").is_some();
        if exchange::header(&head, "expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut hash = Sha256::new();
        exchange::read_body(stream, &head, !has_body, |part| hash.update(part))?;

        let path: Vec<&str> = target
            .split('?')
            .next()
            .unwrap_or_default()
            .split('/')
            .skip(1)
            .collect();
        match (method, path.as_slice()) {
            ("GET", ["bytes", seed, length]) => {
                let (seed, length) = (number(seed)?, number(length)?);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
                server::send_random(stream, seed, length)?;
            }
            ("GET", ["chunked", seed, length]) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                server::send_random(&mut Chunks(stream), number(seed)?, number(length)?)?;
                stream.write_all(b"0\r\n\r\n")?;
            }
            ("GET", ["until-close", seed, length]) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                return server::send_random(stream, number(seed)?, number(length)?);
            }
            ("GET", ["events", count]) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                for event in 0..number(count)? {
                    Chunks(stream)
                        .write_all(format!("id: {event}\ndata: event {event}\n\n").as_bytes())?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
            ("GET", ["head"]) => answer(stream, "200 OK", &head)?,
            ("POST" | "PUT", ["digest"]) => answer(stream, "200 OK", &hex(&hash.finalize()))?,
            ("GET", ["websocket"]) if exchange::header(&head, "sec-websocket-key").is_some() => {
                return websocket::serve(stream, &head);
            }
            ("GET", ["websocket"]) => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                return echo(stream);
            }
            _ => answer(stream, "404 Not Found", line)?,
        }
        if exchange::header(&head, "connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(stream: &mut impl Write, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    stream.flush()
}

fn number(text: &str) -> io::Result<u64> {
    text.parse()
        .map_err(|e| io::Error::other(format!("{text}: {e}")))
}

fn echo(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Makes every write a chunk.
struct Chunks<'s, S>(&'s mut S);

impl<S: Write> Write for Chunks<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sizes in both cases and with leading zeros: all are legal.
        let size = match Random::new(bytes.len() as u64).between(0, 2) {
            0 => format!("{:x}", bytes.len()),
            1 => format!("{:X}", bytes.len()),
            _ => format!("{:06x}", bytes.len()),
        };
        let mut chunk = format!("{size}\r\n").into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
