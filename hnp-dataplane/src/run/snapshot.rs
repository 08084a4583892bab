//! From a configuration to what connections use of it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::dial::{Dialer, Resolver};
use crate::flow::modes::Modes;
use crate::http::head::HeadLimits;
use crate::intercept::Intercepted;
use crate::origin::{Origin, Route};
use crate::policy::Engine;
use crate::policy::auth::Authenticator;
use crate::tls::{Clients, Server};
use crate::worker::Snapshot;

/// Compiles configurations.
pub(crate) struct Compiler {
    control: Handle,
}

impl Compiler {
    /// Look-ups and checks of passwords run on `control`.
    pub(crate) fn new(control: Handle) -> Compiler {
        Compiler { control }
    }

    /// Compiles `config`; what costs to build anew and has not changed is taken from `old`.
    ///
    /// # Errors
    /// What `config` names cannot be used: a file, a rule, a parent proxy.
    pub(crate) fn compile(
        &self,
        config: Config,
        old: Option<&Snapshot>,
    ) -> anyhow::Result<Snapshot> {
        let resolver = match old {
            Some(old)
                if old.config.dns == config.dns
                    && old.config.timeouts.resolve == config.timeouts.resolve =>
            {
                old.resolver.clone()
            }
            _ => Resolver::start(&config, self.control.clone())?,
        };
        let policy = Engine::compile(&config).context("policy")?;
        let auth = Authenticator::load(&config.auth)?;
        let clients = Clients::compile(&config, old.map(|old| &old.clients))?;
        let tls = Server::compile(&config, old.and_then(|old| old.tls.as_deref()))?;
        let intercepted = config.intercept.as_ref().map(Intercepted::compile);
        let intercepted = intercepted.transpose()?;
        let routes = Routes::new(&config, &clients, tls.as_deref(), old)?;
        Ok(Snapshot {
            auth,
            dialer: Dialer::new(&config, resolver.clone(), clients.parent.clone())?,
            modes: Modes::from(&*config.modes),
            route: routes.listener,
            endpoints: routes.endpoints,
            tls,
            clients,
            resolver,
            head: HeadLimits::from(&config.limits),
            upstream: policy.upstream().cloned(),
            intercepted,
            parent: parent_name(&config).map(Arc::from),
            policy,
            config,
        })
    }
}

/// What becomes of requests for the manager.
struct Routes {
    listener: Option<Arc<Route>>,
    endpoints: HashMap<Box<str>, Arc<Route>>,
}

impl Routes {
    fn new(
        config: &Config,
        clients: &Clients,
        tls: Option<&Server>,
        old: Option<&Snapshot>,
    ) -> anyhow::Result<Routes> {
        let kept = |origin: Origin| {
            let old = old.iter();
            origin.kept(old.flat_map(|old| old.routes().map(|route| &route.origin)))
        };
        let settings = &config.reverse_proxy;
        let route = |origin, prefix: &str, server_name| {
            Arc::new(Route {
                origin: kept(origin),
                prefix: prefix.trim_end_matches('/').into(),
                server_name,
                forwarded_headers: settings.forwarded_headers,
                client_certificate_header: settings.client_certificate_header,
            })
        };
        let mut routes = Routes {
            listener: None,
            endpoints: HashMap::new(),
        };
        if let Some(upstream) = &config.upstream {
            let origin =
                Origin::new(&upstream.url, clients.upstream.clone()).context("upstream.url")?;
            let origin = origin.speaking(upstream.protocol);
            let prefix = settings.prefix.as_deref().unwrap_or_default();
            routes.listener = Some(route(origin, prefix, None));
        }
        for endpoint in tls.iter().flat_map(|tls| tls.endpoints()) {
            let (Some(name), Some(index)) = (&endpoint.name, endpoint.index) else {
                continue;
            };
            let wanted = &config.endpoints[index];
            let client = endpoint.upstream.clone();
            let origin = Origin::new(&wanted.upstream, client)
                .with_context(|| format!("upstream of endpoint {name}"))?
                .speaking(wanted.upstream_protocol);
            let route = route(origin, &endpoint.prefix, Some(name.clone()));
            routes.endpoints.insert(name.clone(), route);
        }
        Ok(routes)
    }
}

/// `host:port` of the parent proxy, for the log.
fn parent_name(config: &Config) -> Option<String> {
    let parent = &config.upstream.as_ref()?.parent.as_ref()?.url;
    Some(format!(
        "{}:{}",
        parent.host_str()?,
        parent.port_or_known_default()?
    ))
}
