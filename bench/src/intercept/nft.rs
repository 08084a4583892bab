//! What iptables' `REDIRECT` is today: an nftables rule that leads the pod's connections to a port.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, bail};
use hnp_tests::pod::Pod;

/// Connections are redirected as long as this lives.
pub(super) struct Redirect<'a> {
    pod: &'a Pod,
}

impl Redirect<'_> {
    /// Those to `from`, and no others: what the proxy itself connects to is not among them.
    pub(super) fn start(pod: &Pod, from: SocketAddr, port: u16) -> anyhow::Result<Redirect<'_>> {
        nft(
            pod,
            &format!(
                "table ip hnp_bench {{ chain output {{ type nat hook output priority -100; \
                 ip daddr {} tcp dport {} redirect to :{port}; }}; }}",
                from.ip(),
                from.port()
            ),
        )?;
        Ok(Redirect { pod })
    }
}

impl Drop for Redirect<'_> {
    fn drop(&mut self) {
        if let Err(error) = nft(self.pod, "delete table ip hnp_bench") {
            eprintln!("{error:#}");
        }
    }
}

fn nft(pod: &Pod, what: &str) -> anyhow::Result<()> {
    let output = pod
        .netns
        .run(|| Command::new("nft").arg(what).output())
        .context("cannot start nft (package nftables)")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
