//! What interception costs a pod: to connect, and to talk directly.
//!
//! A process in a pod of the benchmark's own connects to a server outside it. Between them is nothing, HNP's eBPF programs, or
//! an nftables rule that redirects; behind those two stands the same small relay, which asks the map or the connection tracker
//! where a connection was meant to go. So the difference is that of the interception, not of a proxy.

mod client;
mod pairs;
mod scene;
mod through;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::figures::Spread;

pub use client::Client;
use pairs::Pairs;
use scene::Scene;
use through::Through;

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// Measurements of each way to connect, interleaved.
    pub rounds: usize,
    /// Measures less than half as long.
    pub quick: bool,
    /// HNP, to compare captured flows with tunnels; they are left out without.
    pub hnp: Option<PathBuf>,
}

/// What is between the pod and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Nothing.
    Bare,
    /// eBPF programs that let connections pass and report their end.
    Direct,
    /// eBPF programs that redirect to the relay.
    Ebpf,
    /// An nftables rule that redirects to the relay.
    Nft,
    /// HNP, by interception.
    Captured,
    /// HNP, by CONNECT.
    Tunnel,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Bare => "nothing",
            Way::Direct => "eBPF, direct",
            Way::Ebpf => "eBPF, redirected",
            Way::Nft => "nftables redirect",
            Way::Captured => "captured by HNP",
            Way::Tunnel => "tunnel of HNP",
        })
    }
}

/// What is measured, with its unit.
type Measured = BTreeMap<(Way, &'static str), Vec<f64>>;

impl Plan {
    /// Measures and prints. Needs root, cgroup v2 and iproute2.
    ///
    /// # Errors
    /// When the machine does not let pods be made or programs be loaded, or a measurement fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut scene = Scene::new()?;
        let mut ways = vec![Way::Bare, Way::Direct, Way::Ebpf];
        match scene.try_nft() {
            Ok(()) => ways.push(Way::Nft),
            Err(why) => println!("nftables cannot redirect here, and is left out: {why:#}"),
        }
        let (connections, pairs, mebibytes) = if self.quick {
            (1000, 20, 128)
        } else {
            (5000, 200, 128)
        };
        let mut measured = Measured::new();
        let start = |program: &PathBuf| Through::start(program, &scene.pod);
        let through = self.hnp.as_ref().map(start).transpose()?;
        for round in 0..self.rounds {
            eprintln!("round {} of {}", round + 1, self.rounds);
            for way in &ways {
                let ready = scene.prepare(*way)?;
                let said = ready.client(&["connect", &connections.to_string()])?;
                for (name, value) in said {
                    measured.entry((*way, name)).or_default().push(value);
                }
            }
        }
        print(&measured, &ways)?;
        eprintln!("{pairs} pairs of flows of {mebibytes} MiB");
        compare(Way::Direct, Way::Bare, pairs, &client::READING, |way| {
            let ready = scene.prepare(way)?;
            ready.client(&["read", &mebibytes.to_string()])
        })?;
        if let Some(through) = &through {
            compare(Way::Captured, Way::Tunnel, pairs, &THROUGH, |way| {
                let (rate, cpu) = if way == Way::Captured {
                    through.captured(&scene.pod, scene.read, mebibytes)?
                } else {
                    through.tunnel(&scene.pod, scene.read, mebibytes)?
                };
                Ok(vec![("rate", rate), ("cpu", cpu)])
            })?;
        }
        Ok(())
    }
}

/// What is measured of flows through HNP.
const THROUGH: [(&str, &str, &str); 2] = [
    ("rate", "Through HNP: throughput", "GiB/s"),
    ("cpu", "Through HNP: its CPU time", "s/GiB"),
];

/// Measures two ways in pairs, and prints both and how they compare.
fn compare(
    way: Way,
    reference: Way,
    pairs: usize,
    figures: &[(&'static str, &str, &str)],
    mut measure: impl FnMut(Way) -> anyhow::Result<Vec<(&'static str, f64)>>,
) -> anyhow::Result<()> {
    let mut measured = Measured::new();
    for pair in 0..pairs {
        let order = match pair % 2 {
            0 => [reference, way],
            _ => [way, reference],
        };
        for one in order {
            for (name, value) in measure(one)? {
                measured.entry((one, name)).or_default().push(value);
            }
        }
    }
    for (name, title, unit) in figures {
        println!("\n{title}: median of the flows (least to most)");
        let of = |one| measured.get(&(one, *name)).cloned().unwrap_or_default();
        for one in [reference, way] {
            let Spread {
                median,
                least,
                most,
                ..
            } = Spread::of(of(one)).with_context(|| format!("nothing was measured of {one}"))?;
            println!("  {one:<18} {median:8.3} {unit} ({least:.3} to {most:.3})");
        }
        for one in [reference, way] {
            let count = of(one).len();
            ensure!(
                count == pairs,
                "{one}: {count} of {pairs} flows were measured"
            );
        }
        let mut compared = Pairs::default();
        for (value, reference) in of(way).into_iter().zip(of(reference)) {
            compared.enter(value, reference)?;
        }
        let ratio = compared.ratio().context("no pair was measured")?;
        println!("  {way} against {reference}, median of the pairs: {ratio}");
    }
    Ok(())
}

fn print(measured: &Measured, ways: &[Way]) -> anyhow::Result<()> {
    let spread = |way: Way, name: &'static str| {
        let values = measured.get(&(way, name)).cloned().unwrap_or_default();
        Spread::of(values).with_context(|| format!("nothing was measured of {way}: {name}"))
    };
    for (name, title) in client::CONNECTING {
        println!("\n{title}: median of the rounds (least to most), and what is added to nothing");
        let bare = spread(Way::Bare, name)?;
        for way in ways {
            let Spread {
                median,
                least,
                most,
                ..
            } = spread(*way, name)?;
            let added = median - bare.median;
            println!("  {way:<18} {median:8.1} µs ({least:.1} to {most:.1})  {added:+8.1} µs");
        }
    }
    Ok(())
}
