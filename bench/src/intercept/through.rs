//! Through HNP: captured connections beside CONNECT tunnels.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hnp_dataplane::intercept::client::Client;
use hnp_dataplane::intercept::protocol::Request;
use hnp_tests::pod::{Bpffs, PEER4, Pod};

use crate::child::Process;
use crate::figures::GIB;
use crate::usage::ProcessTree;

/// How long HNP may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// HNP twice: one that intercepts the pod, and one inside the pod's network namespace that its clients name as their proxy. So both
/// ways lead over the pod's loopback interface to HNP, and over the pod's network to the server. Fields drop in this order.
pub(super) struct Through {
    intercepting: Process,
    tunnelling: Process,
    proxy: SocketAddr,
    control: PathBuf,
    _pause: hnp_tests::process::Process,
    _bpffs: Bpffs,
    _directory: tempfile::TempDir,
}

impl Through {
    pub(super) fn start(program: &Path, pod: &Pod) -> anyhow::Result<Through> {
        let directory = tempfile::tempdir()?;
        let bpffs = Bpffs::new();
        let control = directory.path().join("control.sock");
        let intercept = format!(
            "[intercept]\ncontrol = \"{}\"\npins = \"{}\"\n",
            control.display(),
            bpffs.path().join("hnp").display()
        );
        let start = |name: &str, inside: Option<&str>, listener: SocketAddr, more: &str| {
            let config = directory.path().join(format!("{name}.toml"));
            let text = format!(
                "workers = 1\n[listener]\naddress = \"{listener}\"\n[[policy.allow]]\ncidrs = [\"{PEER4}/32\"]\n\
                 [admin]\naddress = \"off\"\n[log]\naccess = false\nlevel = \"warn\"\n{more}"
            );
            fs::write(&config, text)?;
            let mut command = inside.map_or_else(
                || Command::new(program),
                |netns: &str| {
                    let mut command = Command::new("nsenter");
                    command.arg(format!("--net={netns}")).arg(program);
                    command
                },
            );
            command.arg("run").arg("--config").arg(&config);
            Process::start("hnp", &mut command)
        };
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let listener = free()?;
        let netns = pod.netns.path();
        let netns = netns.to_str().context("a path that is no text")?;
        let proxy = pod.netns.run(free)?;
        let started = Through {
            intercepting: start("intercepting", None, listener, &intercept)?,
            tunnelling: start("tunnelling", Some(netns), proxy, "")?,
            proxy,
            control,
            _pause: pod.pause(),
            _bpffs: bpffs,
            _directory: directory,
        };
        let listens = |address| move || TcpStream::connect(address).is_ok();
        let end = Instant::now() + PATIENCE;
        while !listens(listener)()
            || !pod.netns.run(listens(proxy))
            || Client::connect(&started.control).is_err()
        {
            if Instant::now() > end {
                bail!("hnp does not listen at {listener} and, in the pod, at {proxy}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// GiB/s, and what HNP used for a GiB, of a flow that was captured in the pod.
    pub(super) fn captured(
        &self,
        pod: &Pod,
        read: SocketAddr,
        mebibytes: u64,
    ) -> anyhow::Result<(f64, f64)> {
        let mut client = Client::connect(&self.control)?;
        client.ask(&Request::Attach {
            cgroup: Some(pod.cgroup.clone()),
            pid: None,
            close_existing: false,
        })?;
        let mut command = pod.command(std::env::current_exe()?);
        let done = measure(&self.intercepting, &mut command, read, mebibytes);
        client.ask(&Request::Detach { pod: None })?;
        done
    }

    /// The same of a CONNECT tunnel.
    pub(super) fn tunnel(
        &self,
        pod: &Pod,
        read: SocketAddr,
        mebibytes: u64,
    ) -> anyhow::Result<(f64, f64)> {
        let mut command = pod.command(std::env::current_exe()?);
        command.env("BENCH_PROXY", self.proxy.to_string());
        measure(&self.tunnelling, &mut command, read, mebibytes)
    }
}

fn measure(
    hnp: &Process,
    command: &mut Command,
    read: SocketAddr,
    mebibytes: u64,
) -> anyhow::Result<(f64, f64)> {
    let tree = ProcessTree::of(hnp.id())?;
    let before = tree.cpu()?;
    command.args(["intercept-client", "read", &mebibytes.to_string()]);
    let output = command
        .args([read.to_string(), read.to_string()])
        .output()?;
    let used = tree.cpu()? - before;
    if !output.status.success() {
        bail!(
            "the client: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)?;
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("rate "))
        .context("the client says no rate")?;
    let gib = (mebibytes << 20) as f64 / GIB;
    Ok((rate.parse()?, used.as_secs_f64() / gib))
}
