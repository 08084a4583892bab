//! What interception costs a pod: to connect, and to talk directly.
//!
//! A process in a pod of the benchmark's own connects to a server outside it. Between them is nothing, HNP's eBPF programs, or
//! an nftables rule that redirects; behind those two stands the same small relay, which asks the map or the connection tracker
//! where a connection was meant to go. So the difference is that of the interception, not of a proxy.

mod client;
mod scene;
mod through;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::figures::Spread;

pub use client::Client;
use scene::Scene;
use through::Through;

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// Measurements of each, interleaved.
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
        let (connections, mebibytes) = if self.quick {
            (1000, 256)
        } else {
            (5000, 2048)
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
                if matches!(way, Way::Bare | Way::Direct) {
                    let said = ready.client(&["read", &mebibytes.to_string()])?;
                    for (name, value) in said {
                        measured.entry((*way, name)).or_default().push(value);
                    }
                }
            }
            if let Some(through) = &through {
                let captured = through.captured(&scene.pod, scene.read, mebibytes)?;
                let tunnel = through.tunnel(&scene.pod, scene.read, mebibytes)?;
                for (way, (rate, cpu)) in [(Way::Captured, captured), (Way::Tunnel, tunnel)] {
                    measured.entry((way, "rate")).or_default().push(rate);
                    measured.entry((way, "cpu")).or_default().push(cpu);
                }
            }
        }
        print(&measured, &ways)?;
        if through.is_some() {
            print_through(&measured)?;
        }
        Ok(())
    }
}

fn print_through(measured: &Measured) -> anyhow::Result<()> {
    for (name, title, unit) in [
        ("rate", "Through HNP: throughput", "GiB/s"),
        ("cpu", "Through HNP: its CPU time", "s/GiB"),
    ] {
        println!("\n{title}");
        for way in [Way::Captured, Way::Tunnel] {
            let values = measured.get(&(way, name)).cloned().unwrap_or_default();
            let Spread {
                median,
                least,
                most,
                ..
            } = Spread::of(values).context("nothing was measured through HNP")?;
            println!("  {way:<18} {median:8.3} {unit} ({least:.3} to {most:.3})");
        }
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
    for (name, title, unit) in client::READING {
        println!("\n{title}");
        let bare = spread(Way::Bare, name)?;
        for way in [Way::Bare, Way::Direct] {
            let Spread {
                median,
                least,
                most,
                ..
            } = spread(way, name)?;
            let share = (median / bare.median - 1.0) * 100.0;
            println!("  {way:<18} {median:8.3} {unit} ({least:.3} to {most:.3})  {share:+6.1} %");
        }
    }
    Ok(())
}
