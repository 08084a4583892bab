//! `hnp-bench serve`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use hnp_bench::net::upstream_ip;
use hnp_bench::peers::{HNP, Programs};
use hnp_bench::route::Route;
use hnp_bench::upstream::Upstream;

/// HNP's usual port.
const PORT: u16 = 7777;

/// Starts a local upstream and HNP, prints a line to try, and leaves both running until Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The binary `hnp`
    #[arg(long)]
    hnp: PathBuf,
    /// What HNP's workers wait with: auto, io_uring or epoll
    #[arg(long, default_value = "auto")]
    backend: String,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let upstream = Upstream::start()?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
        let programs = Programs {
            hnp: self.hnp,
            backend: self.backend,
            hnp_port: free.then_some(PORT),
            envoy: None,
        };
        let mut hnp = HNP.start(&programs, upstream.ports)?;
        let Route::Connect { proxy, .. } = hnp.route else {
            bail!("hnp is asked with CONNECT")
        };
        let target = format!("http://{}:{}", upstream_ip(0), upstream.web);
        println!(
            "hnp (process {}) tunnels on {proxy} to anything in 127.0.0.0/8. To try it:\n",
            hnp.id()
        );
        println!("  curl --noproxy '' --proxytunnel --proxy http://{proxy} {target}/\n");
        println!("A GiB through it:\n");
        println!(
            "  curl --noproxy '' --proxytunnel --proxy http://{proxy} {target}/1073741824 --output /dev/null\n"
        );
        println!("Ctrl-C ends both.");
        // A signal ends this process (`interrupt`), and that ends the others.
        let status = hnp.wait()?;
        bail!("hnp has ended: {status}");
    }
}
