//! `hnp intercept`: which pods a running HNP intercepts.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FileArgs, USAGE};
use crate::config;
use crate::config::model::Intercept;
use crate::intercept::client::{Client, ClientError};
use crate::intercept::protocol::{FromBefore, PodReport, Request};
use crate::redirect::Pins;

/// What to ask of the running HNP.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
pub(super) struct InterceptArgs {
    /// Intercept the pod of this cgroup: its directory, or its path below the mount of cgroup v2.
    #[arg(long, value_name = "PATH", group = "what")]
    cgroup: Option<PathBuf>,
    /// Intercept the pod of this process, as this host numbers it.
    #[arg(long, value_name = "PID", group = "what")]
    pid: Option<u32>,
    /// Say which pods are intercepted.
    #[arg(long, group = "what")]
    list: bool,
    /// Intercept this pod no longer: its name, its cgroup, or `all`.
    #[arg(long, value_name = "POD", group = "what")]
    detach: Option<String>,
}

/// Asks, and says what was answered.
pub(super) fn run(
    args: InterceptArgs,
    close_existing: bool,
    sources: FileArgs,
    json: bool,
) -> ExitCode {
    let loaded = match config::load(&sources.into_sources()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    let intercept = loaded.config.intercept.unwrap_or_default();
    let client = Client::connect(&intercept.control);
    // What nobody serves any more can be let go of without anybody's help.
    if args.detach.as_deref() == Some("all")
        && matches!(client, Err(ClientError::NotRunning { .. }))
    {
        return let_go(&intercept);
    }
    match client.and_then(|mut client| client.ask(&args.request(close_existing))) {
        Ok(pods) => {
            print(&args, &pods, json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Detaches what an HNP that has ended has left.
fn let_go(intercept: &Intercept) -> ExitCode {
    if !intercept.pins.exists() {
        println!("no pod is intercepted");
        return ExitCode::SUCCESS;
    }
    let removed = Pins::open(&intercept.pins).and_then(|pins| {
        let mut pods = HashSet::new();
        for version in pins.others()?.into_iter().chain([pins]) {
            pods.extend(version.cgroups()?);
            version.remove()?;
        }
        Ok(pods.len())
    });
    match removed {
        Ok(pods) => {
            println!("no hnp runs; {pods} pods that one had left attached are left alone");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl InterceptArgs {
    fn request(&self, close_existing: bool) -> Request {
        match &self.detach {
            Some(pod) => Request::Detach {
                pod: (pod != "all").then(|| pod.clone()),
            },
            None if self.list => Request::List,
            None => Request::Attach {
                cgroup: self.cgroup.clone(),
                pid: self.pid,
                close_existing,
            },
        }
    }
}

fn print(args: &InterceptArgs, pods: &[PodReport], json: bool) {
    if json {
        // Plain data: it always becomes text.
        println!("{}", serde_json::to_string(pods).unwrap_or_default());
        return;
    }
    let verb = match (&args.detach, args.list) {
        (Some(_), _) => "left alone: ",
        (None, true) => "",
        (None, false) => "intercepted: ",
    };
    for pod in pods {
        println!("{verb}{} ({})", pod.pod, pod.cgroup.display());
        if let Some(FromBefore { left, closed }) = pod.from_before {
            if left > 0 {
                println!(
                    "  {left} connections from before go on without HNP (--close-existing closes them)"
                );
            }
            if closed > 0 {
                println!("  {closed} connections from before were closed");
            }
        }
        if let (true, Some(version)) = (args.list, &pod.programs) {
            println!("  programs of hnp {version}");
        }
        let counted = pod.counters.iter().filter(|(_, count)| *count > 0);
        let counted: Vec<String> = counted
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if args.list && !counted.is_empty() {
            println!("  {}", counted.join(", "));
        }
    }
    if pods.is_empty() {
        println!("no pod is intercepted");
    }
}
