//! Connections that are opened, used once and held.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::client::{Asks, Client};
use super::{Order, Outcome};
use crate::mutual::pki::Pki;
use crate::mutual::wire::BUFFER;
use crate::net::{Events, Poller};

/// Connections that are opened at once.
const AT_ONCE: u32 = 16;
/// Bytes of the answer that each has had.
const DOWN: u64 = 64;

/// Opens the connections and puts them into `held`.
pub(super) fn run(order: &Order, held: &mut Vec<Client>) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let config = Pki::at(&order.pki).client(None)?;
    let poller = Poller::new()?;
    let mut events = Events::new();
    let mut buffer = vec![0; BUFFER];
    let asks = Asks { up: 0, down: DOWN };
    let mut done = 0;
    while done < order.connections {
        let open = u32::try_from(held.len())?;
        if open < order.connections && open < done + AT_ONCE {
            let client = Client::begin(order.entry, asks, &config, &poller, u64::from(open), open)?;
            held.push(client);
            continue;
        }
        for ready in poller.wait(&mut events, Duration::from_millis(50))? {
            let index = usize::try_from(ready.token)?;
            let Some(client) = held.get_mut(index) else {
                continue;
            };
            if client.is_answered() {
                client
                    .drain(&mut buffer)
                    .with_context(|| format!("connection {index} failed"))?;
                continue;
            }
            let answered = client
                .proceed(&poller, &ready, &mut buffer)
                .with_context(|| format!("connection {index} failed"))?;
            if answered {
                client.rest();
                done += 1;
            }
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(60),
            "only {done} connections were answered within a minute"
        );
    }
    Ok(Outcome {
        seconds: began.elapsed().as_secs_f64(),
        units: u64::from(done),
        ..Outcome::default()
    })
}
