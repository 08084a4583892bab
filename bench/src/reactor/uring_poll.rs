//! A bare loop around io_uring: waits by `PollAdd`, once or multishot, moves bytes by recv(2) and send(2).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};

use anyhow::Context as _;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::{BUFFER, pair};

const LISTENER: u64 = u64::MAX;

/// A ring for one thread that enters the kernel once a turn.
pub(super) fn ring() -> anyhow::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun();
    builder.build(1024).context("the kernel gives no io_uring")
}

/// Queues an operation, making room by submitting when the queue is full.
pub(super) fn push(ring: &mut IoUring, entry: &squeue::Entry) -> anyhow::Result<()> {
    loop {
        #[expect(
            unsafe_code,
            reason = "the kernel takes operations by memory it shares with us"
        )]
        // SAFETY: what an entry points to (buffers of `uring_recv`, nothing otherwise) lives until the process ends.
        let pushed = unsafe { ring.submission().push(entry) };
        match pushed {
            Ok(()) => return Ok(()),
            Err(_) => ring.submit()?,
        };
    }
}

pub(super) fn run(
    listener: &TcpListener,
    upstream: SocketAddr,
    multishot: bool,
) -> anyhow::Result<()> {
    let mut ring = ring()?;
    let poll = |socket: RawFd, token: u64| {
        let events = u32::from(libc::POLLIN.cast_unsigned());
        opcode::PollAdd::new(types::Fd(socket), events)
            .multi(multishot)
            .build()
            .user_data(token)
    };
    push(&mut ring, &poll(listener.as_raw_fd(), LISTENER))?;
    // In pairs: the other end of the one at `index` is at `index ^ 1`. Places are not used again.
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut turn = Vec::new();
    loop {
        ring.submit_and_wait(1)?;
        turn.extend(
            ring.completion()
                .map(|entry| (entry.user_data(), cqueue::more(entry.flags()))),
        );
        for (token, armed) in turn.drain(..) {
            if token == LISTENER {
                while let Some((client, server)) = pair(listener, upstream)? {
                    for stream in [client, server] {
                        push(&mut ring, &poll(stream.as_raw_fd(), streams.len() as u64))?;
                        streams.push(Some(stream));
                    }
                }
                if !armed {
                    push(&mut ring, &poll(listener.as_raw_fd(), LISTENER))?;
                }
                continue;
            }
            let index = usize::try_from(token)?;
            let (Some(Some(from)), Some(Some(to))) = (streams.get(index), streams.get(index ^ 1))
            else {
                continue;
            };
            match (&*from).read(&mut buffer) {
                // Messages of 64 bytes always fit into an empty socket buffer.
                Ok(count @ 1..) => (&*to)
                    .write_all(&buffer[..count])
                    .context("the echo does not take a message")?,
                Err(error) if crate::net::not_now(&error) => {}
                _ => {
                    let _gone = to.shutdown(Shutdown::Write);
                    // A multishot poll holds the socket until it is taken back.
                    for index in [index, index ^ 1] {
                        push(
                            &mut ring,
                            &opcode::PollRemove::new(index as u64)
                                .build()
                                .user_data(u64::MAX - 1),
                        )?;
                        streams[index] = None;
                    }
                    continue;
                }
            }
            if !armed {
                push(&mut ring, &poll(from.as_raw_fd(), token))?;
            }
        }
    }
}
