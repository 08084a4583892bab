//! Handshakes and requests: a fixed number of connections, each of which begins anew, or asks again, as soon as it has its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::client::{Asks, Client, Failures};
use super::tickets::Tickets;
use super::{Load, Order, Outcome};
use crate::histogram::Histogram;
use crate::load::Latency;
use crate::load::window::{Turn, Window};
use crate::mutual::pki::Pki;
use crate::mutual::wire::BUFFER;
use crate::net::{Events, Poller};
use crate::usage::ProcessTree;

/// Body of the answer that ends a handshake's connection: by then the server has verified the client, too.
const SMALL_ANSWER: u64 = 2;

/// How long the first answers may take.
const START_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn run(order: &Order) -> anyhow::Result<Outcome> {
    let (asks, keep, resume) = match order.load {
        Load::Requests { up, down } => (Asks { up, down }, true, false),
        Load::Handshakes { resume } => {
            let asks = Asks {
                up: 0,
                down: SMALL_ANSWER,
            };
            (asks, false, resume)
        }
        Load::Hold => anyhow::bail!("to hold is another load"),
    };
    let config = Pki::at(&order.pki).client(resume.then(|| Arc::new(Tickets::default()) as _))?;
    let poller = Poller::new()?;
    let mut events = Events::new();
    let mut buffer = vec![0; BUFFER];
    let mut number = 0;
    let mut begin = |slot: u64| {
        let client = Client::begin(order.entry, asks, &config, &poller, slot, number);
        number = number.wrapping_add(1);
        client.context("cannot begin a connection")
    };
    let mut clients = Vec::new();
    for slot in 0..order.connections {
        clients.push(begin(u64::from(slot))?);
    }
    let mut histogram = Histogram::new();
    // Of connections that are closed.
    let (mut resumed, mut bytes) = (0, 0);
    let load = [ProcessTree::of(std::process::id())?, order.manager.clone()];
    let load_cpu = || -> std::io::Result<Duration> {
        let [own, manager] = &load;
        Ok(own.cpu()? + manager.cpu()?)
    };
    let mut before = (0, 0, Duration::ZERO);
    let mut failures = Failures::default();
    // Warming up begins when every connection has had an answer: the first ones have no ticket to resume with.
    let mut window = None;
    let mut answered: u64 = 0;
    let began = Instant::now();
    loop {
        for ready in poller.wait(&mut events, Duration::from_millis(50))? {
            let Some(client) = clients.get_mut(usize::try_from(ready.token)?) else {
                continue;
            };
            let done = match client.proceed(&poller, &ready, &mut buffer) {
                Ok(false) => continue,
                Ok(true) => Ok(()),
                Err(error) => Err(error),
            };
            let done = done.and_then(|()| {
                histogram.record(client.since.elapsed());
                if keep {
                    client.again(&poller, ready.token)?;
                }
                Ok(())
            });
            answered += 1;
            if done.is_ok() && keep {
                continue;
            }
            // A new one first: the socket of the old one is then closed with no event of its own left.
            let old = std::mem::replace(client, begin(ready.token)?);
            bytes += old.bytes;
            match done {
                Ok(()) => {
                    resumed += u64::from(old.resumed);
                    // What cannot be said to a server that has gone does not matter.
                    let _goodbye = old.close();
                }
                Err(error) => failures.add(&error)?,
            }
        }
        let sums = |bytes: u64| bytes + clients.iter().map(|client| client.bytes).sum::<u64>();
        if window.is_none() && answered >= u64::from(order.connections) {
            window = Some(Window::new(
                order.processes.as_ref(),
                order.warm_up,
                order.window,
            ));
        }
        let Some(window) = &mut window else {
            ensure!(
                began.elapsed() < START_LIMIT,
                "only {answered} answers within {START_LIMIT:?}"
            );
            continue;
        };
        match window.turn(Instant::now())? {
            Turn::Same => {}
            Turn::Opened => {
                histogram = Histogram::new();
                before = (resumed, sums(bytes), load_cpu()?);
            }
            Turn::Closed => {
                let window = window.close()?;
                return Ok(Outcome {
                    seconds: window.seconds,
                    cpu: window.cpu,
                    load_cpu: (load_cpu()? - before.2).as_secs_f64(),
                    units: histogram.len(),
                    bytes: sums(bytes) - before.1,
                    resumed: resumed - before.0,
                    failures: failures.count,
                    latency: Latency::of(&histogram),
                });
            }
        }
    }
}
