//! What a round trip of 64 bytes through a relay costs on several reactors: the figures behind `hnp-dataplane/src/uring`.
//!
//! Each relay is a process of its own with one thread, takes connections on a port of 127.0.0.1 and connects each to the echo
//! service of the upstream; each direction is a loop of recv and send, and waits where they would block. What differs is how.

mod epoll_loop;
mod hnp;
mod tokio_epoll;
mod tokio_uring_poll;
mod uring_poll;
mod uring_recv;

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use hnp_dataplane::uring::Mechanism;
use nix::sys::signal::Signal;

use crate::child::{Process, Worker};
use crate::load::{Generator, Load, Order, Outcome};
use crate::net;
use crate::placement::{Placement, Role};
use crate::route::{Ports, Route};
use crate::upstream::Upstream;
use crate::usage::ProcessTree;

/// Bytes of a relay's buffer for one direction.
const BUFFER: usize = 16 * 1024;

/// A way to wait.
#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum Kind {
    /// tokio-uring 0.5: PollAdd by `UnsubmittedOneshot`, then recv and send
    TokioUring,
    /// tokio, current_thread: epoll, edge triggered
    Tokio,
    /// A bare loop around epoll, edge triggered
    Epoll,
    /// A bare loop around io_uring: PollAdd, then recv and send
    UringPoll,
    /// A bare loop around io_uring: multishot PollAdd, then recv and send
    UringMultishot,
    /// A bare loop around io_uring: the recv and send operations of the ring
    UringRecv,
    /// HNP's runtime on io_uring
    HnpUring,
    /// HNP's runtime on epoll
    HnpEpoll,
}

/// Compares what a round trip costs on several reactors.
#[derive(Debug, Args)]
pub struct Reactors {
    /// Measurements of each, interleaved
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of a measurement in milliseconds
    #[arg(long, default_value_t = 250)]
    millis: u64,
    /// Connections at once, one after another
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    connections: Vec<u32>,
    /// Only these
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
}

/// One relay of the comparison, as a process of its own: prints its address, serves until standard input ends.
#[derive(Debug, Args)]
pub struct Relay {
    /// How it waits
    kind: Kind,
    /// The echo
    upstream: SocketAddr,
}

impl Relay {
    /// Runs it.
    ///
    /// # Errors
    /// When the kernel refuses what it waits with.
    pub fn run(&self) -> anyhow::Result<()> {
        let listener = net::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        println!("{}", serde_json::to_string(&listener.local_addr()?)?);
        std::io::stdout().flush()?;
        // The relay's thread is only waited for by the end of the process.
        std::thread::spawn(|| {
            let _ended = std::io::stdin().lock().read_line(&mut String::new());
            std::process::exit(0);
        });
        match self.kind {
            Kind::TokioUring => tokio_uring_poll::run(listener, self.upstream),
            Kind::Tokio => tokio_epoll::run(listener, self.upstream),
            Kind::Epoll => epoll_loop::run(&listener, self.upstream),
            Kind::UringPoll => uring_poll::run(&listener, self.upstream, false),
            Kind::UringMultishot => uring_poll::run(&listener, self.upstream, true),
            Kind::HnpUring => hnp::run(listener, self.upstream, Mechanism::IoUring),
            Kind::HnpEpoll => hnp::run(listener, self.upstream, Mechanism::Epoll),
            Kind::UringRecv => uring_recv::run(&listener, self.upstream),
        }
    }
}

/// What was measured of one kind.
struct Row {
    kind: Kind,
    connections: u32,
    placement: Placement,
    outcomes: Vec<Outcome>,
    syscalls: Option<f64>,
}

impl Reactors {
    /// Measures and prints.
    ///
    /// # Errors
    /// When a process cannot be started or a relay fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let upstream = Upstream::start()?;
        let kinds: Vec<Kind> = Kind::value_variants()
            .iter()
            .copied()
            .filter(|kind| self.only.is_empty() || self.only.contains(kind))
            .collect();
        let mut relays = Vec::new();
        for &kind in &kinds {
            let name = kind
                .to_possible_value()
                .context("every kind has a name")?
                .get_name()
                .to_owned();
            let echo = SocketAddr::new(net::upstream_ip(0), upstream.ports.echo).to_string();
            let mut worker = Worker::start(&format!("the {name} relay"), &["relay", &name, &echo])?;
            let address: SocketAddr = worker.hear()?;
            relays.push((kind, worker, address));
        }
        let mut rows = Vec::new();
        let settings = [Placement::Together, Placement::Apart]
            .into_iter()
            .flat_map(|place| self.connections.iter().map(move |&count| (place, count)));
        for (placement, connections) in settings {
            placement.put(i32::try_from(upstream.id())?, Role::Other)?;
            for (_, worker, _) in &relays {
                placement.put(i32::try_from(worker.id())?, Role::Proxy)?;
            }
            let from = rows.len();
            rows.extend(kinds.iter().map(|&kind| Row {
                kind,
                connections,
                placement,
                outcomes: Vec::new(),
                syscalls: None,
            }));
            for _ in 0..self.rounds {
                for (row, (_, worker, address)) in rows[from..].iter_mut().zip(&relays) {
                    row.outcomes.push(self.measure(
                        worker.id(),
                        *address,
                        connections,
                        placement,
                    )?);
                }
            }
            for (row, (_, worker, address)) in rows[from..].iter_mut().zip(&relays) {
                row.syscalls = self.syscalls(worker.id(), *address, connections, placement)?;
            }
        }
        print(&rows);
        Ok(())
    }

    fn measure(
        &self,
        pid: u32,
        relay: SocketAddr,
        connections: u32,
        placement: Placement,
    ) -> anyhow::Result<Outcome> {
        let port = relay.port();
        let order = Order {
            load: Load::PingPong,
            route: Route::Fixed {
                proxy: relay.ip(),
                ports: Ports {
                    echo: port,
                    source: port,
                    sink: port,
                },
            },
            tunnels: connections,
            warm_up: Duration::from_millis(50),
            window: Duration::from_millis(self.millis),
            processes: Some(ProcessTree::of(pid)?),
        };
        let mut generator = Generator::start(&order)?;
        placement.put(i32::try_from(generator.id())?, Role::Other)?;
        generator.outcome()
    }

    /// System calls of the relay for one round trip, counted by `perf stat` in a run of its own; none where perf or its
    /// tracepoint cannot be had.
    fn syscalls(
        &self,
        pid: u32,
        relay: SocketAddr,
        connections: u32,
        placement: Placement,
    ) -> anyhow::Result<Option<f64>> {
        let mut command = Command::new("perf");
        command.args([
            "stat",
            "-x",
            ",",
            "-e",
            "raw_syscalls:sys_enter",
            "-o",
            "/dev/stdout",
            "-p",
            &pid.to_string(),
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let Ok(mut perf) = Process::start("perf", &mut command) else {
            return Ok(None);
        };
        let outcome = self.measure(pid, relay, connections, placement)?;
        perf.signal(Signal::SIGINT);
        let text = perf.output()?;
        let count = text.lines().find_map(|line| {
            line.contains("raw_syscalls")
                .then(|| line.split(',').next()?.parse::<f64>().ok())?
        });
        Ok(count.map(|count| count / outcome.all_units as f64))
    }
}

fn print(rows: &[Row]) {
    println!(
        "Round trips of 64 bytes through a relay of one thread; medians of interleaved measurements, least and most in brackets."
    );
    println!(
        "{:<18}{:>6}{:>10}{:>15}{:>27}{:>11}{:>10}{:>10}",
        "reactor",
        "conns",
        "CPUs",
        "round trips/s",
        "CPU us/round trip",
        "syscalls",
        "p50 us",
        "p99 us"
    );
    for row in rows {
        let name = row
            .kind
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default();
        let sorted = |value: &dyn Fn(&Outcome) -> f64| {
            let mut values: Vec<f64> = row.outcomes.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
            [
                at(0),
                at(values.len() / 2),
                at(values.len().saturating_sub(1)),
            ]
        };
        let [_, rate, _] = sorted(&|outcome| outcome.units as f64 / outcome.seconds);
        let cpu = sorted(&|outcome| outcome.cpu.unwrap_or(f64::NAN) * 1e6 / outcome.units as f64);
        let [_, p50, _] =
            sorted(&|outcome| outcome.latency.map_or(f64::NAN, |latency| latency.p50));
        let [_, p99, _] =
            sorted(&|outcome| outcome.latency.map_or(f64::NAN, |latency| latency.p99));
        let cpu = format!("{:.2} [{:.2} {:.2}]", cpu[1], cpu[0], cpu[2]);
        let place = if row.placement == Placement::Together {
            "one"
        } else {
            "apart"
        };
        let syscalls = row
            .syscalls
            .map_or_else(|| "-".to_owned(), |count| format!("{count:.2}"));
        println!(
            "{name:<18}{:>6}{place:>10}{rate:>15.0}{cpu:>27}{syscalls:>11}{p50:>10.1}{p99:>10.1}",
            row.connections
        );
    }
}

/// Connects to the upstream without waiting for the outcome: over loopback it is there at once, and where it is not the first
/// read finds out.
fn dial(upstream: SocketAddr) -> std::io::Result<TcpStream> {
    net::start_connect(upstream, 0)
}

/// Accepts one connection and pairs it with one to the upstream; none when none waits.
fn pair(
    listener: &TcpListener,
    upstream: SocketAddr,
) -> std::io::Result<Option<(TcpStream, TcpStream)>> {
    net::accept(listener)?
        .map(|client| Ok((client, dial(upstream)?)))
        .transpose()
}
