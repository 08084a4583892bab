//! The process inside a pod: this very test program, started again.

use std::env;
use std::io::{self, BufRead, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hnp_tests::random::Random;
use nix::libc::{ECONNREFUSED, EINPROGRESS, EPERM};
use socket2::{Domain, Socket, Type};

/// Where the servers are; see `fleet`.
pub(crate) const PORTS: [u16; 2] = [8080, 8081];

/// What came of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The server was reached at the address that was asked for.
    pub(crate) right: usize,
    /// At another one.
    pub(crate) wrong: usize,
    /// connect() failed at once: nothing was sent, and nothing waited for.
    pub(crate) refused: usize,
    /// It ended early, or otherwise.
    pub(crate) other: usize,
    /// How long refusals took, in microseconds.
    pub(crate) refusals: Vec<u64>,
}

impl Tally {
    pub(crate) fn right(right: usize) -> Tally {
        Tally {
            right,
            ..Tally::default()
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.other += other.other;
        self.refusals.extend(&other.refusals);
    }

    fn write(&self) -> String {
        let refusals: Vec<String> = self.refusals.iter().map(u64::to_string).collect();
        format!(
            "{} {} {} {} {}",
            self.right,
            self.wrong,
            self.refused,
            self.other,
            refusals.join(" ")
        )
    }

    /// What the process wrote, if it is that.
    pub(crate) fn read(line: &str) -> Option<Tally> {
        let numbers: Vec<u64> = line
            .strip_prefix("tally ")?
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        let number = |at: usize| usize::try_from(numbers[at]).unwrap();
        Some(Tally {
            right: number(0),
            wrong: number(1),
            refused: number(2),
            other: number(3),
            refusals: numbers[4..].to_vec(),
        })
    }
}

#[test]
#[ignore = "the process inside a pod, started by the other tests"]
fn client() {
    let var = |name: &str| env::var(name).unwrap();
    let mut random = Random::new(var("CLIENT_SEED").parse().unwrap());
    let mut tally = Tally::default();
    if let Ok(count) = env::var("CLIENT_COUNT") {
        for _ in 0..count.parse().unwrap() {
            one(&mut random, &mut tally);
        }
        // Cargo's harness has not ended its own line yet.
        println!("\ntally {}", tally.write());
        return;
    }
    // A line on the input ends a phase, its end ends all.
    static PHASE: AtomicUsize = AtomicUsize::new(0);
    static END: AtomicUsize = AtomicUsize::new(usize::MAX);
    thread::spawn(|| {
        for _ in io::stdin().lock().lines() {
            PHASE.fetch_add(1, Ordering::SeqCst);
        }
        END.store(0, Ordering::SeqCst);
    });
    let mut phase = 0;
    let mut count = 0;
    while END.load(Ordering::SeqCst) != 0 {
        let now = PHASE.load(Ordering::SeqCst);
        if now != phase {
            println!("\ntally {}", tally.write());
            (phase, tally, count) = (now, Tally::default(), 0);
        }
        one(&mut random, &mut tally);
        count += 1;
        if count % 50 == 0 {
            println!("\nfifty");
        }
    }
}

/// A connection to an address of its own.
fn one(random: &mut Random, tally: &mut Tally) {
    let word = random.word();
    let port = PORTS[(word >> 32) as usize % PORTS.len()];
    let low = word as u16;
    let to = if word >> 63 == 0 {
        SocketAddr::from((Ipv4Addr::new(203, 0, 113, low as u8), port))
    } else {
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low), port))
    };
    let start = Instant::now();
    let mut stream = match connect(to) {
        Ok(stream) => stream,
        Err(Failed::AtOnce) => {
            tally.refused += 1;
            let took = start.elapsed().as_micros();
            tally.refusals.push(u64::try_from(took).unwrap());
            // A program that is refused does not try again at once.
            thread::sleep(Duration::from_millis(1));
            return;
        }
        Err(Failed::Otherwise(error)) => {
            eprintln!("{to}: {error}");
            tally.other += 1;
            return;
        }
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut said = String::new();
    match stream.read_to_string(&mut said) {
        Ok(_) if said.is_empty() => tally.other += 1,
        Ok(_) if said == to.to_string() => tally.right += 1,
        Ok(_) => {
            eprintln!("{to}: the server was reached at {said}");
            tally.wrong += 1;
        }
        Err(error) => {
            eprintln!("{to}: {error}");
            tally.other += 1;
        }
    }
}

enum Failed {
    /// The call itself was refused.
    AtOnce,
    /// Later, or for another reason.
    Otherwise(io::Error),
}

/// Connects, and tells a call that is refused from a connection that is.
fn connect(to: SocketAddr) -> Result<TcpStream, Failed> {
    let waiting = || -> io::Result<Result<Socket, Failed>> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let begun = socket.connect(&to.into());
        socket.set_nonblocking(false)?;
        match begun.map_err(|error| error.raw_os_error()) {
            Ok(()) => {}
            // The second call waits for what the first has begun.
            Err(Some(EINPROGRESS)) => socket.connect(&to.into())?,
            Err(Some(ECONNREFUSED | EPERM)) => return Ok(Err(Failed::AtOnce)),
            Err(other) => {
                return Err(other.map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error));
            }
        }
        Ok(Ok(socket))
    };
    waiting().map_err(Failed::Otherwise)?.map(TcpStream::from)
}
