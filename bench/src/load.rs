//! The load generator, run in a process of its own for every single measurement.

mod bulk;
mod churn;
mod hold;
mod ping_pong;
pub(crate) mod window;

use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::child::Worker;
use crate::histogram::Histogram;
use crate::route::Route;
use crate::usage::ProcessTree;

/// What the generator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Load {
    /// Reads from the source as fast as it comes.
    Download,
    /// Writes to the sink as fast as it takes.
    Upload,
    /// Sends 64 bytes, waits for their echo, sends the next; in every tunnel.
    PingPong,
    /// Opens, has 64 bytes echoed, closes, opens the next; so many at a time.
    Churn,
    /// Opens tunnels, has 64 bytes echoed in each, and holds them.
    Idle,
    /// Opens tunnels to the source, reads nothing, and holds them.
    Stalled,
}

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// What to do.
    pub load: Load,
    /// The way to the upstream.
    pub route: Route,
    /// Tunnels at once.
    pub tunnels: u32,
    /// How long before anything is counted.
    pub warm_up: Duration,
    /// How long it is counted.
    pub window: Duration,
    /// Whose CPU time to count.
    pub processes: Option<ProcessTree>,
}

impl Order {
    /// The stretch of time in which it is counted, beginning now.
    fn counted(&self) -> window::Window<'_> {
        window::Window::new(self.processes.as_ref(), self.warm_up, self.window)
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Length of the window.
    pub seconds: f64,
    /// Bytes, exchanges, connections or tunnels, as the load has it, within the window.
    pub units: u64,
    /// The same from beginning to end, warm-up and opening included.
    pub all_units: u64,
    /// Connections that failed.
    pub failures: u64,
    /// CPU seconds the processes used in the window.
    pub cpu: Option<f64>,
    /// Latencies in microseconds.
    pub latency: Option<Latency>,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    /// Half of all take no longer.
    pub p50: f64,
    /// 99 % take no longer.
    pub p99: f64,
    /// 99.9 % take no longer.
    pub p999: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram) -> Option<Latency> {
        let micros = |quantile| histogram.quantile(quantile).as_secs_f64() * 1e6;
        (!histogram.is_empty()).then(|| Latency {
            p50: micros(0.5),
            p99: micros(0.99),
            p999: micros(0.999),
        })
    }
}

/// A generator at work.
#[derive(Debug)]
pub struct Generator {
    worker: Worker,
}

impl Generator {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(order: &Order) -> anyhow::Result<Generator> {
        let mut worker = Worker::start("the load generator", &["generate"])?;
        worker.say(&serde_json::to_string(order)?)?;
        Ok(Generator { worker })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.worker.id()
    }

    /// Waits for what it measured. After this, a load that holds its tunnels holds them until the generator is dropped.
    ///
    /// # Errors
    /// When it failed; it has then said why.
    pub fn outcome(&mut self) -> anyhow::Result<Outcome> {
        self.worker.hear()
    }
}

/// Takes an order from standard input, prints its outcome, holds what is to be held until standard input ends.
///
/// # Errors
/// When the proxy fails more than a few connections, or an answer is not what was sent.
pub fn generate() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).context("the order is not one")?;
    let mut held = Vec::new();
    let outcome = match order.load {
        Load::Download | Load::Upload => bulk::run(&order)?,
        Load::PingPong => ping_pong::run(&order)?,
        Load::Churn => churn::run(&order)?,
        Load::Idle | Load::Stalled => hold::run(&order, &mut held)?,
    };
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&outcome)?)?;
    output.flush()?;
    if !held.is_empty() {
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    }
    Ok(())
}
