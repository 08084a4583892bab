//! tokio-uring 0.5 as it can be used for readiness: `PollAdd` through `UnsubmittedOneshot`, then recv(2) and send(2).

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring_06::{cqueue, opcode, types};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::{BUFFER, pair};

pub(super) fn run(listener: TcpListener, upstream: SocketAddr) -> anyhow::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder()
        .entries(1024)
        .uring_builder(&ring)
        .start(async move {
            loop {
                while let Some((client, server)) = pair(&listener, upstream)? {
                    let (client, server) = (Rc::new(client), Rc::new(server));
                    tokio_uring::spawn(relay(Rc::clone(&client), Rc::clone(&server)));
                    tokio_uring::spawn(relay(server, client));
                }
                ready(listener.as_raw_fd(), libc::POLLIN).await?;
            }
        })
}

/// One direction. Errors end it; the streams close when both directions have ended.
async fn relay(from: Rc<TcpStream>, to: Rc<TcpStream>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match (&*from).read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let mut sent = 0;
                while sent < count {
                    match (&*to).write(&buffer[sent..count]) {
                        Ok(more) => sent += more,
                        Err(error) if crate::net::not_now(&error) => {
                            if ready(to.as_raw_fd(), libc::POLLOUT).await.is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
                // A full buffer: more may be there already.
                if count == BUFFER {
                    continue;
                }
            }
            Err(error) if crate::net::not_now(&error) => {}
            Err(_) => break,
        }
        if ready(from.as_raw_fd(), libc::POLLIN).await.is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
}

struct Readiness;

impl OneshotOutputTransform for Readiness {
    type Output = io::Result<()>;
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), entry: cqueue::Entry) -> io::Result<()> {
        if entry.result() < 0 {
            Err(io::Error::from_raw_os_error(-entry.result()))
        } else {
            Ok(())
        }
    }
}

async fn ready(socket: RawFd, events: libc::c_short) -> io::Result<()> {
    let poll = opcode::PollAdd::new(types::Fd(socket), u32::from(events.cast_unsigned())).build();
    UnsubmittedOneshot::new((), Readiness, poll).submit().await
}
