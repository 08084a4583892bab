//! The load generator, run in a process of its own for every single measurement.

mod client;
mod hold;
mod rounds;
mod tickets;

use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::child::Worker;
use crate::load::Latency;
use crate::usage::ProcessTree;

#[cfg(test)]
pub(super) use tickets::Tickets;

/// What the generator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Load {
    /// Connects, makes a handshake, has one small request answered, closes, and begins anew; so many at a time.
    Handshakes {
        /// With a session ticket of an earlier connection.
        resume: bool,
    },
    /// One request after another on every connection.
    Requests {
        /// Bytes of the request's body.
        up: u64,
        /// Bytes of the answer's body.
        down: u64,
    },
    /// Opens connections, uses each once, and holds them.
    Hold,
}

/// Where connections go.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) address: SocketAddr,
    /// Mutual TLS, or plaintext.
    pub(super) tls: bool,
    pub(super) speaks: Speaks,
}

/// What is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Speaks {
    /// HTTP/1.1 in origin form.
    Http,
    /// CONNECT to an echo.
    Connect(SocketAddr),
    /// Nothing: it leads to an echo.
    Echo,
}

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) load: Load,
    pub(super) entry: Entry,
    /// Connections at once.
    pub(super) connections: u32,
    /// How long before anything is counted.
    pub(super) warm_up: Duration,
    /// How long it is counted.
    pub(super) window: Duration,
    /// Whose CPU time to count.
    pub(super) processes: Option<ProcessTree>,
    /// The manager, whose CPU time is the load's.
    pub(super) manager: ProcessTree,
    /// Where the certificates are.
    pub(super) pki: PathBuf,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Length of the window.
    pub(super) seconds: f64,
    /// Handshakes, requests or connections within the window.
    pub(super) units: u64,
    /// Bytes of bodies within the window.
    pub(super) bytes: u64,
    /// Handshakes within the window that were resumed ones.
    pub(super) resumed: u64,
    /// Connections that failed.
    pub(super) failures: u64,
    /// CPU seconds the processes used in the window.
    pub(super) cpu: Option<f64>,
    /// CPU seconds that the generator and the manager used in the window.
    pub(super) load_cpu: f64,
    /// Latencies in microseconds.
    pub(super) latency: Option<Latency>,
}

/// A generator at work.
#[derive(Debug)]
pub(super) struct Generator {
    worker: Worker,
}

impl Generator {
    pub(super) fn start(order: &Order) -> anyhow::Result<Generator> {
        let mut worker = Worker::start("the load generator", &["generate-mtls"])?;
        worker.say(&serde_json::to_string(order)?)?;
        Ok(Generator { worker })
    }

    pub(super) fn id(&self) -> u32 {
        self.worker.id()
    }

    /// Waits for what it measured. After this, connections that are to be held are held until the generator is dropped.
    pub(super) fn outcome(&mut self) -> anyhow::Result<Outcome> {
        self.worker.hear()
    }
}

/// Takes an order from standard input, prints its outcome, holds what is to be held until standard input ends.
///
/// # Errors
/// When the proxy fails more than a few connections, or an answer is not what was asked for.
pub fn generate() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).context("the order is not one")?;
    let mut held = Vec::new();
    let outcome = match order.load {
        Load::Handshakes { .. } | Load::Requests { .. } => rounds::run(&order)?,
        Load::Hold => hold::run(&order, &mut held)?,
    };
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&outcome)?)?;
    output.flush()?;
    if !held.is_empty() {
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    }
    Ok(())
}
