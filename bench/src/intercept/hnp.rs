//! HNP, behind all that leads to a proxy.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use hnp_dataplane::intercept::client::Client;
use hnp_dataplane::intercept::protocol::Request;
use hnp_tests::pod::{Bpffs, Namespace, PEER4, Pod, unmount};

use super::Way;
use super::servers::Servers;
use crate::child::Process;
use crate::{interrupt, peers};

/// How long HNP may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where both listen, each in its own network namespace.
pub(super) const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7777);

/// HNP twice, of one binary and with one configuration but for `[intercept]`: one that intercepts the pod, and one inside the pod's
/// network namespace, to which nftables or a client that names a proxy leads. So every way goes over the pod's loopback interface to
/// HNP. Fields drop in this order.
pub(super) struct Hnp {
    intercepting: Process,
    listening: Process,
    control: PathBuf,
    _pause: hnp_tests::process::Process,
    _bpffs: Bpffs,
    _directory: tempfile::TempDir,
}

impl Hnp {
    pub(super) fn start(
        program: &Path,
        pod: &Pod,
        node: &Namespace,
        servers: &Servers,
    ) -> anyhow::Result<Hnp> {
        let directory = peers::directory()?;
        let bpffs = Bpffs::new();
        let mounted = bpffs.path().to_owned();
        interrupt::remove_too(move || {
            unmount(&mounted);
            let _gone = fs::remove_dir(&mounted);
        });
        let control = directory.path().join("control.sock");
        let intercept = format!(
            "[intercept]\ncontrol = \"{}\"\npins = \"{}\"\n\
             [[intercept.rules]]\nports = [{}, {}]\naction = \"direct\"\n\
             [[intercept.rules]]\nports = [{}]\naction = \"mtls\"\n",
            control.display(),
            bpffs.path().join("hnp").display(),
            servers.web.port(),
            servers.direct.port(),
            servers.managed.port(),
        );
        let start = |name: &str, inside: &Namespace, more: &str| {
            let config = directory.path().join(format!("{name}.toml"));
            let text = format!(
                "workers = 1\n[listener]\naddress = \"{LISTENER}\"\n[upstream]\nurl = \"http://{}\"\n\
                 [[policy.allow]]\ncidrs = [\"{PEER4}/32\"]\n[limits]\nconnections = 1000\n[admin]\naddress = \"off\"\n[log]\nlevel = \"warn\"\n{more}",
                servers.upstream
            );
            fs::write(&config, text)?;
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net={}", inside.path().display()))
                .arg(program)
                .args(["run", "--config"])
                .arg(&config)
                // The access log is on, as it is by default.
                .stdout(Stdio::null());
            Process::start("hnp", &mut command)
        };
        let mut started = Hnp {
            intercepting: start("intercepting", node, &intercept)?,
            listening: start("listening", &pod.netns, "")?,
            control,
            _pause: pod.pause(),
            _bpffs: bpffs,
            _directory: directory,
        };
        let listens = || TcpStream::connect(LISTENER).is_ok();
        let end = Instant::now() + PATIENCE;
        while !node.run(listens)
            || !pod.netns.run(listens)
            || Client::connect(&started.control).is_err()
        {
            started.intercepting.check()?;
            started.listening.check()?;
            if Instant::now() > end {
                bail!("hnp does not listen at {LISTENER}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// The one that a way leads to.
    pub(super) fn behind(&self, way: Way) -> Option<&Process> {
        match way {
            Way::Bare | Way::Direct => None,
            Way::Ebpf | Way::Captured => Some(&self.intercepting),
            Way::Nft | Way::Tunnel => Some(&self.listening),
        }
    }

    pub(super) fn intercept(&self, pod: &Pod) -> anyhow::Result<Interception<'_>> {
        Client::connect(&self.control)?.ask(&Request::Attach {
            cgroup: Some(pod.cgroup.clone()),
            pid: None,
            close_existing: false,
        })?;
        Ok(Interception {
            control: &self.control,
        })
    }
}

/// The pod is intercepted as long as this lives.
pub(super) struct Interception<'a> {
    control: &'a Path,
}

impl Drop for Interception<'_> {
    fn drop(&mut self) {
        let detached = Client::connect(self.control)
            .and_then(|mut client| client.ask(&Request::Detach { pod: None }));
        if let Err(error) = detached {
            eprintln!("the pod stays intercepted: {error}");
        }
    }
}
