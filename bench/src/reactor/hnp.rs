//! HNP's own runtime, on either backend.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use hnp_dataplane::uring::{self, Listener, Mechanism, Socket};

use super::BUFFER;

pub(super) fn run(
    listener: TcpListener,
    upstream: SocketAddr,
    mechanism: Mechanism,
) -> anyhow::Result<()> {
    uring::run(mechanism, async move {
        let listener = Listener::from_fd(OwnedFd::from(listener))?;
        loop {
            match listener.try_accept() {
                Ok((client, _)) => {
                    let server = Rc::new(Socket::connect(upstream).await?);
                    let client = Rc::new(client);
                    uring::spawn(relay(Rc::clone(&client), Rc::clone(&server)));
                    uring::spawn(relay(server, client));
                }
                Err(error) if crate::net::not_now(&error) => listener.readable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    })?
}

async fn relay(from: Rc<Socket>, to: Rc<Socket>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if crate::net::not_now(&error) => 0,
            Err(_) => break,
        };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        // A full buffer: more may be there already.
        if count < BUFFER && from.readable().await.is_err() {
            break;
        }
    }
    let _gone = to.shutdown_write();
}
