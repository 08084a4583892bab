//! Transparent interception.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::units::{HumanDuration, PortRange};

/// Transparent interception: what becomes of the connections of pods that HNP is attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Intercept {
    /// What a pod's connections do while HNP is away.
    pub failure: Failure,
    /// What is done with which connection; the first that matches decides, with no match it is relayed.
    pub rules: Vec<InterceptRule>,
    /// Destinations that are none of HNP's business.
    pub bypass_cidrs: Vec<IpNet>,
    /// Ports that are none of HNP's business.
    pub bypass_ports: Vec<PortRange>,
    /// Refuse QUIC (UDP to port 443) where TCP would be relayed or denied.
    pub deny_quic: bool,
    /// Refuse connections of sockets bound to an interface, which cannot reach HNP.
    pub deny_bound: bool,
    /// Where relayed connections leave from.
    pub upstream_namespace: UpstreamNamespace,
    /// How long a client may be silent before a connection that a name could decide is decided without one.
    pub detect_timeout: HumanDuration,
    /// The control socket.
    pub control: PathBuf,
    /// Where eBPF programs and maps are pinned, so that they outlive HNP.
    pub pins: PathBuf,
}

/// What a pod's connections do while HNP is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// They are made directly.
    #[default]
    Open,
    /// They are refused.
    Closed,
}

/// Where relayed connections leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamNamespace {
    /// The pod's network namespace: its address, its network policies.
    #[default]
    Pod,
    /// HNP's own, which is the host's.
    Host,
}

/// One rule. It matches a destination that `hosts` or `cidrs` name (every one when both are empty), on one of `ports` (all when empty).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InterceptRule {
    /// Names, from SNI or `Host`; a leading `*.` matches one or more labels, `*` alone every name.
    pub hosts: Vec<String>,
    /// Networks.
    pub cidrs: Vec<IpNet>,
    /// Ports and `"from-to"` ranges.
    pub ports: Vec<PortRange>,
    /// What is done.
    pub action: InterceptAction,
}

/// What is done with a pod's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterceptAction {
    /// It passes through HNP to where it was meant to go.
    #[default]
    Relay,
    /// It goes through the parent proxy, by CONNECT.
    Tunnel,
    /// Its plaintext HTTP is served by the manager, over TLS with HNP's client certificate.
    Mtls,
    /// It is made directly and never leaves the kernel.
    Direct,
    /// It is refused.
    Deny,
}

impl InterceptAction {
    /// As in the configuration, the log line and the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            InterceptAction::Relay => "relay",
            InterceptAction::Tunnel => "tunnel",
            InterceptAction::Mtls => "mtls",
            InterceptAction::Direct => "direct",
            InterceptAction::Deny => "deny",
        }
    }
}

impl Default for Intercept {
    fn default() -> Self {
        Intercept {
            failure: Failure::default(),
            rules: Vec::new(),
            bypass_cidrs: Vec::new(),
            bypass_ports: Vec::new(),
            deny_quic: false,
            deny_bound: false,
            upstream_namespace: UpstreamNamespace::default(),
            detect_timeout: HumanDuration(Duration::from_secs(1)),
            control: PathBuf::from("/run/hnp/control.sock"),
            pins: PathBuf::from("/sys/fs/bpf/hnp"),
        }
    }
}
