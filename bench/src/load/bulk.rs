//! Bytes as fast as they go, one way.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::window::Turn;
use super::{Load, Order, Outcome};
use crate::net::{self, Events, Poller};
use crate::route::Service;

const CHUNK: usize = 256 * 1024;

pub(super) fn run(order: &Order) -> anyhow::Result<Outcome> {
    let down = order.load == Load::Download;
    let poller = Poller::new()?;
    let mut events = Events::new();
    let mut streams = Vec::new();
    for index in 0..order.tunnels {
        let stream = order
            .route
            .open(if down { Service::Source } else { Service::Sink }, index)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, u64::from(index), down, !down)?;
        streams.push(stream);
    }
    let mut buffer = vec![b'h'; CHUNK];
    let mut bytes = 0;
    let mut before = 0;
    let mut window = order.counted();
    loop {
        for ready in poller.wait(&mut events, Duration::from_millis(50))? {
            let Some(mut stream) = streams.get(usize::try_from(ready.token)?) else {
                continue;
            };
            match if down {
                stream.read(&mut buffer)
            } else {
                stream.write(&buffer)
            } {
                Ok(0) => bail!("the proxy ended a tunnel in use"),
                Ok(count) => bytes += count as u64,
                Err(error) if net::not_now(&error) => {}
                Err(error) => bail!("the proxy broke a tunnel in use: {error}"),
            }
        }
        match window.turn(Instant::now())? {
            Turn::Same => {}
            Turn::Opened => before = bytes,
            Turn::Closed => {
                return Ok(Outcome {
                    units: bytes - before,
                    all_units: bytes,
                    ..window.close()?
                });
            }
        }
    }
}
