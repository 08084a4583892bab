//! The ways in which a program can connect a TCP socket.

#![expect(
    unsafe_code,
    reason = "what the standard library and nix leave out: fast open, MPTCP, io_uring"
)]

use std::{
    ffi::{c_int, c_void},
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

use io_uring::{IoUring, opcode, types};
use socket2::{Domain, SockAddr, Socket, Type};

/// What is sent with the SYN, where something can be.
const EARLY: &[u8] = b"early";

/// Connects in this way.
pub(crate) fn connect(way: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let address = SockAddr::from(to);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    match way {
        "blocking" => socket.connect(&address)?,
        "nonblocking" => {
            socket.set_nonblocking(true)?;
            match socket.connect(&address) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
                result => result?,
            }
            writable(&socket)?;
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            socket.set_nonblocking(false)?;
        }
        "io_uring" => submit(&mut IoUring::new(2)?, &socket, &address)?,
        // The kernel's own thread makes the call.
        "io_uring-sqpoll" => {
            submit(
                &mut IoUring::builder().setup_sqpoll(10).build(2)?,
                &socket,
                &address,
            )?;
        }
        // The call that sends connects; connect() is never called.
        "fastopen-sendto" => {
            let sent = socket.send_to_with_flags(EARLY, &address, libc::MSG_FASTOPEN)?;
            assert_eq!(sent, EARLY.len());
        }
        // connect() only notes the address where it has a cookie, or needs none.
        "fastopen-connect" => {
            set(
                &socket,
                libc::IPPROTO_TCP,
                libc::TCP_FASTOPEN_CONNECT,
                1_i32,
            )?;
            socket.connect(&address)?;
            assert_eq!(socket.send(EARLY)?, EARLY.len());
        }
        "mptcp" => {
            let socket = mptcp(to)?;
            socket.connect(&address)?;
            return Ok(socket.into());
        }
        // What was connected before, disconnected, and connected anew.
        "again" => {
            socket.connect(&SocketAddr::from(([203, 0, 113, 200], 1)).into())?;
            disconnect(&socket)?;
            socket.connect(&address)?;
        }
        other => panic!("{other}"),
    }
    Ok(socket.into())
}

/// A connection to `to`, on a socket that was connected to `first` and disconnected.
pub(crate) fn reconnect(first: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.connect(&first.into())?;
    disconnect(&socket)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// As many connections to the addresses as can be, all held.
pub(crate) fn hold(to: &[&str]) -> String {
    let mut held = Vec::new();
    for to in to {
        match TcpStream::connect(to) {
            Ok(stream) => held.push(stream),
            Err(error) => return format!("{} then {}", held.len(), super::inside::told(&error)),
        }
    }
    format!("{}", held.len())
}

fn mptcp(to: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(to);
    Socket::new(
        domain,
        Type::STREAM,
        Some(socket2::Protocol::from(libc::IPPROTO_MPTCP)),
    )
}

fn writable(socket: &Socket) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut ready, PollTimeout::NONE)?;
    Ok(())
}

fn submit(ring: &mut IoUring, socket: &Socket, address: &SockAddr) -> io::Result<()> {
    let entry = opcode::Connect::new(
        types::Fd(socket.as_raw_fd()),
        address.as_ptr().cast(),
        address.len(),
    );
    // SAFETY: socket and address outlive the operation, for which `submit_and_wait` waits.
    unsafe { ring.submission().push(&entry.build()) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring
        .completion()
        .next()
        .map_or(-libc::EIO, |done| done.result());
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(())
}

/// connect() with `AF_UNSPEC`: the socket is as new.
fn disconnect(socket: &Socket) -> io::Result<()> {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `nobody` during the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) })
}

fn set<T: Copy>(socket: &Socket, level: c_int, name: c_int, value: T) -> io::Result<()> {
    let pointer = (&raw const value).cast::<c_void>();
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value` during the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
