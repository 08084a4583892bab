//! The command line: what `hnp` can be asked to do.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration; `hnp exec` passes its command's on.

mod certs;
mod check;
mod config;
mod exec;
mod intercept;
mod observe;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Environment, Flags, Sources};

/// Exit code of a mistake in usage or configuration; clap uses the same.
pub(crate) const USAGE: u8 = 2;

/// Carries the traffic of chaos pods and agents to the manager.
#[derive(Debug, Parser)]
#[command(
    name = "hnp",
    version,
    after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp run     listen on port 7777, reach only that host
  hnp run --config hnp.toml                    serve what a file says
  hnp check --config hnp.toml                  try beforehand what that needs: kernel, limits, certificates, upstream
  hnp config check --config hnp.toml           say everything that is wrong with it
  hnp exec -- curl -s http://example.com/      run a command, and say where it connected
  hnp observe                                  print what intercepted pods connect to
  hnp certs ca                                 make a test CA

Exit codes: 0 done, 1 failed, 2 usage or configuration; `hnp exec` passes its command's on."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground, until SIGTERM or SIGINT. Ready when the port accepts.
    ///
    /// SIGTERM drains: new connections are refused, tunnels may finish until `timeouts.drain`. SIGHUP and a change of the
    /// configuration file load it again, for new connections.
    #[command(after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp run
  hnp run --config hnp.toml
  hnp run --config hnp.toml --listen 127.0.0.1:7777 --log-format json")]
    Run(SourceArgs),
    /// Try what `hnp run` will need, and say what is missing and what to do about it.
    ///
    /// Kernel, capabilities, limits, certificates, the way to the upstream and the clock, within ten seconds. Nothing is changed. The upstream gets
    /// one GET request. Exit code 1 if something has failed; warnings are no failures.
    #[command(after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp check
  hnp check --config hnp.toml
  hnp check --config hnp.toml --intercept        as if interception were configured
  hnp check --config hnp.toml --json             a list: group, name, status, detail, remedy")]
    Check(CheckArgs),
    /// Tell the running `hnp run` which pods to intercept. It needs an [intercept] in its configuration.
    #[command(after_help = "Examples:
  hnp intercept --pid 4711                       the pod of that process
  hnp intercept --cgroup /kubepods/besteffort/pod3f6bbb5c-7a0b-4d1e-9d7e-0c5c2e5f1a2b
  hnp intercept --list --json
  hnp intercept --detach all")]
    Intercept {
        #[command(flatten)]
        what: intercept::InterceptArgs,
        /// With --cgroup or --pid: close the connections that the pod has made before, for its programs to make new ones.
        #[arg(long, conflicts_with_all = ["list", "detach"])]
        close_existing: bool,
        #[command(flatten)]
        sources: FileArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command with its TCP connections intercepted, and say where they went. Needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
    ///
    /// Nothing has to run for this, and nothing is left when it ends. Input, output, terminal and signals are the command's. HNP ends
    /// when the command does: processes that outlive it go on, connected directly from then on. Connections within this host
    /// (loopback) are left alone.
    ///
    /// Exit codes: the command's, 128+n when signal n ended it, 127 when it is not found, 126 when it cannot be run; 1 when HNP
    /// failed, 2 for usage or configuration.
    #[command(after_help = "Examples:
  hnp exec -- curl -s http://example.com/
  hnp exec --quiet --config hnp.toml -- ./agent --verbose
  hnp exec --json --output connections.json -- npm install")]
    Exec(exec::ExecArgs),
    /// Print what becomes of the connections that the running `hnp run` intercepts, as it happens, until SIGINT.
    ///
    /// Exit codes: 0 when it is told to end, 1 when no HNP answers or the one that did has ended.
    #[command(after_help = "Examples:
  hnp observe
  hnp observe --pod 3f6bbb5c --decision deny
  hnp observe --config hnp.toml --json --all")]
    Observe(observe::ObserveArgs),
    /// Check and show the configuration.
    #[command(after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp config check
  hnp config check --config hnp.toml
  hnp config show --config hnp.toml --json")]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make test certificates, print the Kubernetes secret, say what a certificate or key file holds.
    #[command(after_help = "Examples:
  hnp certs ca                                         a CA: ca.crt and ca.key
  hnp certs client                                     client.crt and client.key, signed by it
  hnp certs server --san hnp.example.com               server.crt and server.key
  hnp certs secret --namespace hce                     the manifest, for kubectl apply -f -
  hnp certs inspect ca.crt client.crt client.key       what each is, and whether they fit")]
    Certs {
        #[command(subcommand)]
        command: certs::CertsCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with the configuration; exit with 0 if nothing is, else with 2.
    #[command(after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp config check
  hnp config check --config hnp.toml
  hnp config check --config hnp.toml --json")]
    Check(DataArgs),
    /// Print the effective configuration and where each value comes from; secrets are replaced.
    #[command(after_help = "Examples:
  PROXY_URL=https://app.harness.io hnp config show
  hnp config show --config hnp.toml --listen 127.0.0.1:7777
  hnp config show --config hnp.toml --json")]
    Show(DataArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    data: DataArgs,
    /// What interception lacks is a failure, even if it is not configured.
    #[arg(long)]
    intercept: bool,
}

#[derive(Debug, Args)]
struct DataArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The configuration of the running HNP.
#[derive(Debug, Args)]
struct FileArgs {
    /// The configuration file of the running HNP; environment: HNP_CONFIG. Without one, its control socket is where it is by default.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    /// The file, over this process's environment.
    fn into_sources(self) -> Sources {
        let environment = Environment::of_process();
        Sources {
            file: self.config.or_else(|| environment.config_file()),
            environment,
            flags: Flags::default(),
        }
    }
}

/// Where the configuration comes from: the file, the environment over it, these flags over both.
#[derive(Debug, Args)]
struct SourceArgs {
    /// The configuration file; environment: HNP_CONFIG. Without one, PROXY_URL is enough.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here, `ip:port`; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The manager's url; environment: PROXY_URL.
    #[arg(long, value_name = "URL")]
    proxy_url: Option<String>,
    /// A corporate proxy on the way, `http://host:port`. Its password is better kept in a file: others can read a command line.
    #[arg(long, value_name = "URL")]
    parent_proxy: Option<String>,
    /// Worker threads.
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// auto, io_uring or epoll.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// Address of metrics and health, `ip:port`, or `off`.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl SourceArgs {
    /// These flags over this process's environment.
    fn into_sources(self) -> Sources {
        let environment = Environment::of_process();
        Sources {
            file: self.config.or_else(|| environment.config_file()),
            environment,
            flags: Flags {
                listen: self.listen,
                proxy_url: self.proxy_url,
                parent_proxy: self.parent_proxy,
                workers: self.workers,
                backend: self.backend,
                admin: self.admin,
                log_format: self.log_format,
                log_level: self.log_level,
            },
        }
    }
}

/// Does what this process's command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args.into_sources()),
        Command::Check(args) => check::run(
            &args.data.sources.into_sources(),
            args.data.json,
            args.intercept,
        ),
        Command::Exec(args) => exec::run(args),
        Command::Observe(args) => observe::run(args),
        Command::Config {
            command: ConfigCommand::Check(args),
        } => config::check(&args.sources.into_sources(), args.json),
        Command::Config {
            command: ConfigCommand::Show(args),
        } => config::show(&args.sources.into_sources(), args.json),
        Command::Intercept {
            what,
            close_existing,
            sources,
            json,
        } => intercept::run(what, close_existing, sources, json),
        Command::Certs { command } => certs::run(command),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_every_help_parses() {
        let mut examples = 0;
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_else(|| panic!("{} has no examples", command.get_name()));
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                let words = line
                    .split("   ")
                    .find(|part| !part.trim().is_empty())
                    .unwrap();
                let words = words
                    .split_whitespace()
                    .skip_while(|word| word.contains('='));
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                examples += 1;
            }
        }
        assert!(examples >= 12, "{examples}");
    }

    #[test]
    fn the_reference_names_every_flag() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let document = std::fs::read_to_string(document).unwrap();
        let (_, section) = document.split_once("## Flags").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let row = |line: &str| Some(line.strip_prefix("| `--")?.split(' ').next()?.to_owned());
        let mut documented: Vec<String> = section.lines().filter_map(row).collect();
        let run = Cli::command().find_subcommand("run").unwrap().clone();
        let mut defined: Vec<String> = run
            .get_arguments()
            .filter_map(|flag| flag.get_long())
            .map(str::to_owned)
            .collect();
        documented.sort_unstable();
        defined.sort_unstable();
        assert_eq!(documented, defined);
    }
}
