//! A corporate proxy: CONNECT only, with or without credentials, and every way to fail.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::{Server, exchange};

/// What the parent does with CONNECT.
#[derive(Debug, Clone)]
pub enum Manners {
    /// Connects to this address, whatever name was asked for: the client of a parent need not resolve.
    Forward(SocketAddr),
    /// Like `Forward`, for whoever sends this `Proxy-Authorization`; 407 for others.
    Authenticate(SocketAddr, String),
    /// Sends this and closes.
    Answer(&'static str),
}

/// The proxy and the heads it was sent.
#[derive(Debug)]
pub struct ParentProxy {
    /// The server.
    pub server: Server,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ParentProxy {
    /// Starts it.
    #[must_use]
    pub fn start(manners: Manners) -> ParentProxy {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let server = {
            let heads = Arc::clone(&heads);
            Server::start(move |stream| serve(stream, &manners, &heads))
        };
        ParentProxy { server, heads }
    }

    /// The heads with which this target was asked for. HNP also probes its upstream by way of the parent: such a connection is
    /// nobody's here.
    ///
    /// # Panics
    /// Never, short of a poisoned lock.
    #[must_use]
    pub fn asked_for(&self, target: &str) -> Vec<String> {
        let start = format!("CONNECT {target} ");
        let heads = self.heads.lock().unwrap();
        heads
            .iter()
            .filter(|head| head.starts_with(&start))
            .cloned()
            .collect()
    }
}

fn serve(mut client: TcpStream, manners: &Manners, heads: &Mutex<Vec<String>>) -> io::Result<()> {
    let Some(head) = exchange::read_head(&mut client)? else {
        return Ok(());
    };
    heads.lock().unwrap().push(head.clone());
    let target = match manners {
        Manners::Answer(answer) => return client.write_all(answer.as_bytes()),
        Manners::Authenticate(_, credentials)
            if exchange::header(&head, "proxy-authorization") != Some(credentials) =>
        {
            let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"parent\"\r\n\
                           Content-Length: 0\r\n\r\n";
            return client.write_all(refusal.as_bytes());
        }
        Manners::Forward(target) | Manners::Authenticate(target, _) => *target,
    };
    let upstream = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let up = {
        let (client, upstream) = (client.try_clone()?, upstream.try_clone()?);
        thread::spawn(move || copy(&client, &upstream))
    };
    copy(&upstream, &client);
    let _ = up.join();
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
