//! The pod, the server outside it, the relay, and what is between.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, bail};
use hnp_dataplane::redirect::{
    Action, Attached, CompiledRules, Destinations, NetNs, NetnsCookie, PodPolicy, Programs, RulesId,
};
use hnp_tests::pod::{PEER4, POD4, Pod};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Way, client};
use crate::figures::GIB;

/// Marks the relay's connections, which nftables is to leave alone.
const MARK: u32 = 77;

pub(super) struct Scene {
    programs: Programs,
    relayed: RulesId,
    direct: RulesId,
    /// Where the relay listens: for eBPF, for nftables.
    ports: [u16; 2],
    connect: SocketAddr,
    pub(super) read: SocketAddr,
    pub(super) pod: Pod,
}

/// A way that is prepared; undone when this is dropped.
pub(super) struct Ready<'a> {
    scene: &'a Scene,
    _attached: Option<Attached>,
    nft: bool,
}

impl Scene {
    pub(super) fn new() -> anyhow::Result<Scene> {
        let mut programs = Programs::load()?;
        let mut rules = |action| -> anyhow::Result<RulesId> {
            Ok(programs.add_rules(&CompiledRules::compile(&[], action)?)?)
        };
        let (relayed, direct) = (rules(Action::Relay)?, rules(Action::Direct)?);
        let pod = Pod::new("bench");
        let listen = || -> anyhow::Result<_> {
            let listener = pod.peer.run(|| TcpListener::bind((PEER4, 0)))?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (answering, connect) = listen()?;
        thread::spawn(move || answer(&answering));
        let (sending, read) = listen()?;
        thread::spawn(move || send(&sending));
        let netns = NetNs::open(&pod.netns.path())?;
        let mut ports = [0; 2];
        for (at, port) in ports.iter_mut().enumerate() {
            let (listener, _) = netns.listen()?;
            *port = listener.local_addr()?.port();
            let asked = (at == 0).then(|| programs.destinations()).transpose()?;
            let netns = NetNs::open(&pod.netns.path())?;
            // Ends with the process.
            thread::spawn(move || netns.run(|| relay(&listener, asked)));
        }
        Ok(Scene {
            programs,
            relayed,
            direct,
            ports,
            connect,
            read,
            pod,
        })
    }

    /// Whether this machine has nftables, and this kernel NAT.
    pub(super) fn try_nft(&self) -> anyhow::Result<()> {
        self.nft_redirect()?;
        self.nft_end()
    }

    pub(super) fn prepare(&mut self, way: Way) -> anyhow::Result<Ready<'_>> {
        let policy = |rules| {
            let mut policy = PodPolicy::new(rules, self.ports[0], self.ports[0]);
            policy.source4 = POD4.parse().ok();
            policy.report_direct = true;
            policy
        };
        let rules = match way {
            Way::Ebpf => Some(self.relayed),
            Way::Direct => Some(self.direct),
            Way::Bare | Way::Nft | Way::Captured | Way::Tunnel => None,
        };
        let policy = rules.map(policy);
        let attached = policy
            .map(|policy| self.programs.attach(&self.pod.cgroup, 1, &policy))
            .transpose()?;
        if way == Way::Nft {
            self.nft_redirect()?;
        }
        Ok(Ready {
            scene: self,
            _attached: attached,
            nft: way == Way::Nft,
        })
    }

    fn nft_redirect(&self) -> anyhow::Result<()> {
        self.nft(&format!(
            "table ip hnp_bench {{ chain output {{ type nat hook output priority -100; \
             meta mark {MARK} accept; ip daddr {PEER4} tcp dport {} redirect to :{}; }}; }}",
            self.connect.port(),
            self.ports[1]
        ))
    }

    fn nft_end(&self) -> anyhow::Result<()> {
        self.nft("delete table ip hnp_bench")
    }

    fn nft(&self, what: &str) -> anyhow::Result<()> {
        let output = self
            .pod
            .netns
            .run(|| Command::new("nft").arg(what).output())
            .context("cannot start nft (package nftables)")?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Ready<'_> {
    /// What a client in the pod says. CPU time is that of both ends.
    pub(super) fn client(&self, what: &[&str]) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let before = client::cpu()?;
        let output = self
            .scene
            .pod
            .command(std::env::current_exe()?)
            .arg("intercept-client")
            .args(what)
            .arg(self.scene.connect.to_string())
            .arg(self.scene.read.to_string())
            .output()?;
        if !output.status.success() {
            bail!(
                "the client in the pod: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let own = (client::cpu()? - before).as_secs_f64();
        let known = client::CONNECTING.iter().map(|(name, _)| *name);
        let known: Vec<&str> = known
            .chain(client::READING.iter().map(|(name, ..)| *name))
            .collect();
        let text = String::from_utf8(output.stdout)?;
        let mut said = Vec::new();
        for line in text.lines() {
            let (name, value) = line.split_once(' ').context("no figure")?;
            let mut value: f64 = value.parse()?;
            if name == "cpu" {
                let mebibytes: f64 = what.last().context("no amount")?.parse()?;
                value += own / (mebibytes * f64::from(1 << 20) / GIB);
            }
            let name = known.iter().find(|known| **known == name);
            said.push((*name.context("a figure of no known name")?, value));
        }
        Ok(said)
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if self.nft
            && let Err(error) = self.scene.nft_end()
        {
            eprintln!("{error:#}");
        }
    }
}

/// A byte to everybody.
fn answer(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let _ = stream.write_all(b"!");
    }
}

/// As much as the other side takes.
fn send(listener: &TcpListener) {
    let buffer = vec![0; 1 << 17];
    for mut stream in listener.incoming().flatten() {
        while stream.write_all(&buffer).is_ok() {}
    }
}

/// Finds out where a connection was meant to go, connects there, and hands a byte back. One at a time, as the client asks.
fn relay(listener: &TcpListener, mut asked: Option<Destinations>) -> anyhow::Result<()> {
    let netns = NetnsCookie::of_socket(listener)?;
    loop {
        let (mut client, from) = listener.accept()?;
        let to = match &mut asked {
            Some(destinations) => {
                destinations
                    .take(netns, from)?
                    .context("a connection without a destination")?
                    .address
            }
            None => SockRef::from(&client)
                .original_dst_v4()?
                .as_socket()
                .context("no address")?,
        };
        let upstream = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        upstream.set_mark(MARK)?;
        upstream.connect(&to.into())?;
        let mut upstream = TcpStream::from(upstream);
        let mut byte = [0];
        upstream.read_exact(&mut byte)?;
        client.write_all(&byte)?;
    }
}
