//! The process inside the pod.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::resource::{Usage, UsageWho, getrusage};

use crate::figures::GIB;
use crate::histogram::Histogram;

/// The environment variable that names a proxy.
pub(super) const PROXY: &str = "BENCH_PROXY";

/// What `connect` says, and what it is.
pub(super) const CONNECTING: [(&str, &str); 4] = [
    ("connect_p50", "connect(), half of all"),
    ("connect_p99", "connect(), 99 of 100"),
    (
        "answer_p50",
        "connect(), a request and the first byte of its answer, half of all",
    ),
    (
        "answer_p99",
        "connect(), a request and the first byte of its answer, 99 of 100",
    ),
];

/// What it sends. Whoever answers closes the connection, so that the ports of connections that were do not run out here.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// `hnp-bench intercept-client`.
#[derive(Debug, clap::Args)]
pub struct Client {
    what: String,
    count: u64,
    server: SocketAddr,
}

impl Client {
    /// Measures, and writes a line for each figure.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn run(&self) -> anyhow::Result<()> {
        match &*self.what {
            "connect" => self.connect(),
            "read" => self.read(),
            other => bail!("{other} is nothing to measure"),
        }
    }

    fn connect(&self) -> anyhow::Result<()> {
        let (mut connect, mut answer) = (Histogram::new(), Histogram::new());
        let mut received = Vec::new();
        for _ in 0..self.count {
            let start = Instant::now();
            let mut stream = TcpStream::connect(self.server).context("cannot connect")?;
            connect.record(start.elapsed());
            stream.write_all(REQUEST).context("cannot ask")?;
            received.resize(1, 0);
            stream.read_exact(&mut received).context("no answer")?;
            answer.record(start.elapsed());
            stream.read_to_end(&mut received).context("no end")?;
            if !received.starts_with(b"HTTP/1.1 200 ") {
                bail!("the answer is {}", String::from_utf8_lossy(&received));
            }
        }
        let measured = [connect, answer].into_iter();
        let quantiles = measured.flat_map(|one| [one.quantile(0.5), one.quantile(0.99)]);
        for ((name, _), quantile) in CONNECTING.iter().zip(quantiles) {
            println!("{name} {}", quantile.as_secs_f64() * 1e6);
        }
        Ok(())
    }

    /// To the server, or through the proxy that the environment names.
    fn open(&self) -> anyhow::Result<TcpStream> {
        let Ok(proxy) = std::env::var(PROXY) else {
            return TcpStream::connect(self.server).context("cannot connect");
        };
        let mut stream = TcpStream::connect(proxy).context("cannot connect to the proxy")?;
        let to = self.server;
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            bail!("the proxy says {}", String::from_utf8_lossy(&head));
        }
        Ok(stream)
    }

    fn read(&self) -> anyhow::Result<()> {
        let total = self.count << 20;
        let mut buffer = vec![0; 1 << 17];
        let mut left = total;
        let mut stream = self.open()?;
        let start = Instant::now();
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left)?);
            match stream.read(&mut buffer[..most])? {
                0 => bail!("the server ended early"),
                read => left -= read as u64,
            }
        }
        let gib = total as f64 / GIB;
        println!("rate {}", gib / start.elapsed().as_secs_f64());
        println!("cpu {}", cpu()?.as_secs_f64() / gib);
        Ok(())
    }
}

/// What this process has used.
pub(super) fn cpu() -> anyhow::Result<Duration> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Ok(Duration::from_micros(
        u64::try_from(micros(user) + micros(system)).unwrap_or(0),
    ))
}
