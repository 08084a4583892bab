//! The plain client: CONNECT and what comes of it.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::DEADLINE;
use crate::exchange::{self, Response};

/// An open tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection, just behind the response's head.
    pub stream: TcpStream,
    /// The response that opened it.
    pub response: Response,
}

/// Opens a tunnel through `proxy` to `target` (`host:port`).
///
/// # Panics
/// When the answer is not 200.
#[must_use]
pub fn connect(proxy: SocketAddr, target: impl ToString) -> Tunnel {
    let target = target.to_string();
    let (response, stream) =
        try_connect(proxy, &target).unwrap_or_else(|e| panic!("CONNECT {target}: {e}"));
    assert_eq!(response.status, 200, "CONNECT {target}: {response:?}");
    Tunnel { stream, response }
}

/// Sends CONNECT with more fields and payload behind it; the answer and the connection behind its head.
///
/// # Errors
/// When the connection fails before an answer.
pub fn connect_with(
    proxy: SocketAddr,
    target: impl ToString,
    fields: &str,
    early: &[u8],
) -> io::Result<(Response, TcpStream)> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    send_connect(&mut stream, target, fields, early)?;
    let response = exchange::read_response_head(&mut stream)?;
    Ok((response, stream))
}

/// Like [`connect_with`], with nothing more.
///
/// # Errors
/// When the connection fails before an answer.
pub fn try_connect(proxy: SocketAddr, target: impl ToString) -> io::Result<(Response, TcpStream)> {
    connect_with(proxy, target, "", b"")
}

/// Writes a CONNECT head and what follows it in one piece.
///
/// # Errors
/// When the connection fails.
pub fn send_connect(
    stream: &mut TcpStream,
    target: impl ToString,
    fields: &str,
    early: &[u8],
) -> io::Result<()> {
    let target = target.to_string();
    let mut message =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n").into_bytes();
    message.extend_from_slice(early);
    stream.write_all(&message)
}

/// CONNECT that is expected to be refused: the whole response with its body.
///
/// # Panics
/// When there is no response.
#[must_use]
pub fn refused(proxy: SocketAddr, target: impl ToString, fields: &str) -> Response {
    let target = target.to_string();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
    let response = exchange::request(proxy, &head);
    assert_ne!(response.status, 200, "CONNECT {target} was let through");
    response
}

/// Connects from a certain local address, so that the proxy sees another client.
///
/// # Errors
/// When the connection fails.
pub fn from_address(local: IpAddr, proxy: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(proxy), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect(&proxy.into())?;
    let stream = TcpStream::from(OwnedFd::from(socket));
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Closes with a reset instead of an orderly end.
///
/// # Panics
/// When the option is refused.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream.as_fd())
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Makes the kernel's buffers small, so that backpressure comes soon.
///
/// Not smaller than this: with a receive buffer below a few of loopback's 64 KiB segments the kernels of both ends, left alone, stall
/// on their window for 200 ms over and over.
///
/// # Panics
/// When the option is refused.
pub fn small_buffers(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(128 << 10).unwrap();
    socket.set_send_buffer_size(128 << 10).unwrap();
}

/// Whether this error is a peer's reset, as read and write say it.
#[must_use]
pub fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
