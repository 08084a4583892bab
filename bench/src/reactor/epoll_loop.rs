//! A bare loop around epoll: no tasks, no futures. Edge triggered, so that a socket is registered once.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{BUFFER, pair};

const LISTENER: u64 = u64::MAX;

pub(super) fn run(listener: &TcpListener, upstream: SocketAddr) -> anyhow::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    // Streams in pairs: the other end of the one at `index` is at `index ^ 1`. A relay of the benchmark is not long-lived enough to
    // use places again.
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let count = epoll
            .wait(&mut events, EpollTimeout::NONE)
            .context("epoll failed")?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                while let Some((client, server)) = pair(listener, upstream)? {
                    for stream in [client, server] {
                        let flags =
                            EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
                        epoll.add(&stream, EpollEvent::new(flags, streams.len() as u64))?;
                        streams.push(Some(stream));
                    }
                }
                continue;
            }
            let index = usize::try_from(event.data())?;
            while let (Some(Some(from)), Some(Some(to))) =
                (streams.get(index), streams.get(index ^ 1))
            {
                let count = match (&*from).read(&mut buffer) {
                    Err(error) if crate::net::not_now(&error) => break,
                    other => other.unwrap_or(0),
                };
                if count == 0 {
                    let _gone = to.shutdown(Shutdown::Write);
                    streams[index] = None;
                    streams[index ^ 1] = None;
                    break;
                }
                // Messages of 64 bytes always fit into an empty socket buffer.
                (&*to)
                    .write_all(&buffer[..count])
                    .context("the echo does not take a message")?;
                // Less than a buffer: the socket is empty, and the next edge will tell; but an end that has come already makes none.
                if count < BUFFER && !event.events().contains(EpollFlags::EPOLLRDHUP) {
                    break;
                }
            }
        }
    }
}
