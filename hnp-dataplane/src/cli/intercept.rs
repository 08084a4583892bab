//! `hnp intercept`: which pods a running HNP intercepts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FileArgs, USAGE};
use crate::config;
use crate::intercept::client::Client;
use crate::intercept::protocol::{PodReport, Request};

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
pub(super) fn run(args: InterceptArgs, sources: FileArgs, json: bool) -> ExitCode {
    let loaded = match config::load(&sources.into_sources()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    let control = loaded.config.intercept.unwrap_or_default().control;
    let asked = Client::connect(&control).and_then(|mut client| client.ask(&args.request()));
    match asked {
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

impl InterceptArgs {
    fn request(&self) -> Request {
        match &self.detach {
            Some(pod) => Request::Detach {
                pod: (pod != "all").then(|| pod.clone()),
            },
            None if self.list => Request::List,
            None => Request::Attach {
                cgroup: self.cgroup.clone(),
                pid: self.pid,
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
