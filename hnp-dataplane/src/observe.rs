//! `hnp observe`: what becomes of intercepted connections, as it happens.

mod line;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

use crate::config::model::InterceptAction;
use crate::intercept::Event;
use crate::intercept::client::{Client, ClientError};
use crate::intercept::event::Kind;
use crate::intercept::protocol::Request;
use line::Lines;

/// Which connections are printed.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Beginnings of pods' names; empty: all pods.
    pub(crate) pods: Vec<String>,
    /// Empty: all.
    pub(crate) decisions: Vec<InterceptAction>,
    /// Beginnings of connections, too.
    pub(crate) all: bool,
}

impl Filter {
    fn passes(&self, event: &Event) -> bool {
        let begins = matches!(
            event.event,
            Kind::Redirected | Kind::Direct | Kind::FailedOpen
        );
        let pod = self.pods.is_empty() || self.pods.iter().any(|pod| event.pod.starts_with(pod));
        let decision = self.decisions.is_empty()
            || self
                .decisions
                .iter()
                .any(|one| one.as_str() == event.action);
        pod && decision && (self.all || !begins)
    }
}

/// Prints what the HNP at `control` tells. 0: ended by a signal, or nobody reads any more; 1: there is no such HNP, or it has ended.
pub(crate) fn run(control: &Path, filter: &Filter, json: bool) -> ExitCode {
    // A line is printed as a whole, or not at all.
    let printing = Arc::new(Mutex::new(()));
    if let Err(error) = end_by_signal(Arc::clone(&printing)) {
        eprintln!("error: cannot take signals: {error}");
        return ExitCode::FAILURE;
    }
    match observe(control, filter, json, &printing) {
        Ok(Ended::NobodyReads) => ExitCode::SUCCESS,
        Ok(Ended::HnpIsGone) => {
            eprintln!("hnp observe: the running hnp has ended");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Ended {
    HnpIsGone,
    NobodyReads,
}

fn observe(
    control: &Path,
    filter: &Filter,
    json: bool,
    printing: &Mutex<()>,
) -> Result<Ended, ClientError> {
    let mut client = Client::connect(control)?;
    let pods = client.ask(&Request::Observe)?;
    if pods.is_empty() {
        eprintln!("hnp observe: no pod is intercepted yet; `hnp intercept` names some");
    }
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut lines = Lines::new(io::stdout().is_terminal() && !no_color);
    let print = |text: &str| {
        let _whole = printing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush())
    };
    if !json && print(&lines.head()).is_err() {
        return Ok(Ended::NobodyReads);
    }
    loop {
        let told = match client.receive::<Value>() {
            Ok(Some(told)) => told,
            Ok(None) | Err(ClientError::Broken(_)) => return Ok(Ended::HnpIsGone),
            Err(error) => return Err(error),
        };
        if told["event"] == "lost" {
            eprintln!(
                "hnp observe: {} reports were lost, for they came faster than they were printed",
                told["count"]
            );
            continue;
        }
        let event: Event = serde_json::from_value(told)?;
        if !filter.passes(&event) {
            continue;
        }
        let text = match json {
            true => serde_json::to_string(&event)?,
            false => lines.line(&event),
        };
        if print(&text).is_err() {
            return Ok(Ended::NobodyReads);
        }
    }
}

/// Ends the process in order when it is asked to end.
fn end_by_signal(printing: Arc<Mutex<()>>) -> io::Result<()> {
    let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    ends.thread_block()?;
    thread::Builder::new()
        .name("hnp-signals".to_owned())
        .spawn(move || {
            // Fails for what is no signal only.
            let _ = ends.wait();
            let _whole = printing.lock().unwrap_or_else(PoisonError::into_inner);
            std::process::exit(0)
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_by_pod_decision_and_kind() {
        let event = line::tests::event(Kind::Ended, "relay");
        let passes = |filter: Filter| filter.passes(&event);
        let pods = |pod: &str| Filter {
            pods: vec!["other".into(), pod.into()],
            ..Filter::default()
        };
        assert!(passes(Filter::default()));
        assert!(passes(pods("3f6b")) && !passes(pods("6bbb")));
        let decisions = |one| Filter {
            decisions: vec![one],
            ..Filter::default()
        };
        assert!(passes(decisions(InterceptAction::Relay)));
        assert!(!passes(decisions(InterceptAction::Deny)));
        let begins = line::tests::event(Kind::Redirected, "relay");
        assert!(!Filter::default().passes(&begins));
        let all = Filter {
            all: true,
            ..Filter::default()
        };
        assert!(all.passes(&begins));
    }
}
