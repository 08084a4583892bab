//! Sockets as the benchmark needs them: no delay, addresses spread over 127.0.0.0/8, readiness by epoll.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Addresses that connections are spread over, on either side of a proxy: a closed connection keeps its (address, port) pairs in
/// TIME_WAIT for a minute, and one pair of addresses has only 28 thousand.
pub const SPREAD: u32 = 16;

/// The `index`th source address of the generator.
pub fn source_ip(index: u32) -> IpAddr {
    spread_ip(1, index)
}

/// The `index`th address of the upstream.
pub fn upstream_ip(index: u32) -> IpAddr {
    spread_ip(2, index)
}

fn spread_ip(third: u8, index: u32) -> IpAddr {
    let last = u8::try_from(index % SPREAD).unwrap_or(0) + 1;
    IpAddr::V4(Ipv4Addr::new(127, 0, third, last))
}

/// A non-blocking listener with a backlog that 64 connections at once do not fill.
///
/// # Errors
/// When the address is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listens on so many ports of the system's choice, whose tokens in `poller` are their numbers from 0.
///
/// # Errors
/// When there are no ports or descriptors left.
pub fn listen_all(poller: &Poller, count: u64) -> io::Result<Vec<TcpListener>> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listeners = (0..count).map(|token| {
        let listener = listen(any)?;
        poller.add(&listener, token, true, false)?;
        Ok(listener)
    });
    listeners.collect()
}

/// A port of 127.0.0.1 that was free a moment ago, for a peer that has to be told one.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The next connection waiting on a non-blocking listener, itself non-blocking; none when there is none.
///
/// # Errors
/// When the process is out of descriptors or the listener is broken.
pub fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Starts to connect from the `index`th source address, without waiting.
///
/// # Errors
/// When the kernel refuses at once.
pub fn start_connect(to: SocketAddr, index: u32) -> io::Result<TcpStream> {
    let socket = outgoing(to, index)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Connects from the `index`th source address; reads, writes and the connect itself wait for at most `limit`.
///
/// # Errors
/// When nobody accepts in time.
pub fn connect(to: SocketAddr, index: u32, limit: Duration) -> io::Result<TcpStream> {
    let socket = outgoing(to, index)?;
    socket.connect_timeout(&to.into(), limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    Ok(socket.into())
}

fn outgoing(to: SocketAddr, index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if to.ip().is_loopback() && to.is_ipv4() {
        // Ports are then chosen by connect(2), unique per destination too, not per source address alone.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source_ip(index), 0).into())?;
    }
    Ok(socket)
}

/// Whether an error only means "not now".
pub fn not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}

/// Readiness of many sockets, each known by a token.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
}

/// Room for what one wait tells.
#[derive(Debug)]
pub struct Events(Vec<EpollEvent>);

impl Events {
    /// Room for 256 sockets.
    pub fn new() -> Events {
        Events(vec![EpollEvent::empty(); 256])
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The token it was added with.
    pub token: u64,
    /// Bytes, an end or an error can be read.
    pub read: bool,
    /// Bytes can be written (or an error met).
    pub write: bool,
}

impl Poller {
    /// Nothing watched yet.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        })
    }

    /// Watches a socket (level triggered) until it is closed.
    ///
    /// # Errors
    /// When it is watched already.
    pub fn add(&self, socket: impl AsFd, token: u64, read: bool, write: bool) -> io::Result<()> {
        Ok(self
            .epoll
            .add(socket, EpollEvent::new(flags(read, write), token))?)
    }

    /// Changes what a socket is watched for.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn modify(&self, socket: impl AsFd, token: u64, read: bool, write: bool) -> io::Result<()> {
        Ok(self
            .epoll
            .modify(socket, &mut EpollEvent::new(flags(read, write), token))?)
    }

    /// Waits until a socket is ready, at most `limit` (rounded up to milliseconds), and tells which are.
    ///
    /// # Errors
    /// When epoll does.
    pub fn wait<'e>(
        &self,
        events: &'e mut Events,
        limit: Duration,
    ) -> io::Result<impl Iterator<Item = Ready> + use<'e>> {
        let millis = u32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let limit = EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX);
        let count = match self.epoll.wait(&mut events.0, limit) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        Ok(events.0[..count].iter().map(|event| {
            let failed = event
                .events()
                .intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            Ready {
                token: event.data(),
                read: failed || event.events().contains(EpollFlags::EPOLLIN),
                write: failed || event.events().contains(EpollFlags::EPOLLOUT),
            }
        }))
    }
}

fn flags(read: bool, write: bool) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, read);
    flags.set(EpollFlags::EPOLLOUT, write);
    flags
}
