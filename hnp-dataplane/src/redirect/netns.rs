//! Network namespaces of pods.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
    sys::socket::SockaddrStorage,
};

use super::RedirectError;

/// The number by which the kernel's programs know a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsCookie(pub(super) u64);

impl NetnsCookie {
    /// The namespace that a socket belongs to (`SO_NETNS_COOKIE`, Linux 5.14).
    ///
    /// # Errors
    /// What the kernel answers: `ENOPROTOOPT` before 5.14.
    #[expect(unsafe_code, reason = "no crate knows this socket option")]
    pub fn of_socket(socket: &impl AsFd) -> io::Result<Self> {
        const SO_NETNS_COOKIE: libc::c_int = 71;
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `cookie`, and a length to `length`, during the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            Ok(Self(cookie))
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// A network namespace, kept open.
#[derive(Debug)]
pub struct NetNs {
    path: PathBuf,
    file: File,
    /// Device and inode, by which namespaces are told apart.
    id: (u64, u64),
}

impl NetNs {
    /// The namespace at `path`: `/proc/PID/ns/net`, `/run/netns/NAME`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RedirectError> {
        let fault = |error| RedirectError::Path {
            doing: "open the network namespace",
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id: (metadata.dev(), metadata.ino()),
        })
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn of_process(pid: u32) -> Result<Self, RedirectError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace that this process was started in.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn home() -> Result<&'static Self, RedirectError> {
        static HOME: OnceLock<NetNs> = OnceLock::new();
        if let Some(home) = HOME.get() {
            return Ok(home);
        }
        // That of the main thread, which never goes elsewhere.
        let home = Self::open(Path::new("/proc/self/ns/net"))?;
        Ok(HOME.get_or_init(|| home))
    }

    /// Whether both are the same namespace.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Runs `work` inside the namespace on this very thread, which comes back before this returns. For a socket, which stays in the
    /// namespace that it was made in: `work` should do no more than that.
    ///
    /// A thread that cannot come back would make every later socket in a pod's namespace: then the process ends.
    ///
    /// # Errors
    /// When the kernel does not let the thread enter.
    pub fn visit<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        struct Return(&'static NetNs);
        impl Drop for Return {
            fn drop(&mut self) {
                if let Err(error) = setns(&self.0.file, CloneFlags::CLONE_NEWNET) {
                    eprintln!(
                        "fatal: a thread cannot come back from a pod's network namespace: {error}"
                    );
                    std::process::abort();
                }
            }
        }
        let home = Self::home().map_err(io::Error::other)?;
        if self.is(home) {
            // To enter it again would take CAP_SYS_ADMIN.
            return Ok(work());
        }
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        let _return = Return(home);
        Ok(work())
    }

    /// The addresses of its interfaces, but for loopback and link-local ones.
    ///
    /// # Errors
    /// When it cannot be entered, or the kernel does not tell.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, RedirectError> {
        let all = || {
            Ok(getifaddrs()?
                .filter_map(|interface| interface.address)
                .collect())
        };
        let addresses: nix::Result<Vec<SockaddrStorage>> = self.run(all)?;
        let addresses = addresses.map_err(|error| RedirectError::Path {
            doing: "read the addresses in the network namespace",
            path: self.path.clone(),
            error: error.into(),
        })?;
        let mut found: Vec<IpAddr> = addresses
            .iter()
            .filter_map(|address| {
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            })
            .filter(|address| match address {
                IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
                IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
            })
            .collect();
        found.dedup();
        Ok(found)
    }

    /// Runs `work` inside the namespace, on a thread of its own that ends with it: a thread that never returns to other work
    /// needs not find its way back.
    ///
    /// # Errors
    /// When the kernel does not let the thread enter, or gives no thread.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, RedirectError> {
        let fault = |error| RedirectError::Path {
            doing: "enter the network namespace",
            path: self.path.clone(),
            error,
        };
        // Where this process is, everybody may go.
        let elsewhere = !self.is(Self::home()?);
        thread::scope(|scope| {
            thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    if elsewhere {
                        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    }
                    Ok(work())
                })
                .map_err(fault)?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map_err(|error: nix::Error| fault(error.into()))
        })
    }

    /// Listens inside the namespace, on `127.0.0.1` and, where it has IPv6, on `[::1]`, on free ports.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or its loopback interface is down.
    pub fn listen(&self) -> Result<(TcpListener, Option<TcpListener>), RedirectError> {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        self.run(|| Ok((TcpListener::bind(v4)?, TcpListener::bind(v6).ok())))?
            .map_err(|error| RedirectError::Path {
                doing: "listen in the network namespace",
                path: self.path.clone(),
                error,
            })
    }
}
