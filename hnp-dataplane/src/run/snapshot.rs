//! From a configuration to what connections use of it.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::dial::{Dialer, Resolver};
use crate::http::head::HeadLimits;
use crate::policy::Engine;
use crate::policy::auth::Authenticator;
use crate::worker::Snapshot;

/// Compiles configurations.
pub(super) struct Compiler {
    control: Handle,
}

impl Compiler {
    /// Look-ups and checks of passwords run on `control`.
    pub(super) fn new(control: Handle) -> Compiler {
        Compiler { control }
    }

    /// Compiles `config`; what costs to build anew and has not changed is taken from `old`.
    ///
    /// # Errors
    /// What `config` names cannot be used: a file, a rule, a parent proxy.
    pub(super) fn compile(
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
        Ok(Snapshot {
            auth,
            dialer: Dialer::new(&config, resolver.clone())?,
            resolver,
            head: HeadLimits::from(&config.limits),
            upstream: policy.upstream().cloned(),
            parent: parent_name(&config).map(Arc::from),
            policy,
            config,
        })
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
