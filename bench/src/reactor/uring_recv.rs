//! A bare loop around io_uring that also moves the bytes through the ring: the recv and send operations, a buffer a direction.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use io_uring::{opcode, types};

use super::uring_poll::{push, ring};
use super::{BUFFER, pair};

const LISTENER: u64 = u64::MAX;

struct Direction {
    from: TcpStream,
    /// What the kernel reads into and sends from. Never given back, as the ring may use it until the process ends.
    buffer: Vec<u8>,
    sending: bool,
}

pub(super) fn run(listener: &TcpListener, upstream: SocketAddr) -> anyhow::Result<()> {
    let mut ring = ring()?;
    let accept = opcode::PollAdd::new(
        types::Fd(listener.as_raw_fd()),
        u32::from(libc::POLLIN.cast_unsigned()),
    )
    .build()
    .user_data(LISTENER);
    push(&mut ring, &accept)?;
    // In pairs: the way back of the one at `index` is at `index ^ 1`. Places are not used again.
    let mut directions: Vec<Direction> = Vec::new();
    let mut turn = Vec::new();
    loop {
        ring.submit_and_wait(1)?;
        turn.extend(
            ring.completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
        for (token, result) in turn.drain(..) {
            if token == LISTENER {
                while let Some((client, server)) = pair(listener, upstream)? {
                    for from in [client, server] {
                        // recv and send operations of a socket that must not block end with EAGAIN instead of waiting.
                        from.set_nonblocking(false)?;
                        let mut direction = Direction {
                            from,
                            buffer: vec![0; BUFFER],
                            sending: false,
                        };
                        push(
                            &mut ring,
                            &direction.receive().user_data(directions.len() as u64),
                        )?;
                        directions.push(direction);
                    }
                }
                push(&mut ring, &accept)?;
                continue;
            }
            let index = usize::try_from(token)?;
            let [Some(back), Some(direction)] =
                [index ^ 1, index].map(|index| directions.get(index))
            else {
                continue;
            };
            let (to, sending) = (types::Fd(back.from.as_raw_fd()), direction.sending);
            let Some(direction) = directions.get_mut(index) else {
                continue;
            };
            direction.sending = !sending;
            if sending {
                push(&mut ring, &direction.receive().user_data(token))?;
            } else if result > 0 {
                // Messages of 64 bytes always fit into an empty socket buffer: no short sends.
                let send = opcode::Send::new(to, direction.buffer.as_ptr(), result.cast_unsigned())
                    .build();
                push(&mut ring, &send.user_data(token))?;
            } else {
                // Ends both directions; the descriptors stay until the process ends, which is soon.
                for index in [index, index ^ 1] {
                    let _gone = directions
                        .get(index)
                        .context("a pair has two ends")?
                        .from
                        .shutdown(Shutdown::Both);
                }
            }
        }
    }
}

impl Direction {
    fn receive(&mut self) -> io_uring::squeue::Entry {
        let length = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        opcode::Recv::new(
            types::Fd(self.from.as_raw_fd()),
            self.buffer.as_mut_ptr(),
            length,
        )
        .build()
    }
}
