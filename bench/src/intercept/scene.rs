//! The pod, what is outside it, and what is between.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use hnp_tests::pod::{self, Namespace, PEER4, Pod, ip};

use super::hnp::{Hnp, Interception, LISTENER};
use super::nft::Redirect;
use super::servers::Servers;
use super::{Way, client};
use crate::figures::GIB;
use crate::interrupt;
use crate::usage::ProcessTree;

/// The address of the network that the intercepting HNP is in.
const NODE4: &str = "10.78.0.2";

/// Fields drop in this order.
pub(super) struct Scene {
    hnp: Hnp,
    servers: Servers,
    _node: Namespace,
    pod: Pod,
}

/// What a client is to do.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// So many connections with a request each.
    Connections(u32),
    /// One flow of so many MiB.
    Flow(u32),
}

/// A way that is prepared; undone when this is dropped.
pub(super) struct Ready<'a> {
    scene: &'a Scene,
    way: Way,
    _intercepted: Option<Interception<'a>>,
    _redirected: Option<Redirect<'a>>,
}

impl Scene {
    pub(super) fn new(program: &Path) -> anyhow::Result<Scene> {
        let pod = Pod::new("bench");
        let cgroup = pod.cgroup.clone();
        interrupt::remove_too(move || pod::delete_cgroup(&cgroup));
        let node = node(&pod);
        let servers = Servers::start(&pod)?;
        Ok(Scene {
            hnp: Hnp::start(program, &pod, &node, &servers)?,
            servers,
            _node: node,
            pod,
        })
    }

    pub(super) fn prepare(&self, way: Way) -> anyhow::Result<Ready<'_>> {
        let intercepted = matches!(way, Way::Direct | Way::Ebpf | Way::Captured)
            .then(|| self.hnp.intercept(&self.pod))
            .transpose()?;
        let redirected = (way == Way::Nft)
            .then(|| Redirect::start(&self.pod, self.servers.managed, LISTENER.port()))
            .transpose()?;
        Ok(Ready {
            scene: self,
            way,
            _intercepted: intercepted,
            _redirected: redirected,
        })
    }

    fn server(&self, way: Way, what: What) -> SocketAddr {
        let by_itself = matches!(way, Way::Bare | Way::Direct);
        match what {
            What::Connections(_) if by_itself => self.servers.web,
            What::Connections(_) => self.servers.managed,
            What::Flow(_) if by_itself => self.servers.direct,
            What::Flow(_) => self.servers.captured,
        }
    }
}

impl Ready<'_> {
    /// What a client in the pod says, and CPU time: `cpu` is that of both ends of a flow, `hnp_cpu` that of the HNP between.
    pub(super) fn client(&self, what: What) -> anyhow::Result<Vec<(String, f64)>> {
        let Ready { scene, way, .. } = self;
        // CPU time is told in microseconds a connection, and in seconds a GiB.
        let (verb, count, unit) = match what {
            What::Connections(count) => ("connect", count, f64::from(count) / 1e6),
            What::Flow(mebibytes) => (
                "read",
                mebibytes,
                f64::from(mebibytes) * f64::from(1 << 20) / GIB,
            ),
        };
        let mut command = scene.pod.command(std::env::current_exe()?);
        command
            .args(["intercept-client", verb, &count.to_string()])
            .arg(scene.server(*way, what).to_string());
        if *way == Way::Tunnel {
            command.env(client::PROXY, LISTENER.to_string());
        }
        let hnp = scene.hnp.behind(*way);
        let hnp = hnp.map(|hnp| ProcessTree::of(hnp.id())).transpose()?;
        let hnp_cpu = || hnp.as_ref().map(ProcessTree::cpu).transpose();
        let before = (client::cpu()?, hnp_cpu()?);
        let output = command.output()?;
        let after = (client::cpu()?, hnp_cpu()?);
        if !output.status.success() {
            bail!(
                "{way}: the client in the pod: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let own = (after.0 - before.0).as_secs_f64();
        let mut said = Vec::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let (name, value) = line.split_once(' ').context("no figure")?;
            let value: f64 = value.parse()?;
            let servers = if name == "cpu" { own / unit } else { 0.0 };
            said.push((name.to_owned(), value + servers));
        }
        if let (Some(before), Some(after)) = (before.1, after.1) {
            said.push(("hnp_cpu".to_owned(), (after - before).as_secs_f64() / unit));
        }
        Ok(said)
    }
}

/// A network as a node's, joined to the servers' as the pod's is, so that the way to the upstream is as long from HNP in either.
fn node(pod: &Pod) -> Namespace {
    let node = Namespace::new();
    node.run(|| {
        ip(&format!(
            "link add node0 type veth peer name node1 netns {}",
            pod.peer.path().display()
        ));
        ip(&format!("address add {NODE4}/32 dev node0"));
        ip("link set node0 up");
        ip(&format!("route add {PEER4}/32 dev node0"));
    });
    pod.peer.run(|| {
        ip("link set node1 up");
        ip(&format!("route add {NODE4}/32 dev node1"));
    });
    node
}
