//! Whether the upstream can be reached: a TCP connection now and then, on the control thread.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::health::{Health, Probed};
use super::metrics::Metrics;
use crate::config::Config;

/// From one probe to the next.
pub const PROBE_EVERY: Duration = Duration::from_secs(10);
/// For resolution and connection together.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried, all at once.
const ADDRESSES: usize = 8;

/// What is probed: the first hop on the way to the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// For people: scheme, host and port of the upstream and of the parent proxy on the way. No credentials, no path.
    pub name: String,
    /// Name or address of the first hop.
    pub host: String,
    /// Port of the first hop.
    pub port: u16,
}

impl ProbeTarget {
    /// The first hop to the upstream of `config`: the parent proxy if there is one, unless `direct` says that the upstream
    /// is reached without it. `None` without an upstream.
    #[must_use]
    pub fn of(config: &Config, direct: bool) -> Option<ProbeTarget> {
        let upstream = config.upstream.as_ref()?;
        let to_upstream = ProbeTarget::first_hop(&upstream.url)?;
        match &upstream.parent {
            Some(parent) if !direct => {
                let to_parent = ProbeTarget::first_hop(&parent.url)?;
                Some(ProbeTarget {
                    name: format!("{} via {}", to_upstream.name, to_parent.name),
                    ..to_parent
                })
            }
            _ => Some(to_upstream),
        }
    }

    fn first_hop(url: &url::Url) -> Option<ProbeTarget> {
        let (host, port) = (url.host()?, url.port_or_known_default()?);
        Some(ProbeTarget {
            name: format!("{}://{host}:{port}", url.scheme()),
            // A URL shows an IPv6 address in brackets, which resolvers do not take.
            host: host
                .to_string()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
        })
    }
}

/// Addresses of a host from the system's resolver.
///
/// # Errors
/// As `getaddrinfo` fails.
pub async fn system_resolver(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Probes at once, whenever the target changes, and each [`PROBE_EVERY`]; tells `health` and `metrics`, and logs what is
/// news. Ends when the sender of `target` is gone.
pub async fn run<R, F>(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    mut target: watch::Receiver<Option<ProbeTarget>>,
    resolve: R,
) where
    R: Fn(String, u16) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    loop {
        let current = target.borrow_and_update().clone();
        health.expect_upstream(current.as_ref().map(|current| current.name.as_str()));
        if let Some(current) = &current {
            let found = tokio::select! {
                found = probe(current, &resolve) => found,
                // The upstream is another by now: what is found about the old one is of no interest.
                changed = target.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            record(&health, &metrics, current, found);
        } else {
            metrics.upstream_reachable(None);
        }
        tokio::select! {
            () = sleep(PROBE_EVERY), if current.is_some() => {}
            changed = target.changed() => if changed.is_err() { return },
        }
    }
}

fn record(health: &Health, metrics: &Metrics, target: &ProbeTarget, found: Probed) {
    metrics.upstream_reachable(Some(matches!(found, Probed::Reachable(_))));
    if !health.upstream_probed(found.clone()) {
        return;
    }
    match found {
        Probed::Reachable(took) => info!(upstream = %target.name, ?took, "upstream reachable"),
        Probed::Unreachable(error) => warn!(
            upstream = %target.name, error,
            "upstream unreachable: check its address, DNS and the network from this host; HNP keeps trying"
        ),
    }
}

async fn probe<R, F>(target: &ProbeTarget, resolve: &R) -> Probed
where
    R: Fn(String, u16) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let started = Instant::now();
    let attempt = async {
        let resolved = resolve(target.host.clone(), target.port).await;
        let addresses =
            resolved.map_err(|error| format!("{} does not resolve: {error}", target.host))?;
        connect_any(addresses)
            .await
            .ok_or_else(|| format!("{} has no address", target.host))?
    };
    match timeout(PROBE_TIMEOUT, attempt).await {
        Ok(Ok(())) => Probed::Reachable(started.elapsed()),
        Ok(Err(error)) => Probed::Unreachable(error),
        Err(_) => Probed::Unreachable(format!(
            "no answer from {}:{} within {PROBE_TIMEOUT:?}",
            target.host, target.port
        )),
    }
}

/// Connects to all addresses at once; the first connection counts, else the last error. `None` without an address.
async fn connect_any(addresses: Vec<SocketAddr>) -> Option<Result<(), String>> {
    let mut attempts = JoinSet::new();
    for address in addresses.into_iter().take(ADDRESSES) {
        attempts.spawn(async move {
            TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| format!("{address}: {error}"))
        });
    }
    let mut last = None;
    while let Some(attempt) = attempts.join_next().await {
        let attempt = attempt.unwrap_or_else(|error| Err(error.to_string()));
        if attempt.is_ok() {
            return Some(attempt);
        }
        last = Some(attempt);
    }
    last
}

#[cfg(test)]
mod tests;
