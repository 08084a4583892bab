//! Stream sockets and listeners of a worker: every call is tried first, only `EAGAIN` waits.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::executor::{try_with_driver, with_driver};
use super::{Driver, Interest, sys};
use crate::redirect::NetNs;

/// A non-blocking stream socket that belongs to the current worker. Closed when dropped.
#[derive(Debug)]
pub struct Socket {
    source: Source,
}

/// A descriptor and what the backend knows it by.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    slot: usize,
    /// Wakers and slots belong to the thread.
    _local: std::marker::PhantomData<*const ()>,
}

impl Source {
    fn new(fd: OwnedFd) -> io::Result<Source> {
        let slot = with_driver(|driver| match driver {
            Driver::Ring(ring) => Ok(ring.register(fd.as_fd())),
            Driver::Epoll(epoll) => epoll.register(fd.as_fd()),
        })?;
        Ok(Source {
            fd,
            slot,
            _local: std::marker::PhantomData,
        })
    }

    fn ready(&self, interest: Interest) -> Readiness<'_> {
        Readiness {
            source: self,
            interest,
            wait: None,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut wakers = (None, None);
        try_with_driver(|driver| match driver {
            Driver::Ring(ring) => wakers.0 = ring.unregister(self.slot),
            Driver::Epoll(epoll) => wakers = epoll.unregister(self.slot),
        });
        // Dropped with the driver free, for the last waker of a task drops the task.
        drop(wakers);
    }
}

/// A wait for a descriptor. It may end without cause: whoever waits tries again. And it begins with a try: only what comes
/// after a try that found nothing, or less than it asked for, is sure to end it. One wait at a time for each direction.
#[derive(Debug)]
#[must_use = "a wait does nothing unless awaited"]
pub struct Readiness<'a> {
    source: &'a Source,
    interest: Interest,
    wait: Option<usize>,
}

/// The memory of a wait by [`Socket::poll_writable`].
#[derive(Debug, Default)]
pub struct WriteWait(Option<usize>);

impl Future for Readiness<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        with_driver(|driver| match (driver, this.interest) {
            (Driver::Ring(ring), Interest::Write) => {
                ring.poll_writable(this.source.fd.as_fd(), &mut this.wait, cx)
            }
            (Driver::Ring(ring), Interest::Read) => {
                let ready = ring.poll_readable(this.source.slot, cx);
                this.wait = ready.is_pending().then_some(this.source.slot);
                ready.map(Ok)
            }
            (Driver::Epoll(epoll), interest) => {
                let ready = epoll.poll_ready(this.source.slot, interest, cx);
                this.wait = ready.is_pending().then_some(this.source.slot);
                ready.map(Ok)
            }
        })
    }
}

impl Drop for Readiness<'_> {
    fn drop(&mut self) {
        let Some(wait) = self.wait else { return };
        let mut waker = None;
        try_with_driver(|driver| {
            waker = match (driver, self.interest) {
                (Driver::Ring(ring), Interest::Write) => ring.forget(wait),
                (Driver::Ring(ring), Interest::Read) => ring.forget_readable(wait),
                (Driver::Epoll(epoll), interest) => epoll.forget(wait, interest),
            };
        });
        drop(waker);
    }
}

impl Socket {
    /// Takes over a connected socket, which must be non-blocking.
    ///
    /// # Errors
    /// The backend cannot register it (out of memory, or over `fs.epoll.max_user_watches`).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Socket> {
        Ok(Socket {
            source: Source::new(fd)?,
        })
    }

    /// Ends when the peer has reset the connection, for whoever waits for something else meanwhile. Takes nothing off the stream.
    ///
    /// Once there is something to read, or the peer has ended its side, this ends no more: behind that only reading tells of a
    /// reset.
    pub async fn broken(&self) -> io::Error {
        let socket = SockRef::from(&self.source.fd);
        loop {
            if let Err(error) = self.readable().await {
                return error;
            }
            match socket.peek(&mut [MaybeUninit::uninit()]) {
                Ok(_) => std::future::pending().await,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error,
            }
        }
    }

    /// Connects to `address`. Dropping the future closes the attempt.
    ///
    /// # Errors
    /// The kernel's: refused, unreachable, timed out (after `net.ipv4.tcp_syn_retries`; bound it with [`super::timeout`]).
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        Socket::connect_inside(address, None).await
    }

    /// As [`Socket::connect`], from inside a network namespace: a socket stays in the one that it was made in.
    ///
    /// # Errors
    /// As [`Socket::connect`]; and when the namespace cannot be entered.
    pub async fn connect_inside(address: SocketAddr, netns: Option<&NetNs>) -> io::Result<Socket> {
        let make = || {
            socket2::Socket::new(
                Domain::for_address(address),
                Type::STREAM.nonblocking().cloexec(),
                Some(Protocol::TCP),
            )
        };
        let raw = match netns {
            Some(netns) => netns.visit(make)??,
            None => make()?,
        };
        raw.set_tcp_nodelay(true)?;
        raw.set_keepalive(true)?;
        let address = address.into();
        let attempt = |raw: &socket2::Socket| match raw.connect(&address) {
            Ok(()) => Ok(true),
            // Asked again, the kernel tells how the attempt has ended: connected, the error, or not yet.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINPROGRESS | libc::EALREADY)) => {
                Ok(false)
            }
            Err(e) if e.raw_os_error() == Some(libc::EISCONN) => Ok(true),
            Err(e) => Err(e),
        };
        let mut connected = attempt(&raw)?;
        let socket = Socket::from_fd(raw.into())?;
        while !connected {
            socket.writable().await?;
            connected = attempt(&SockRef::from(&socket.source.fd))?;
        }
        Ok(socket)
    }

    /// Reads what is there; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, or the kernel's.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        sys::try_read(self.as_fd(), buffer)
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, or the kernel's.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::try_write(self.as_fd(), bytes)
    }

    /// Waits until there may be something to read (the end of the stream and errors included).
    pub fn readable(&self) -> Readiness<'_> {
        self.source.ready(Interest::Read)
    }

    /// Waits until there may be room to write (errors included).
    pub fn writable(&self) -> Readiness<'_> {
        self.source.ready(Interest::Write)
    }

    /// Reads at least a byte; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                done => return done,
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The kernel's; how much was written before is not known then.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// As [`Socket::readable`], for who polls and keeps nothing between polls: the wait lasts until it ends, or the socket is
    /// closed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        with_driver(|driver| match driver {
            Driver::Ring(ring) => ring.poll_readable(self.source.slot, cx),
            Driver::Epoll(epoll) => epoll.poll_ready(self.source.slot, Interest::Read, cx),
        })
    }

    /// As [`Socket::writable`], for who polls. The wait is kept in `wait`, which is given up by [`Socket::forget_writable`] before
    /// the socket is closed.
    ///
    /// # Errors
    /// The kernel cannot wait.
    pub fn poll_writable(
        &self,
        wait: &mut WriteWait,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        with_driver(|driver| match driver {
            Driver::Ring(ring) => ring.poll_writable(self.as_fd(), &mut wait.0, cx),
            Driver::Epoll(epoll) => epoll
                .poll_ready(self.source.slot, Interest::Write, cx)
                .map(Ok),
        })
    }

    /// Gives up a wait of [`Socket::poll_writable`].
    pub fn forget_writable(&self, wait: &mut WriteWait) {
        let mut waker = None;
        if let Some(key) = wait.0.take() {
            try_with_driver(|driver| {
                if let Driver::Ring(ring) = driver {
                    waker = ring.forget(key);
                }
            });
        }
        drop(waker);
    }

    /// Writes what fits of several pieces, one after the other.
    ///
    /// # Errors
    /// As [`Socket::try_write`].
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(&self.source.fd).send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL)
    }

    /// Takes the error that the kernel holds for this connection, such as the peer's reset.
    #[must_use]
    pub fn take_error(&self) -> Option<io::Error> {
        SockRef::from(&self.source.fd).take_error().ok().flatten()
    }

    /// Tells the peer that nothing more will come (FIN).
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.source.fd).shutdown(Shutdown::Write)
    }

    /// Closes by a reset.
    pub fn reset(self) {
        self.reset_on_close();
    }

    /// From now on closing means a reset: the peer sees an error, not an end, and what was not yet sent is discarded.
    pub fn reset_on_close(&self) {
        // On a connection that is gone already this fails, and there is nobody left to tell.
        let _ = SockRef::from(&self.source.fd).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.fd.as_fd()
    }
}

/// How a listener is made.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// Length of the kernel's queue of connections not yet accepted (`net.core.somaxconn` caps it).
    pub backlog: u32,
}

/// A listener of its own for this worker; the kernel spreads connections over all listeners of an address (`SO_REUSEPORT`).
#[derive(Debug)]
pub struct Listener {
    source: Source,
}

impl Listener {
    /// Makes a bound, listening descriptor. It may be handed to another thread, whose worker takes it with [`Listener::from_fd`].
    ///
    /// # Errors
    /// The kernel's: address in use, not available on this host, no permission.
    pub fn bind(address: SocketAddr, options: &ListenerOptions) -> io::Result<OwnedFd> {
        let raw = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            raw.set_only_v6(false)?;
        }
        raw.set_reuse_address(true)?;
        raw.set_reuse_port(true)?;
        // Accepted sockets inherit these, which saves their system calls for each connection.
        raw.set_tcp_nodelay(true)?;
        raw.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
        raw.bind(&address.into())?;
        raw.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(raw.into())
    }

    /// Takes over a listening descriptor, which must be non-blocking.
    ///
    /// # Errors
    /// The backend cannot register it.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Listener> {
        Ok(Listener {
            source: Source::new(fd)?,
        })
    }

    /// Accepts a connection that waits in the queue.
    ///
    /// # Errors
    /// `WouldBlock` when none does, or the kernel's (out of descriptors or memory).
    pub fn try_accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let (fd, peer) = sys::try_accept(self.source.fd.as_fd())?;
        Ok((Socket::from_fd(fd)?, peer))
    }

    /// Waits until a connection may be waiting in the queue.
    pub fn readable(&self) -> Readiness<'_> {
        self.source.ready(Interest::Read)
    }
}
