//! Short connections: open, have 64 bytes echoed, close; a fixed number at a time, each followed by the next at once.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::ping_pong::{MESSAGE, message};
use super::window::Turn;
use super::{Latency, Order, Outcome};
use crate::histogram::Histogram;
use crate::net::{self, Events, Poller, SPREAD};
use crate::route::{Answer, Route, Service, answer};

/// More failed connections than this, and there is nothing to measure.
const FAILURES: u64 = 100;

/// What a connection waits for.
enum Stage {
    /// To be connected, with what it then sends.
    Connected(Vec<u8>, Then),
    /// For the answer to CONNECT.
    Answer,
    /// For the echo.
    Echo,
}

/// What follows the first bytes.
#[derive(Clone, Copy)]
enum Then {
    Answer,
    Echo,
}

struct Attempt {
    stream: TcpStream,
    stage: Stage,
    number: u64,
    began: Instant,
    received: Vec<u8>,
}

pub(super) fn run(order: &Order) -> anyhow::Result<Outcome> {
    let poller = Poller::new()?;
    let mut events = Events::new();
    let mut attempts = Vec::new();
    let mut number = 0;
    for slot in 0..order.tunnels {
        attempts.push(Attempt::begin(&order.route, &poller, slot, number)?);
        number += 1;
    }
    let mut histogram = Histogram::new();
    let (mut all, mut failures) = (0, 0);
    let mut window = order.counted();
    loop {
        for ready in poller.wait(&mut events, Duration::from_millis(50))? {
            let slot = u32::try_from(ready.token)?;
            let Some(attempt) = attempts.get_mut(slot as usize) else {
                continue;
            };
            match attempt.proceed(&poller, slot) {
                Ok(false) => continue,
                Ok(true) => {
                    histogram.record(attempt.began.elapsed());
                    all += 1;
                }
                Err(error) if failures >= FAILURES => {
                    bail!("more than {FAILURES} connections failed, the last with: {error}")
                }
                Err(_) => failures += 1,
            }
            // Closes the finished one.
            *attempt = Attempt::begin(&order.route, &poller, slot, number)?;
            number += 1;
        }
        match window.turn(Instant::now())? {
            Turn::Same => {}
            Turn::Opened => histogram = Histogram::new(),
            Turn::Closed => {
                return Ok(Outcome {
                    units: histogram.len(),
                    all_units: all,
                    failures,
                    latency: Latency::of(&histogram),
                    ..window.close()?
                });
            }
        }
    }
}

impl Attempt {
    fn begin(route: &Route, poller: &Poller, slot: u32, number: u64) -> io::Result<Attempt> {
        let began = Instant::now();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only its lowest bits choose addresses"
        )]
        let index = number as u32;
        let stream = net::start_connect(route.destination(Service::Echo, index), index / SPREAD)?;
        let (first, then) = match route.request(Service::Echo, index) {
            Some(request) => (request.into_bytes(), Then::Answer),
            None => (message(number).to_vec(), Then::Echo),
        };
        let mut attempt = Attempt {
            stream,
            stage: Stage::Connected(first, then),
            number,
            began,
            received: Vec::new(),
        };
        // Over loopback the handshake is mostly done by now: one wait less.
        let sent = attempt.send_first()?;
        poller.add(&attempt.stream, u64::from(slot), sent, !sent)?;
        Ok(attempt)
    }

    /// Sends what comes first; tells whether the connection was there to take it.
    fn send_first(&mut self) -> io::Result<bool> {
        let Stage::Connected(first, then) = &self.stage else {
            return Ok(true);
        };
        match self.stream.write_all(first) {
            Ok(()) => {
                self.stage = match then {
                    Then::Answer => Stage::Answer,
                    Then::Echo => Stage::Echo,
                };
                Ok(true)
            }
            Err(error) if net::not_now(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on after readiness; tells whether the echo has come.
    fn proceed(&mut self, poller: &Poller, slot: u32) -> io::Result<bool> {
        if let Stage::Connected(..) = self.stage {
            if self.send_first()? {
                poller.modify(&self.stream, u64::from(slot), true, false)?;
            }
            return Ok(false);
        }
        let mut chunk = [0; 1024];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::other("closed before the echo came")),
            Ok(count) => count,
            Err(error) if net::not_now(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.received.extend_from_slice(&chunk[..count]);
        match self.stage {
            Stage::Echo if self.received.len() < MESSAGE => Ok(false),
            Stage::Echo if self.received == message(self.number) => Ok(true),
            Stage::Echo => Err(io::Error::other("the echo is not what was sent")),
            _ => match answer(&self.received) {
                Answer::Incomplete => Ok(false),
                Answer::Refused => Err(io::Error::other(
                    String::from_utf8_lossy(&self.received)
                        .lines()
                        .next()
                        .unwrap_or_default(),
                )),
                Answer::Open => {
                    self.received.clear();
                    self.stream.write_all(&message(self.number))?;
                    self.stage = Stage::Echo;
                    Ok(false)
                }
            },
        }
    }
}
