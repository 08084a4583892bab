//! The servers outside the pod.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use hnp_tests::pod::{PEER4, Pod};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Where they are. They end with the process.
pub(super) struct Servers {
    /// Answers one request a connection: for clients.
    pub(super) web: SocketAddr,
    /// Answers as many as come: for HNP, which keeps its connections.
    pub(super) upstream: SocketAddr,
    /// Nobody listens there: who connects must have been led to HNP, which asks `upstream`.
    pub(super) managed: SocketAddr,
    /// Sends as much as the other side takes; HNP lets it be reached directly.
    pub(super) direct: SocketAddr,
    /// The same, through HNP.
    pub(super) captured: SocketAddr,
}

impl Servers {
    pub(super) fn start(pod: &Pod) -> anyhow::Result<Servers> {
        let address: Ipv4Addr = PEER4.parse()?;
        let listen = || -> io::Result<_> {
            let listener = pod.peer.run(|| TcpListener::bind((address, 0)))?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (answering, web) = listen()?;
        // One at a time, as the client asks.
        thread::spawn(move || {
            for mut stream in answering.incoming().flatten() {
                let _ = answer(&mut stream);
            }
        });
        let (keeping, upstream) = listen()?;
        thread::spawn(move || {
            for mut stream in keeping.incoming().flatten() {
                thread::spawn(move || while matches!(answer(&mut stream), Ok(true)) {});
            }
        });
        let (sending, direct) = listen()?;
        thread::spawn(move || send(&sending));
        let (sending, captured) = listen()?;
        thread::spawn(move || send(&sending));
        Ok(Servers {
            web,
            upstream,
            managed: (address, 80).into(),
            direct,
            captured,
        })
    }
}

/// Answers a request, or finds the end.
fn answer(stream: &mut TcpStream) -> io::Result<bool> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(false),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    stream.write_all(ANSWER)?;
    Ok(true)
}

fn send(listener: &TcpListener) {
    let buffer = vec![0; 1 << 17];
    for mut stream in listener.incoming().flatten() {
        while stream.write_all(&buffer).is_ok() {}
    }
}
