//! How the generator reaches the upstream: directly, by CONNECT, or through a proxy that has a fixed upstream.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::net;

/// Longest wait for one tunnel to open.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer to CONNECT that is read.
const HEAD_LIMIT: usize = 4096;

/// What the upstream does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// Sends back what it gets.
    Echo,
    /// Sends without end.
    Source,
    /// Takes without end.
    Sink,
}

/// A port for each service that is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    /// Port of the echo.
    pub echo: u16,
    /// Port of the source.
    pub source: u16,
    /// Port of the sink.
    pub sink: u16,
}

impl Ports {
    /// The port of a service.
    pub fn of(self, service: Service) -> u16 {
        match service {
            Service::Echo => self.echo,
            Service::Source => self.source,
            Service::Sink => self.sink,
        }
    }

    /// Three ports that were free a moment ago.
    ///
    /// # Errors
    /// When there are none.
    pub fn free() -> io::Result<Ports> {
        Ok(Ports {
            echo: net::free_port()?,
            source: net::free_port()?,
            sink: net::free_port()?,
        })
    }
}

/// The way to the upstream. Connections are spread over the generator's and, where it is the client who names them, the
/// upstream's addresses.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Route {
    /// No proxy.
    Direct {
        /// The upstream's ports.
        upstream: Ports,
    },
    /// A proxy that is asked with CONNECT.
    Connect {
        /// Where it listens.
        proxy: SocketAddr,
        /// The upstream's ports.
        upstream: Ports,
    },
    /// A proxy that has a port for each service and is asked nothing.
    Fixed {
        /// Where it listens.
        proxy: IpAddr,
        /// Its ports.
        ports: Ports,
    },
}

impl Route {
    /// Where the `index`th connection goes.
    pub fn destination(&self, service: Service, index: u32) -> SocketAddr {
        match self {
            Route::Direct { upstream } => {
                SocketAddr::new(net::upstream_ip(index), upstream.of(service))
            }
            Route::Connect { proxy, .. } => *proxy,
            Route::Fixed { proxy, ports } => SocketAddr::new(*proxy, ports.of(service)),
        }
    }

    /// What the `index`th connection has to send first, if anything.
    pub fn request(&self, service: Service, index: u32) -> Option<String> {
        let Route::Connect { upstream, .. } = self else {
            return None;
        };
        let target = SocketAddr::new(net::upstream_ip(index), upstream.of(service));
        Some(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        ))
    }

    /// Opens the `index`th tunnel and waits until the proxy (which may not have reached the upstream yet, if it answers nothing)
    /// is ready for payload. Payload that came with the answer is dropped.
    ///
    /// # Errors
    /// When nobody accepts within ten seconds or the proxy refuses.
    pub fn open(&self, service: Service, index: u32) -> anyhow::Result<TcpStream> {
        let to = self.destination(service, index);
        // One source address after another and, for each, one upstream address after another.
        let mut stream = net::connect(to, index / net::SPREAD, OPEN_LIMIT)
            .with_context(|| format!("cannot connect to {to}"))?;
        if let Some(request) = self.request(service, index) {
            stream
                .write_all(request.as_bytes())
                .with_context(|| format!("cannot send CONNECT to {to}"))?;
            let mut head = Vec::with_capacity(512);
            loop {
                let mut chunk = [0; 512];
                let count = stream
                    .read(&mut chunk)
                    .with_context(|| format!("no answer to CONNECT from {to}"))?;
                head.extend_from_slice(&chunk[..count]);
                match answer(&head) {
                    _ if count == 0 => bail!("{to} closed before it answered CONNECT"),
                    Answer::Open => break,
                    Answer::Incomplete if head.len() < HEAD_LIMIT => {}
                    Answer::Incomplete | Answer::Refused => {
                        bail!(
                            "{to} refused CONNECT: {}",
                            String::from_utf8_lossy(&head)
                                .lines()
                                .next()
                                .unwrap_or_default()
                        )
                    }
                }
            }
        }
        Ok(stream)
    }
}

/// What the bytes that a proxy sent after CONNECT say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A whole head with status 2xx.
    Open,
    /// More bytes are needed.
    Incomplete,
    /// Another status, or not HTTP.
    Refused,
}

/// Reads the answer to CONNECT as far as it has come.
pub fn answer(head: &[u8]) -> Answer {
    if head.len() >= 12 && !(head.starts_with(b"HTTP/1.") && head[8..].starts_with(b" 2")) {
        return Answer::Refused;
    }
    if head.windows(4).any(|window| window == b"\r\n\r\n") {
        Answer::Open
    } else {
        Answer::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_came() {
        let whole = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]), Answer::Incomplete, "{end} bytes");
        }
        assert_eq!(answer(whole), Answer::Open);
        assert_eq!(answer(b"HTTP/1.1 403 Forbidden\r\n"), Answer::Refused);
        assert_eq!(answer(b"SSH-2.0-OpenSSH_9\r\n"), Answer::Refused);
    }
}
