//! The proxies that are compared, each started with one worker, no log, and limits that none of the loads reaches.

mod envoy;
mod haproxy;
mod hnp;
mod nginx;
mod squid;
mod tinyproxy;

pub(crate) use nginx::MODULE as NGINX_STREAM;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::child::Process;
use crate::interrupt;
use crate::net::{self, SPREAD, upstream_ip};
use crate::route::{Ports, Route, Service};

/// How long a proxy has to accept its first connection.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Where a proxy listens.
pub(crate) const LISTEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A kind of proxy.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// What it is called in tables and on the command line.
    pub name: &'static str,
    /// What it is measured as, in a few words.
    pub about: &'static str,
    /// Whether clients ask it with CONNECT; the others have a fixed upstream.
    pub connect: bool,
    prepare: fn(&Site<'_>) -> anyhow::Result<Launch>,
}

/// HNP itself.
pub const HNP: Peer = hnp::PEER;

/// Everybody else.
pub const OTHERS: [Peer; 5] = [
    haproxy::PEER,
    nginx::PEER,
    squid::PEER,
    tinyproxy::PEER,
    envoy::PEER,
];

/// Where programs are that are not in `PATH`.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// The binary `hnp`.
    pub hnp: PathBuf,
    /// The binary `envoy`.
    pub envoy: Option<PathBuf>,
    /// What HNP's workers wait with: `auto`, `io_uring` or `epoll`.
    pub backend: String,
    /// HNP's port; a free one where there is none.
    pub hnp_port: Option<u16>,
}

/// What a peer needs to know to prepare its start.
struct Site<'a> {
    programs: &'a Programs,
    /// A directory of its own.
    directory: &'a Path,
    upstream: Ports,
}

/// How to start a peer and how to reach the upstream through it.
struct Launch {
    command: Command,
    route: Route,
}

impl Site<'_> {
    fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        write(self.directory, name, text)
    }

    /// A route for a peer that is asked with CONNECT, and its port.
    fn connect(&self, port: u16) -> Route {
        Route::Connect {
            proxy: SocketAddr::new(LISTEN, port),
            upstream: self.upstream,
        }
    }

    /// For a peer with a fixed upstream: a section for each service, in the words of `section(name, port, upstream addresses)`.
    fn fixed(
        &self,
        section: impl Fn(&str, u16, &[SocketAddr]) -> String,
    ) -> anyhow::Result<(String, Route)> {
        let ports = Ports::free()?;
        let mut text = String::new();
        for (name, service) in [
            ("echo", Service::Echo),
            ("source", Service::Source),
            ("sink", Service::Sink),
        ] {
            let upstream = self.upstream.of(service);
            let addresses: Vec<SocketAddr> = (0..SPREAD)
                .map(|index| SocketAddr::new(upstream_ip(index), upstream))
                .collect();
            writeln!(text, "{}", section(name, ports.of(service), &addresses))?;
        }
        Ok((
            text,
            Route::Fixed {
                proxy: LISTEN,
                ports,
            },
        ))
    }
}

/// A proxy at work; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// The way through it.
    pub route: Route,
    // Deleted after the process has ended: fields are dropped in order.
    _directory: tempfile::TempDir,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.process.wait()
    }
}

impl Peer {
    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// When its program is not there, or it ends or does not accept within fifteen seconds; with its last words.
    pub fn start(&self, programs: &Programs, upstream: Ports) -> anyhow::Result<Running> {
        let directory = directory()?;
        let site = Site {
            programs,
            directory: directory.path(),
            upstream,
        };
        let Launch { mut command, route } = (self.prepare)(&site)?;
        let address = route.destination(Service::Echo, 0);
        let process = await_start(self.name, &mut command, directory.path(), address)?;
        Ok(Running {
            process,
            route,
            _directory: directory,
        })
    }
}

/// A directory for one proxy.
pub(crate) fn directory() -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("hnp-bench-").tempdir()?;
    interrupt::delete_too(directory.path());
    Ok(directory)
}

/// Writes a configuration file.
pub(crate) fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Starts a proxy and waits until it accepts connections.
///
/// # Errors
/// When its program is not there, or it ends or does not accept within fifteen seconds; with its last words.
pub(crate) fn await_start(
    name: &str,
    command: &mut Command,
    directory: &Path,
    address: SocketAddr,
) -> anyhow::Result<Process> {
    let mut words = fs::File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(directory.join("stderr"))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words.try_clone()?);
    let mut process = Process::start(name, command)?;
    let deadline = Instant::now() + START_LIMIT;
    // A proxy has no other way to say that it is ready that all have in common.
    while TcpStream::connect_timeout(&address, START_LIMIT).is_err() {
        let late = Instant::now() > deadline;
        if late || process.check().is_err() {
            let mut text = String::new();
            words.seek(SeekFrom::Start(0))?;
            words.read_to_string(&mut text)?;
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            let how = if late { "does not accept" } else { "ended" };
            bail!("{name} {how} after its start; its last words:\n{last}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(process)
}

/// A program in `PATH`, or where Debian puts daemons.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed; `cargo xtask run --peers` installs it"))
}

/// A port for a peer that has to be told one.
fn port() -> anyhow::Result<u16> {
    net::free_port().context("no free port")
}
