//! Tunnels that are opened and held: idle, or with a client that does not read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::ping_pong::{MESSAGE, message};
use super::{Load, Order, Outcome};
use crate::route::Service;

/// Opens the tunnels and puts them into `held`.
pub(super) fn run(order: &Order, held: &mut Vec<TcpStream>) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    for index in 0..order.tunnels {
        let idle = order.load == Load::Idle;
        let mut stream = order
            .route
            .open(if idle { Service::Echo } else { Service::Source }, index)?;
        if idle {
            // A tunnel that has been used: whatever it needed then, it should have given back.
            let sent = message(u64::from(index));
            let mut echo = [0; MESSAGE];
            stream
                .write_all(&sent)
                .and_then(|()| stream.read_exact(&mut echo))
                .with_context(|| format!("no echo in tunnel {index}"))?;
            ensure!(echo == sent, "the echo is not what was sent");
        }
        held.push(stream);
    }
    let units = held.len() as u64;
    Ok(Outcome {
        seconds: began.elapsed().as_secs_f64(),
        units,
        all_units: units,
        ..Outcome::default()
    })
}
