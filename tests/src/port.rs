//! Ports for processes that cannot bind port 0.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

/// A port nobody else of this suite has, until dropped.
///
/// Taken from outside the range that the kernel gives to outgoing connections, so that no client's socket takes it between the choice
/// and the bind, and locked by file, so that suites running side by side do not meet.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Flock<File>,
}

/// Below the kernel's default range for outgoing connections (32768 on) and above what services like to use.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

impl Port {
    /// Takes a port that is free on all addresses.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn take() -> Port {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = std::env::temp_dir().join("hnp-test-ports");
        fs::create_dir_all(&directory).unwrap();
        // Where the search starts differs by process, so that it seldom walks over another's.
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = u16::try_from(FIRST + start.wrapping_add(step) % COUNT).unwrap();
            let file = File::create(directory.join(number.to_string())).unwrap();
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let free = |ip: IpAddr| TcpListener::bind((ip, number)).is_ok();
            if free(Ipv4Addr::UNSPECIFIED.into()) && free(Ipv6Addr::LOCALHOST.into()) {
                return Port {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port. Nobody listens there unless the holder does: a connection is refused.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
