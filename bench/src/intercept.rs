//! What interception costs a pod: to connect, and to talk directly.
//!
//! A process in a pod of the benchmark's own connects to a server outside it and asks it for something small. Between them is nothing,
//! HNP's eBPF programs, or HNP itself. To HNP leads its interception, or an nftables rule that redirects; with either it does the same
//! for a connection: it accepts it, and passes the request on over a connection that it keeps. So the difference is that of how
//! connections come to it.

mod client;
mod hnp;
mod nft;
mod pairs;
mod scene;
mod servers;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::figures::Spread;

pub use client::Client;
use pairs::Pairs;
use scene::{Scene, What};

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// Measurements of each way to connect, interleaved.
    pub rounds: usize,
    /// Measures less than half as long.
    pub quick: bool,
    /// HNP.
    pub hnp: PathBuf,
}

/// What is between the pod and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Nothing.
    Bare,
    /// eBPF programs that let connections pass and report their end.
    Direct,
    /// HNP, which serves requests, by interception.
    Ebpf,
    /// The same, by an nftables rule that redirects.
    Nft,
    /// HNP, which passes bytes on, by interception.
    Captured,
    /// The same, by CONNECT.
    Tunnel,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Bare => "nothing",
            Way::Direct => "eBPF, direct",
            Way::Ebpf => "eBPF, HNP",
            Way::Nft => "nftables, HNP",
            Way::Captured => "captured by HNP",
            Way::Tunnel => "tunnel of HNP",
        })
    }
}

/// What is measured.
type Measured = BTreeMap<(Way, String), Vec<f64>>;

impl Plan {
    /// Measures and prints. Needs root, cgroup v2 and iproute2.
    ///
    /// # Errors
    /// When the machine does not let pods be made or programs be loaded, or a measurement fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let scene = Scene::new(&self.hnp)?;
        let mut ways = vec![Way::Bare, Way::Direct, Way::Ebpf];
        match scene.prepare(Way::Nft) {
            Ok(_) => ways.push(Way::Nft),
            Err(why) => println!("nftables cannot redirect here, and is left out: {why:#}"),
        }
        let (connections, pairs, mebibytes) = if self.quick {
            (1000, 20, 128)
        } else {
            (5000, 200, 128)
        };
        let mut measured = Measured::new();
        for round in 0..self.rounds {
            eprintln!("round {} of {}", round + 1, self.rounds);
            for way in &ways {
                let said = scene
                    .prepare(*way)?
                    .client(What::Connections(connections))?;
                for (name, value) in said {
                    measured.entry((*way, name)).or_default().push(value);
                }
            }
        }
        print(&measured, &ways)?;
        eprintln!("{pairs} pairs of flows of {mebibytes} MiB");
        let flow = |way| scene.prepare(way)?.client(What::Flow(mebibytes));
        compare(Way::Direct, Way::Bare, pairs, &DIRECT, flow)?;
        compare(Way::Captured, Way::Tunnel, pairs, &THROUGH, flow)
    }
}

/// What is measured of direct flows.
const DIRECT: [(&str, &str, &str); 2] = [
    ("rate", "A direct flow: throughput", "GiB/s"),
    (
        "cpu",
        "A direct flow: CPU time of client and server",
        "s/GiB",
    ),
];

/// What is measured of flows through HNP.
const THROUGH: [(&str, &str, &str); 2] = [
    ("rate", "Through HNP: throughput", "GiB/s"),
    ("hnp_cpu", "Through HNP: its CPU time", "s/GiB"),
];

/// Measures two ways in pairs, and prints both and how they compare.
fn compare(
    way: Way,
    reference: Way,
    pairs: usize,
    figures: &[(&str, &str, &str)],
    measure: impl Fn(Way) -> anyhow::Result<Vec<(String, f64)>>,
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
        let of = |one| values(&measured, one, name);
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

fn values(measured: &Measured, way: Way, name: &str) -> Vec<f64> {
    let values = measured.get(&(way, name.to_owned()));
    values.cloned().unwrap_or_default()
}

fn print(measured: &Measured, ways: &[Way]) -> anyhow::Result<()> {
    let spread = |way: Way, name: &str| {
        Spread::of(values(measured, way, name))
            .with_context(|| format!("nothing was measured of {way}: {name}"))
    };
    for (name, title) in client::CONNECTING {
        println!(
            "\n{title}: median of the rounds (least to most), what is added to nothing, and to nftables"
        );
        let bare = spread(Way::Bare, name)?.median;
        let nft = spread(Way::Nft, name).ok().map(|nft| nft.median);
        for way in ways {
            let Spread {
                median,
                least,
                most,
                ..
            } = spread(*way, name)?;
            let range = format!("({least:.1} to {most:.1})");
            print!(
                "  {way:<18} {median:8.1} µs {range:<20} {:+8.1} µs",
                median - bare
            );
            println!(
                "{}",
                nft.map_or_else(String::new, |nft| format!(" {:+8.1} µs", median - nft))
            );
        }
    }
    println!("\nHNP's CPU time for a connection: median of the rounds (least to most)");
    for way in ways {
        if let Ok(Spread {
            median,
            least,
            most,
            ..
        }) = spread(*way, "hnp_cpu")
        {
            println!("  {way:<18} {median:8.1} µs ({least:.1} to {most:.1})");
        }
    }
    Ok(())
}
