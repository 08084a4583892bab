//! What the cryptography alone costs on this machine, in memory and by the CPU clock of one thread: no proxy can be cheaper.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustls::{ClientConfig, ServerConfig};

use super::load::Tickets;
use super::pki::Pki;
use super::wire::{DATA, FILL, Layer, PAYLOAD};
use crate::figures::{GIB, Spread};
use crate::peers::directory;

/// Measurements of each, of which the median counts.
const ROUNDS: usize = 5;
/// Handshakes of one measurement.
const HANDSHAKES: u32 = 100;
/// Records of one measurement.
const RECORDS: u32 = 2000;

/// CPU seconds of one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// To seal a GiB in records of 16 KiB.
    pub(super) seal: f64,
    /// To open them.
    pub(super) open: f64,
    /// The server's part of a full mutual handshake by rustls.
    pub(super) full: f64,
    /// Of a resumed one.
    pub(super) resumed: f64,
}

impl Limits {
    pub(super) fn measure() -> anyhow::Result<Limits> {
        let directory = directory()?;
        let pki = Pki::make(directory.path())?;
        let server = pki.manager()?;
        let strangers = pki.client(None)?;
        let tickets = Arc::new(Tickets::default());
        let acquaintances = pki.client(Some(tickets))?;
        let mut values = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let [seal, open] = records(&strangers, &server)?;
            let full = handshakes(&strangers, &server)?;
            // The first of the first round is a full one: one in five hundred.
            let resumed = handshakes(&acquaintances, &server)?;
            for (values, value) in values.iter_mut().zip([seal, open, full, resumed]) {
                values.push(value);
            }
        }
        let [seal, open, full, resumed] =
            values.map(|values| Spread::of(values).map_or(f64::NAN, |spread| spread.median));
        Ok(Limits {
            seal,
            open,
            full,
            resumed,
        })
    }
}

/// CPU seconds of the server for a handshake, tickets included.
fn handshakes(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> io::Result<f64> {
    let mut used = Duration::ZERO;
    for _ in 0..HANDSHAKES {
        used += shake(client, server)?.2;
    }
    Ok(used.as_secs_f64() / f64::from(HANDSHAKES))
}

/// CPU seconds to seal a GiB, and to open it.
fn records(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> io::Result<[f64; 2]> {
    let (mut near, mut far, _) = shake(client, server)?;
    near.settle()?;
    far.settle()?;
    let (Layer::Records(near), Layer::Records(far)) = (&mut near, &mut far) else {
        return Err(io::Error::other("a handshake without an end"));
    };
    let payload = vec![FILL; PAYLOAD];
    let mut record = Vec::with_capacity(2 * PAYLOAD);
    let mut used = [Duration::ZERO; 2];
    for _ in 0..RECORDS {
        record.clear();
        let start = clock()?;
        far.seal(DATA, &payload, &mut record)?;
        let sealed = clock()?;
        near.open(&mut record, &mut |_| Ok(()))?;
        used[0] += sealed - start;
        used[1] += clock()? - sealed;
    }
    let gib = f64::from(RECORDS) * PAYLOAD as f64 / GIB;
    Ok(used.map(|used| used.as_secs_f64() / gib))
}

/// A whole handshake: both ends, and the CPU time of the server.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> io::Result<(Layer, Layer, Duration)> {
    let mut near = Layer::client(client)?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut used = Duration::ZERO;
    let start = clock()?;
    let mut far = Layer::server(server)?;
    used += clock()? - start;
    let mut quiet = |_: &[u8]| Ok(());
    loop {
        let count = near.shake(&mut to_client, &mut to_server, &mut quiet)?;
        to_client.drain(..count);
        if to_server.is_empty() {
            break;
        }
        let start = clock()?;
        let count = far.shake(&mut to_server, &mut to_client, &mut quiet)?;
        used += clock()? - start;
        to_server.drain(..count);
    }
    if near.is_done() && far.is_done() {
        Ok((near, far, used))
    } else {
        Err(io::Error::other("a handshake without an end"))
    }
}

/// CPU time of this thread.
fn clock() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_handshake_costs_less_than_a_full_one() {
        let limits = Limits::measure().unwrap();
        assert!(limits.resumed < limits.full, "{limits:?}");
        assert!(limits.seal > 0.0 && limits.open > 0.0, "{limits:?}");
    }
}
