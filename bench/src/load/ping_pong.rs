//! One message of 64 bytes on its way in every tunnel, all the time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::window::Turn;
use super::{Latency, Order, Outcome};
use crate::histogram::Histogram;
use crate::net::{self, Events, Poller};
use crate::route::Service;

/// Bytes of a message.
pub(super) const MESSAGE: usize = 64;

struct Tunnel {
    stream: TcpStream,
    /// Of the message on its way; it opens the message, so that an echo of another would be noticed.
    number: u64,
    sent: Instant,
    received: usize,
    buffer: [u8; MESSAGE],
}

pub(super) fn run(order: &Order) -> anyhow::Result<Outcome> {
    let poller = Poller::new()?;
    let mut events = Events::new();
    let mut tunnels = Vec::new();
    for index in 0..order.tunnels {
        let stream = order.route.open(Service::Echo, index)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, u64::from(index), true, false)?;
        let number = u64::from(index) << 32;
        tunnels.push(Tunnel {
            stream,
            number,
            sent: Instant::now(),
            received: 0,
            buffer: [0; MESSAGE],
        });
    }
    for tunnel in &mut tunnels {
        tunnel.send()?;
    }
    let mut histogram = Histogram::new();
    let mut all = 0;
    let mut window = order.counted();
    loop {
        for ready in poller.wait(&mut events, Duration::from_millis(50))? {
            let Some(tunnel) = tunnels.get_mut(usize::try_from(ready.token)?) else {
                continue;
            };
            if tunnel.receive()? {
                histogram.record(tunnel.sent.elapsed());
                all += 1;
                tunnel.number += 1;
                tunnel.send()?;
            }
        }
        match window.turn(Instant::now())? {
            Turn::Same => {}
            Turn::Opened => histogram = Histogram::new(),
            Turn::Closed => {
                return Ok(Outcome {
                    units: histogram.len(),
                    all_units: all,
                    latency: Latency::of(&histogram),
                    ..window.close()?
                });
            }
        }
    }
}

impl Tunnel {
    fn send(&mut self) -> anyhow::Result<()> {
        self.received = 0;
        self.sent = Instant::now();
        let message = message(self.number);
        // A socket whose last message has come back has room for 64 bytes.
        self.stream
            .write_all(&message)
            .context("cannot send into a tunnel")
    }

    /// Whether the whole echo has come.
    fn receive(&mut self) -> anyhow::Result<bool> {
        match self.stream.read(&mut self.buffer[self.received..]) {
            Ok(0) => bail!("the proxy ended a tunnel in use"),
            Ok(count) => self.received += count,
            Err(error) if net::not_now(&error) => {}
            Err(error) => bail!("the proxy broke a tunnel in use: {error}"),
        }
        let whole = self.received == MESSAGE;
        ensure!(
            !whole || self.buffer == message(self.number),
            "the echo is not what was sent"
        );
        Ok(whole)
    }
}

/// A message that no other tunnel or turn sends.
pub(super) fn message(number: u64) -> [u8; MESSAGE] {
    let mut message = [b'.'; MESSAGE];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}
