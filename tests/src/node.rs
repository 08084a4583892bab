//! The real `hnp` as a child process.

mod log;
mod metrics;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use toml::{Table, Value};

pub use log::Log;
pub use metrics::Metrics;

use crate::exchange::{self, Response};
use crate::process::Process;
use crate::{DEADLINE, Port, bin, patient, seccomp, wait};

/// What a test's configuration stands on: small, everything local allowed, the backend of this run.
///
/// Two workers, so that what is shared among workers is shared here too.
const BASE: &str = r#"
workers = 2
[[policy.allow]]
hosts = ["localhost", "*.test"]
cidrs = ["127.0.0.0/8", "::1/128"]
[timeouts]
drain = "10s"
"#;

/// Describes a [`Node`] to be started.
#[derive(Debug)]
pub struct NodeBuilder {
    config: Table,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    without_io_uring: bool,
    without_file: bool,
}

/// A running `hnp`. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    process: Process,
    log: Log,
    listener: Port,
    admin: Port,
    config: Table,
    directory: TempDir,
    executable: PathBuf,
}

/// The backend this run of the suite is for: `HNP_TEST_BACKEND`, or what `auto` finds.
#[must_use]
pub fn backend() -> String {
    std::env::var("HNP_TEST_BACKEND").unwrap_or_else(|_| "auto".to_owned())
}

impl NodeBuilder {
    /// Lays `toml` over the configuration: tables merge, everything else replaces.
    ///
    /// # Panics
    /// When it is not TOML.
    #[must_use]
    pub fn config(mut self, toml: &str) -> NodeBuilder {
        let over: Table = toml.parse().unwrap_or_else(|e| panic!("{e}\n{toml}"));
        merge(&mut self.config, over);
        self
    }

    /// Puts a file beside the configuration.
    #[must_use]
    pub fn file(mut self, name: &str, content: &str) -> NodeBuilder {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> NodeBuilder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with no file at all: only its environment, and flags that say where to listen.
    #[must_use]
    pub fn without_file(mut self) -> NodeBuilder {
        self.without_file = true;
        self
    }

    /// Forbids io_uring to this node, and only to it.
    #[must_use]
    pub fn without_io_uring(mut self) -> NodeBuilder {
        self.without_io_uring = true;
        self
    }

    /// Starts it and waits until its port accepts.
    ///
    /// # Panics
    /// When it ends before, or takes longer than [`DEADLINE`]; with what it wrote.
    #[must_use]
    pub fn start(self) -> Node {
        let listener = Port::take();
        let admin = Port::take();
        let directory = tempfile::Builder::new()
            .prefix("hnp-test")
            .tempdir()
            .unwrap();
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let mut config = places(&listener, &admin);
        merge(&mut config, self.config);
        let file = directory.path().join("hnp.toml");
        fs::write(&file, toml::to_string(&config).unwrap()).unwrap();

        let mut command = hnp();
        command.arg("run").envs(self.environment);
        if self.without_file {
            fs::remove_file(file).unwrap();
            command.args(["--backend", &backend()]);
            command.args(["--listen", &listener.address().to_string()]);
            command.args(["--admin", &admin.address().to_string()]);
        } else {
            command.arg("--config").arg(&file);
        }
        let mut child = spawn(command, self.without_io_uring);
        let log = Log::follow(child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let process = Process::new(child);
        let executable = fs::read_link(format!("/proc/{}/exe", process.pid())).unwrap_or_default();
        let mut node = Node {
            process,
            log,
            listener,
            admin,
            config,
            directory,
            executable,
        };
        node.await_ready();
        node
    }
}

impl Node {
    /// A node to be described further.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        let mut config: Table = BASE.parse().unwrap();
        config.insert("backend".to_owned(), Value::String(backend()));
        NodeBuilder {
            config,
            environment: Vec::new(),
            files: Vec::new(),
            without_io_uring: false,
            without_file: false,
        }
    }

    /// A node with nothing special.
    #[must_use]
    pub fn start() -> Node {
        Node::builder().start()
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The address as clients are told it: `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where metrics and health are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The directory of the configuration.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("hnp.toml")
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Asks the admin address.
    ///
    /// # Panics
    /// When it does not answer with an HTTP response.
    #[must_use]
    pub fn admin(&self, path: &str) -> Response {
        exchange::get(self.admin_address(), path)
    }

    /// The metrics now.
    ///
    /// # Panics
    /// When they cannot be had.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let response = self.admin("/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// Waits until the metrics satisfy `condition`, which says why they do not.
    ///
    /// # Panics
    /// After the deadline.
    pub fn await_metrics<T>(
        &self,
        what: &str,
        condition: impl Fn(&Metrics) -> Result<T, String>,
    ) -> T {
        wait::until(what, || condition(&self.metrics()))
    }

    /// Writes the configuration anew with `toml` over it, as an editor would: a new file in the place of the old.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn rewrite_config(&mut self, toml: &str) {
        let mut config = self.config.clone();
        merge(&mut config, toml.parse().unwrap());
        self.replace_config(&toml::to_string(&config).unwrap());
    }

    /// Writes this text in the place of the configuration, whatever it is.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replace_config(&self, text: &str) {
        let new = self.directory.path().join("hnp.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config_file()).unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end; the exit code, or 128+n after a signal.
    ///
    /// # Panics
    /// When it goes on after [`DEADLINE`].
    pub fn exit_code(&mut self) -> i32 {
        match self.process.ended_within(patient(DEADLINE)) {
            Some(status) => status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap()),
            None => panic!("still running after {DEADLINE:?}\n{}", self.log),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended_within(Duration::ZERO).is_none()
    }

    /// Open descriptors.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn descriptors(&self) -> Vec<String> {
        let directory = format!("/proc/{}/fd", self.process.pid());
        fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.process.pid())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// CPU time used so far, in clock ticks (10 ms).
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Waits for the listening sockets to appear in the kernel's tables: connecting instead would be a connection more, which counts
    /// against limits and writes a log line.
    fn await_ready(&mut self) {
        let end = Instant::now() + patient(DEADLINE);
        let control = self.config.get("intercept").and_then(|intercept| {
            let path = intercept.get("control")?.as_str()?;
            Some(PathBuf::from(path))
        });
        // A socket that a killed node has left refuses.
        let controlled = || {
            control
                .as_ref()
                .is_none_or(|path| UnixStream::connect(path).is_ok())
        };
        while !(is_listening(self.listener.number())
            && is_listening(self.admin.number())
            && controlled())
        {
            if let Some(status) = self.process.ended_within(Duration::from_millis(2)) {
                self.log.await_end();
                panic!("hnp ended before it was ready: {status}\n{}", self.log);
            }
            assert!(
                Instant::now() < end,
                "hnp is not ready after {DEADLINE:?}\n{}",
                self.log
            );
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} wrote\n{}", self.executable.display(), self.log);
        }
    }
}

/// The command `hnp`, with nothing of this environment that could configure it.
#[must_use]
pub fn hnp() -> Command {
    let mut command = Command::new(bin::hnp());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let configures =
            name.starts_with("HNP_") || name.starts_with("PROXY_") || name.starts_with("CLIENT_");
        if configures || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn spawn(mut command: Command, without_io_uring: bool) -> Child {
    let started = if without_io_uring {
        seccomp::spawn_without_io_uring(command)
    } else {
        command.spawn()
    };
    started.expect("hnp can be started")
}

/// Where this node listens.
fn places(listener: &Port, admin: &Port) -> Table {
    let text = format!(
        "[listener]\naddress = \"{}\"\n[admin]\naddress = \"{}\"\n",
        listener.address(),
        admin.address()
    );
    text.parse().unwrap()
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Whether some socket listens on `port` in the calling thread's network namespace, by the kernel's own tables.
///
/// # Panics
/// When the tables cannot be read.
#[must_use]
pub fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let local_end = format!(":{port:04X}");
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .any(|table| {
            fs::read_to_string(table)
                .unwrap()
                .lines()
                .skip(1)
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .any(|fields| fields[1].ends_with(&local_end) && fields[3] == LISTEN)
        })
}

/// An address of this machine's loopback network, each caller's own: several "machines" for per-client limits and DNS answers.
#[must_use]
pub fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}
