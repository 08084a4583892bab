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
use hnp_tests::pod::{Bpffs, Pod};

use super::scene;
use crate::child::Process;
use crate::figures::GIB;
use crate::usage::ProcessTree;

/// How long HNP may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running HNP, and a server that its tunnels reach. Fields drop in this order.
pub(super) struct Through {
    hnp: Process,
    proxy: SocketAddr,
    server: SocketAddr,
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
        let proxy = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = directory.path().join("hnp.toml");
        fs::write(
            &config,
            format!(
                "[listener]\naddress = \"{proxy}\"\n[[policy.allow]]\ncidrs = [\"127.0.0.0/8\"]\n[log]\naccess = false\nlevel = \"warn\"\n\
                 [intercept]\ncontrol = \"{}\"\npins = \"{}\"\n",
                control.display(),
                bpffs.path().join("hnp").display()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config);
        let hnp = Process::start("hnp", &mut command)?;
        let sending = TcpListener::bind("127.0.0.1:0")?;
        let server = sending.local_addr()?;
        thread::spawn(move || scene::send(&sending));
        let started = Through {
            hnp,
            proxy,
            server,
            control,
            _pause: pod.pause(),
            _bpffs: bpffs,
            _directory: directory,
        };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(proxy).is_err() || Client::connect(&started.control).is_err() {
            if Instant::now() > end {
                bail!("hnp does not listen at {proxy}");
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
        let done = self.measure(&mut command, read, mebibytes);
        client.ask(&Request::Detach { pod: None })?;
        done
    }

    /// The same of a CONNECT tunnel.
    pub(super) fn tunnel(&self, mebibytes: u64) -> anyhow::Result<(f64, f64)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("BENCH_PROXY", self.proxy.to_string());
        self.measure(&mut command, self.server, mebibytes)
    }

    fn measure(
        &self,
        command: &mut Command,
        read: SocketAddr,
        mebibytes: u64,
    ) -> anyhow::Result<(f64, f64)> {
        let tree = ProcessTree::of(self.hnp.id())?;
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
}
