//! A connection of the pod's, both ends of which are played by one thread: while it runs, the processor is never idle.

use std::{
    fmt,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// How often nothing may come before the test is given up.
const PATIENCE: usize = 100_000;

/// What is sent in each direction: so many pieces, of so many bytes, with a call each.
pub(crate) struct Amount {
    pub(crate) pieces: usize,
    pub(crate) piece: usize,
}

impl Amount {
    pub(crate) fn bytes_each_way(&self) -> u64 {
        (self.pieces * self.piece) as u64
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pieces, piece } = self;
        write!(f, "{pieces} pieces of {piece} bytes each way")
    }
}

/// What is sent, and room for what is received.
pub(crate) struct Buffers {
    piece: Vec<u8>,
    received: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new(amount: &Amount) -> Self {
        Self {
            piece: vec![7; amount.piece],
            received: vec![0; amount.piece],
        }
    }
}

/// A connection. The client's end belongs to the pod, the server's does not.
pub(crate) struct Flow {
    client: TcpStream,
    server: TcpStream,
}

impl Flow {
    /// Connects to the listener, which must not block.
    pub(crate) fn connect(listener: &TcpListener, address: SocketAddr) -> Self {
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = patiently("the connection to arrive", || listener.accept());
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
            end.set_nonblocking(true).unwrap();
        }
        Self { client, server }
    }

    /// All from the client to the server, then as much back.
    pub(crate) fn exchange(&mut self, amount: &Amount, buffers: &mut Buffers) {
        for _ in 0..amount.pieces {
            pass(&mut self.client, &mut self.server, buffers);
        }
        for _ in 0..amount.pieces {
            pass(&mut self.server, &mut self.client, buffers);
        }
    }

    /// Closes it in order: the client first.
    pub(crate) fn close(mut self) {
        self.client.shutdown(Shutdown::Write).unwrap();
        await_end("the client's end", &mut self.server);
        drop(self.server);
        await_end("the server's end", &mut self.client);
    }
}

/// One piece, from one end to the other.
fn pass(from: &mut TcpStream, to: &mut TcpStream, buffers: &mut Buffers) {
    let mut left = &*buffers.piece;
    let mut missing = buffers.piece.len();
    while missing > 0 {
        if !left.is_empty() {
            match from.write(left) {
                Ok(written) => left = &left[written..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        let read = patiently("bytes to arrive", || to.read(&mut buffers.received));
        assert_ne!(read, 0, "closed early");
        missing -= read;
    }
}

fn await_end(what: &str, stream: &mut TcpStream) {
    assert_eq!(patiently(what, || stream.read(&mut [0])), 0);
}

/// What is on its way is with the kernel, which gets the processor.
fn patiently<T>(what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> T {
    for _ in 0..PATIENCE {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            done => return done.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    }
    panic!("waited in vain for {what}");
}
