//! `hnp certs`.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use super::config::{pretty, print};
use crate::certs::inspect;
use crate::certs::make::{self, End, KeyKind, Leaf, Made, Place, San};
use crate::certs::secret::{self, Secret, Shape};

#[derive(Debug, Subcommand)]
pub(super) enum CertsCommand {
    /// Make a test CA: ca.crt and ca.key (the key readable by its owner only).
    #[command(after_help = "Examples:
  hnp certs ca
  hnp certs ca --dir pki --name acme-ca --days 30")]
    Ca(CaArgs),
    /// Make client.crt and client.key, signed by the CA.
    #[command(after_help = "Examples:
  hnp certs ca                                         once: the CA
  hnp certs client
  hnp certs client --name pod-1 --dir pod-1 --ca-dir .")]
    Client(ClientArgs),
    /// Make server.crt and server.key, signed by the CA.
    #[command(after_help = "Examples:
  hnp certs ca                                         once: the CA
  hnp certs server
  hnp certs server --san hnp.example.com --san 10.0.0.5 --force")]
    Server(ServerArgs),
    /// Print the Kubernetes secret `client-certificate`. A key that is not the certificate's is refused.
    #[command(after_help = "Examples:
  hnp certs ca                                         once: the CA
  hnp certs client
  hnp certs secret --namespace hce                     for kubectl apply -f -
  hnp certs secret --tls --ca ca.crt                   tls.crt, tls.key and ca.crt")]
    Secret(SecretArgs),
    /// Say what files hold, until when, what fits together, and in which roles HNP accepts it; exit with 1 if something is wrong.
    #[command(after_help = "Examples:
  hnp certs ca                                         something to look at
  hnp certs inspect ca.crt ca.key
  hnp certs inspect ca.crt --json")]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(super) struct CaArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The CA's common name.
    #[arg(long, value_name = "NAME", default_value = "HNP test CA")]
    name: String,
    /// For how many days it is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = days())]
    days: u32,
    /// What key to make.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    key_type: KeyKind,
}

#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The client's common name.
    #[arg(long, value_name = "NAME", default_value = "client")]
    name: String,
    #[command(flatten)]
    leaf: LeafArgs,
}

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The server's common name; clients look at --san only.
    #[arg(long, value_name = "NAME", default_value = "server")]
    name: String,
    #[command(flatten)]
    leaf: LeafArgs,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Write here.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct LeafArgs {
    /// A DNS name or IP address that it is for; may be given several times. A server's default: localhost, 127.0.0.1 and ::1.
    #[arg(long, value_name = "NAME")]
    san: Vec<San>,
    /// For how many days it is valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = days())]
    days: u32,
    /// What key to make.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    key_type: KeyKind,
    /// Where ca.crt and ca.key are; default: --dir.
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    /// The certificate.
    #[arg(long, value_name = "FILE", default_value = "client.crt")]
    cert: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE", default_value = "client.key")]
    key: PathBuf,
    /// The secret's name.
    #[arg(long, value_name = "NAME", default_value = "client-certificate", value_parser = |text: &str| secret::name(text, true))]
    name: String,
    /// The secret's namespace; default: none, and kubectl's applies.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| secret::name(text, false))]
    namespace: Option<String>,
    /// Of type kubernetes.io/tls, with tls.crt and tls.key.
    #[arg(long)]
    tls: bool,
    /// With --tls: the CA, as ca.crt.
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// PEM files: certificates, private keys, signing requests, revocation lists.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Does what was asked for.
pub(super) fn run(command: CertsCommand) -> ExitCode {
    match command {
        CertsCommand::Ca(args) => made(make::authority(
            &args.name,
            args.days,
            args.key_type,
            &args.place.into(),
        )),
        CertsCommand::Client(args) => leaf(End::Client, args.name, args.leaf, args.place),
        CertsCommand::Server(args) => leaf(End::Server, args.name, args.leaf, args.place),
        CertsCommand::Secret(args) => print_secret(args),
        CertsCommand::Inspect(args) => print_inspection(&args),
    }
}

/// A century at most: dates stay where every library can read them.
fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

impl From<PlaceArgs> for Place {
    fn from(args: PlaceArgs) -> Self {
        Self {
            directory: args.dir,
            force: args.force,
        }
    }
}

fn leaf(end: End, name: String, args: LeafArgs, place: PlaceArgs) -> ExitCode {
    let mut sans = args.san;
    if sans.is_empty() && end == End::Server {
        sans = vec![
            San::Dns("localhost".into()),
            San::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
            San::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
        ];
    }
    let leaf = Leaf {
        end,
        name,
        sans,
        days: args.days,
        key: args.key_type,
        ca_directory: args.ca_dir.unwrap_or_else(|| place.dir.clone()),
    };
    made(make::leaf(&leaf, &place.into()))
}

fn made(result: Result<Made, impl Display>) -> ExitCode {
    match result {
        Ok(made) => {
            let (certificate, key) = (made.certificate.display(), made.key.display());
            let until = made.valid_until;
            print(
                &format!("wrote {certificate} and {key}, valid until {until}\n"),
                ExitCode::SUCCESS,
            )
        }
        Err(fault) => failed(&fault),
    }
}

fn print_secret(args: SecretArgs) -> ExitCode {
    let secret = Secret {
        name: args.name,
        namespace: args.namespace,
        certificate: args.cert,
        key: args.key,
        shape: match args.tls {
            true => Shape::Tls { ca: args.ca },
            false => Shape::Generic,
        },
    };
    match secret::manifest(&secret) {
        Ok(manifest) => {
            for warning in &manifest.warnings {
                eprintln!("warning: {warning}");
            }
            print(&manifest.yaml, ExitCode::SUCCESS)
        }
        Err(fault) => failed(&fault),
    }
}

fn print_inspection(args: &InspectArgs) -> ExitCode {
    let report = inspect::inspect(&args.files, OffsetDateTime::now_utc());
    let code = match report.errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if args.json {
        return print(&pretty(&json!(report)), code);
    }
    let code = print(&report.to_string(), code);
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    for error in &report.errors {
        eprintln!("error: {error}");
    }
    code
}

fn failed(fault: &impl Display) -> ExitCode {
    eprintln!("error: {fault}");
    ExitCode::FAILURE
}
