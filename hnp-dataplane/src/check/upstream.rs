//! The way to the manager, taken as `hnp run` takes it: name, connection, parent proxy, TLS, and one request.
//!
//! ```text
//! reach   the steps
//! answer  one request, and what the answer tells
//! words   what a failed step means, and what to do
//! ```

mod answer;
mod reach;
mod words;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use self::reach::Way;
use super::Subject;
use super::report::{Group, Item};
use crate::config::Config;
use crate::config::units::HumanDuration;
use crate::dial::{Dialer, Resolver};
use crate::origin::Origin;
use crate::policy::Engine;
use crate::tls::{Clients, Server};

/// Upstreams that are tried, all at once.
const MOST: usize = 32;
/// The longest that name resolution, and then connecting, may take here. Both and what follows have to fit into [`super::LIMIT`].
const STEP: Duration = Duration::from_secs(4);

/// What an upstream's answer says of the time.
pub(super) struct Told {
    pub(super) part: String,
    /// By its clock: seconds since 1970.
    pub(super) time: i64,
    /// By ours, when the answer came.
    pub(super) here: i64,
}

/// Tries every upstream. Also gives what they say of the time.
pub(super) fn look(subject: &Subject) -> (Vec<Item>, Vec<Told>) {
    let mut group = Group::new("upstream");
    let config = subject.config();
    if config.upstream.is_none() && config.endpoints.is_empty() {
        group.ok(
            "configured",
            "none: only what policy.allow names can be reached",
        );
        return (group.items, Vec::new());
    }
    let config = bounded(config);
    let control = Control::start();
    let ways = match &control {
        Some(control) => ways(&mut group, &config, &control.handle),
        None => {
            group.fail(
                "resolver",
                "cannot start the thread that resolves names",
                "raise the limits on threads and descriptors (ulimit -u, ulimit -n)",
            );
            Vec::new()
        }
    };
    if ways.len() > MOST {
        group.warn(
            "many",
            format!(
                "{} upstreams are configured, and only {MOST} are tried",
                ways.len()
            ),
            "try the others with `curl`",
        );
    }
    let under_way: Vec<_> = ways
        .into_iter()
        .take(MOST)
        .map(|way| thread::spawn(move || reach::reach(way)))
        .collect();
    let mut told = Vec::new();
    for one in under_way {
        match one.join() {
            Ok((items, time)) => {
                group.items.extend(items);
                told.extend(time);
            }
            Err(_) => group.fail(
                "finished",
                "the attempt ended early",
                "this is a bug of HNP, to be reported with what was written to standard error",
            ),
        }
    }
    (group.items, told)
}

/// The same, more impatient.
fn bounded(config: &Config) -> Config {
    let mut config = config.clone();
    for timeout in [&mut config.timeouts.resolve, &mut config.timeouts.connect] {
        *timeout = HumanDuration(timeout.0.min(STEP));
    }
    config
}

/// Everything that `hnp run` makes of its upstreams at the start. What cannot be made is said.
fn ways(group: &mut Group, config: &Config, control: &Handle) -> Vec<Way> {
    let resolver = match Resolver::start(config, control.clone()) {
        Ok(resolver) => resolver,
        Err(error) => {
            let remedy = "correct /etc/resolv.conf, or set dns.servers";
            group.fail("resolver", error.to_string(), remedy);
            return Vec::new();
        }
    };
    let engine = match Engine::compile(config) {
        Ok(engine) => Arc::new(engine),
        Err(error) => {
            group.fail("policy", error.to_string(), "correct the rule");
            return Vec::new();
        }
    };
    let loaded = Clients::compile(config, None).and_then(|clients| {
        let server = Server::compile(config, None)?;
        Ok((clients, server))
    });
    let (clients, server) = match loaded {
        Ok(loaded) => loaded,
        Err(_) => {
            group.fail(
                "tried",
                "not tried, because certificates cannot be loaded",
                "correct what the group `certificates` names first",
            );
            return Vec::new();
        }
    };
    let dialer = match Dialer::new(config, resolver, clients.parent.clone()) {
        Ok(dialer) => Arc::new(dialer),
        Err(error) => {
            let remedy = "correct [upstream.parent] in the configuration";
            group.fail("parent", error.to_string(), remedy);
            return Vec::new();
        }
    };
    let mut ways = Vec::new();
    let mut add = |part: String, url: &url::Url, tls, protocol, certificate: bool| match Origin::new(
        url, tls,
    ) {
        Ok(origin) => ways.push(Way {
            part,
            origin: origin.speaking(protocol),
            certificate,
            dialer: Arc::clone(&dialer),
            engine: Arc::clone(&engine),
        }),
        Err(error) => group.fail(
            "url",
            error.to_string(),
            format!("correct the url of {part}"),
        ),
    };
    if let Some(upstream) = &config.upstream {
        let certificate = upstream.certificate.is_some();
        add(
            "upstream".to_owned(),
            &upstream.url,
            clients.upstream,
            upstream.protocol,
            certificate,
        );
    }
    for endpoint in server.iter().flat_map(|server| server.endpoints()) {
        let Some(index) = endpoint.index else {
            continue;
        };
        let wanted = &config.endpoints[index];
        add(
            format!("upstream of {}", wanted.server_name),
            &wanted.upstream,
            endpoint.upstream.clone(),
            wanted.upstream_protocol,
            wanted.upstream_certificate.is_some(),
        );
    }
    ways
}

/// A thread for look-ups, as `hnp run` has its control thread; it ends with this.
struct Control {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Control {
    fn start() -> Option<Control> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .spawn(move || {
                // An error is what ends it.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .ok()?;
        Some(Control {
            handle,
            _stop: stop,
        })
    }
}
