//! Fake upstreams: a listener, and a thread with a plain function for every connection.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use sha2::{Digest, Sha256};
use socket2::{Domain, SockRef, Socket, Type};

use crate::random::Random;
use crate::{DEADLINE, client, exchange, patient, wait};

/// An upstream. Dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
}

impl Server {
    /// Serves every connection to 127.0.0.1 with `serve`.
    ///
    /// # Panics
    /// When no port can be bound.
    #[must_use]
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Server {
        Server::on((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    /// Like [`Server::start`] on an address of the caller's choice.
    ///
    /// # Panics
    /// When it cannot be bound.
    #[must_use]
    pub fn on(
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = Arc::new(listen(address));
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            thread::spawn(move || accept(&listener, &shared, Arc::new(serve)))
        };
        Server {
            address,
            listener,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have been accepted in all.
    ///
    /// # Panics
    /// After the deadline.
    pub fn await_accepted(&self, count: usize) {
        wait::until("connections at the upstream", || match self.accepted() {
            n if n >= count => Ok(()),
            n => Err(format!("{n} of {count}")),
        });
    }

    /// Waits until no connection is being served any more.
    ///
    /// # Panics
    /// After the deadline.
    pub fn await_idle(&self) {
        wait::until("the upstream to have no connection", || {
            match self.shared.open.lock().unwrap().len() {
                0 => Ok(()),
                n => Err(format!("{n} open")),
            }
        });
    }

    /// Sends back what comes; ends its side when the other has ended its own.
    #[must_use]
    pub fn echo() -> Server {
        Server::start(|stream| echo(&stream))
    }

    /// Sends the first `length` bytes of `seed`'s stream, in pieces of random size, then ends.
    #[must_use]
    pub fn source(seed: u64, length: u64) -> Server {
        Server::start(move |mut stream| {
            send_random(&mut stream, seed, length)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Takes all that comes and reports each connection's digest when it has ended.
    #[must_use]
    pub fn sink() -> (Server, Receiver<Received>) {
        let (send, received) = mpsc::channel();
        let server = Server::start(move |stream| {
            let _ = send.send(receive(&stream));
            Ok(())
        });
        (server, received)
    }

    /// Hands every connection to the test.
    ///
    /// # Panics
    /// When no port can be bound.
    #[must_use]
    pub fn handing_over() -> (Server, Accepted) {
        let listener = Arc::new(listen((Ipv4Addr::LOCALHOST, 0).into()));
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (send, accepted) = mpsc::channel();
        let acceptor = {
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            thread::spawn(move || {
                for stream in incoming(&listener, &shared) {
                    let _ = send.send(stream);
                }
            })
        };
        let server = Server {
            address,
            listener,
            shared,
            acceptor: Some(acceptor),
        };
        (server, Accepted(accepted))
    }

    /// Resets every connection as soon as it has read one byte.
    #[must_use]
    pub fn resetting() -> Server {
        Server::start(|mut stream| {
            let _ = stream.read(&mut [0]);
            client::reset(stream);
            Ok(())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor, wherever it is: the listener may be in another network namespace.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&address.into())
        .unwrap_or_else(|e| panic!("bind {address}: {e}"));
    socket.listen(4096).unwrap();
    socket.into()
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: Arc<impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static>,
) {
    for stream in incoming(listener, shared) {
        let number = shared.accepted.load(Ordering::SeqCst);
        // A copy by which to end it when the server stops. It goes right after `serve`, and the connection is closed only then.
        if let Ok(copy) = stream.try_clone() {
            shared.open.lock().unwrap().insert(number, copy);
        }
        let (shared, serve) = (Arc::clone(shared), Arc::clone(&serve));
        thread::spawn(move || {
            // What became of the connection is the test's to see from the other end.
            let _ = serve(stream);
            shared.open.lock().unwrap().remove(&number);
        });
    }
}

/// The connections until the server is told to stop.
fn incoming(listener: &TcpListener, shared: &Shared) -> impl Iterator<Item = TcpStream> {
    iter::from_fn(move || {
        let (stream, _) = listener.accept().ok()?;
        if shared.stop.load(Ordering::SeqCst) {
            return None;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        Some(stream)
    })
}

/// Connections handed to the test itself, for what goes step by step.
#[derive(Debug)]
pub struct Accepted(Receiver<TcpStream>);

impl Accepted {
    /// The next connection.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn next(&self) -> TcpStream {
        let stream = self
            .0
            .recv_timeout(patient(DEADLINE))
            .expect("a connection to the upstream");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The next connection over which a request comes, and its head. HNP's probe of its upstream sends none.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn request(&self) -> (TcpStream, String) {
        let end = Instant::now() + patient(DEADLINE);
        loop {
            assert!(Instant::now() < end, "no request came to the upstream");
            let mut stream = self.next();
            if let Some(head) = exchange::read_head(&mut stream).unwrap() {
                return (stream, head);
            }
        }
    }

    /// Connections that have come, have brought something, and that nobody has taken; they are taken now, and closed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let spoke = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.peek(&mut [0]).is_ok_and(|n| n > 0)
        };
        self.0.try_iter().filter(spoke).count()
    }
}

/// What a sink took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its SHA-256.
    pub digest: String,
    /// Its length in bytes.
    pub length: u64,
    /// How it ended: `None` for an orderly end.
    pub error: Option<io::ErrorKind>,
}

/// Reads to the end and digests.
pub fn receive(mut stream: impl Read) -> Received {
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 << 10];
    let error = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => {
                hash.update(&buffer[..n]);
                length += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Some(e.kind()),
        }
    };
    Received {
        digest: hex(&hash.finalize()),
        length,
        error,
    }
}

/// The digest of the first `length` bytes of `seed`'s stream, as [`receive`] reports them.
#[must_use]
pub fn expected(seed: u64, length: u64) -> Received {
    let mut hash = Sha256::new();
    in_pieces(seed, length, usize::MAX, |piece| {
        hash.update(piece);
        Ok(())
    })
    .unwrap();
    Received {
        digest: hex(&hash.finalize()),
        length,
        error: None,
    }
}

/// Writes the first `length` bytes of `seed`'s stream in pieces of random size.
///
/// # Errors
/// When the stream fails.
pub fn send_random(stream: &mut impl Write, seed: u64, length: u64) -> io::Result<()> {
    // Small pieces for small amounts; a GiB byte by byte would only measure this machine.
    let largest = if length <= 1 << 20 {
        4 << 10
    } else {
        256 << 10
    };
    in_pieces(seed, length, largest, |piece| stream.write_all(piece))
}

fn in_pieces(
    seed: u64,
    length: u64,
    largest: usize,
    mut piece: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut sizes = Random::new(!seed);
    let mut data = Random::new(seed);
    // Filled in one size always: the stream must not depend on how it is cut.
    let mut buffer = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let n = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        data.fill(&mut buffer);
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let size = sizes.between(1, largest.min(rest.len()));
            piece(&rest[..size])?;
            rest = &rest[size..];
        }
        left -= n as u64;
    }
    Ok(())
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A place where connections are neither accepted nor refused: a listener whose queue is full, to which the kernel answers nothing.
#[derive(Debug)]
pub struct Silent {
    listener: TcpListener,
    _queued: Vec<Socket>,
}

impl Silent {
    /// Fills the queue of a listener on `address`.
    ///
    /// # Panics
    /// When it cannot be bound.
    #[must_use]
    pub fn on(address: SocketAddr) -> Silent {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket
            .bind(&address.into())
            .unwrap_or_else(|e| panic!("bind {address}: {e}"));
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap().into();
        // The queue holds one more than its length says. The rest of these stay half-open and keep asking.
        let queued = (0..4)
            .map(|_| {
                let client = Socket::new(
                    Domain::for_address(listener.local_addr().unwrap()),
                    Type::STREAM,
                    None,
                )
                .unwrap();
                client.set_nonblocking(true).unwrap();
                // EINPROGRESS, whatever becomes of it.
                let _ = client.connect(&address);
                client
            })
            .collect();
        Silent {
            listener,
            _queued: queued,
        }
    }

    /// Where it is.
    ///
    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}
