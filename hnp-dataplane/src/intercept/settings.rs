//! What a configuration says of interception, compiled.

use std::sync::Arc;
use std::time::Duration;

use super::{RuleError, Rules};
use crate::config::model::{Failure, Intercept, UpstreamNamespace};
use crate::redirect::WithoutHnp;

/// What connections need of it: part of a snapshot.
#[derive(Debug, Clone)]
pub struct Intercepted {
    /// Which connection gets which action.
    pub rules: Arc<Rules>,
    /// Where relayed connections leave from.
    pub upstream_namespace: UpstreamNamespace,
    /// How long a client may be silent before it is decided without a name.
    pub detect_timeout: Duration,
}

impl Intercepted {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// As [`Rules::compile`].
    pub fn compile(config: &Intercept) -> Result<Intercepted, RuleError> {
        Ok(Intercepted {
            rules: Arc::new(Rules::compile(config)?),
            upstream_namespace: config.upstream_namespace,
            detect_timeout: config.detect_timeout.0,
        })
    }
}

/// What the kernel's programs are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which connection gets which action.
    pub rules: Arc<Rules>,
    /// What happens while HNP is away.
    pub without_hnp: WithoutHnp,
    /// Whether QUIC is refused.
    pub deny_quic: bool,
    /// Whether sockets bound to an interface are refused.
    pub deny_bound: bool,
    /// Whether the kernel reports what it refuses and what has ended even if nobody observes: for the access log.
    pub report: bool,
}

impl Settings {
    /// Of a configuration, with its compiled rules.
    #[must_use]
    pub fn new(config: &Intercept, rules: Arc<Rules>, report: bool) -> Settings {
        Settings {
            rules,
            without_hnp: match config.failure {
                Failure::Open => WithoutHnp::Open,
                Failure::Closed => WithoutHnp::Closed,
            },
            deny_quic: config.deny_quic,
            deny_bound: config.deny_bound,
            report,
        }
    }
}
