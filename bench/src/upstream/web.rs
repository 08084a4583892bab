//! As much of HTTP/1.1 as it takes to try a proxy with curl: GET, one answer a connection.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use super::Connection;
use crate::net::{Poller, Ready};

/// Longest request head that is read.
const HEAD_LIMIT: usize = 16 * 1024;

impl Connection {
    /// Reads the request, then sends the answer; tells how many bytes moved, none at the end.
    pub(super) fn web(
        &mut self,
        poller: &Poller,
        event: &Ready,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if event.write && self.body > 0 {
            let limit = usize::try_from(self.body)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let sent = self.stream.write(&buffer[..limit])?;
            self.body -= sent as u64;
            if self.body == 0 {
                self.stream.shutdown(std::net::Shutdown::Write)?;
                // The connection ends when the client has closed its half, too: nothing of the answer is lost to a reset.
                poller.modify(self.stream.as_fd(), event.token, true, false)?;
            }
            return Ok(sent);
        }
        let count = self.stream.read(buffer)?;
        self.pending.extend_from_slice(&buffer[..count]);
        if self.pending.len() > HEAD_LIMIT {
            return Ok(0);
        }
        if self.pending.windows(4).any(|window| window == b"\r\n\r\n") {
            let text = "Hello from the upstream, through the tunnel.\n";
            let length = requested(&self.pending);
            self.pending.clear();
            let kind = if length.is_some() {
                "application/octet-stream"
            } else {
                "text/plain"
            };
            self.body = length.unwrap_or(0);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                length.unwrap_or(text.len() as u64),
                if length.is_some() { "" } else { text },
            );
            // The first bytes on a connection always fit into its buffer.
            self.stream.write_all(head.as_bytes())?;
            if self.body > 0 {
                poller.modify(self.stream.as_fd(), event.token, false, true)?;
            } else {
                self.stream.shutdown(std::net::Shutdown::Write)?;
            }
        }
        Ok(count)
    }
}

/// How many bytes the request's path asks for.
fn requested(head: &[u8]) -> Option<u64> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let path = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
    path.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::requested;

    #[test]
    fn a_number_at_the_end_of_the_path_is_the_length_asked_for() {
        assert_eq!(
            requested(b"GET /1024 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(1024)
        );
        assert_eq!(requested(b"GET http://x/7 HTTP/1.1\r\n\r\n"), Some(7));
        assert_eq!(requested(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(requested(b"\r\n\r\n"), None);
    }
}
