//! What becomes of a pod's connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hnp_common::{Address, Policy, flags};

use super::RulesId;

/// What is done with a connection that HNP ought to have while it does not listen in the pod, or its heartbeat is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutHnp {
    /// It is made directly: availability first.
    Open,
    /// It is refused: control first.
    Closed,
}

/// The policy of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPolicy {
    /// Which rules hold.
    pub rules: RulesId,
    /// The port on `127.0.0.1`, in the pod's network namespace, where HNP listens.
    pub port4: u16,
    /// The port on `[::1]`, in the pod's network namespace, where HNP listens.
    pub port6: u16,
    /// What `getsockname()` tells applications in place of `127.0.0.1`: the pod's address.
    pub source4: Option<Ipv4Addr>,
    /// What `getsockname()` tells applications in place of `::1`.
    pub source6: Option<Ipv6Addr>,
    /// What happens while HNP is gone.
    pub without_hnp: WithoutHnp,
    /// Whether UDP to port 443 is refused where TCP would be relayed or denied.
    pub deny_quic: bool,
    /// Whether sockets bound to an interface, which cannot reach HNP, are refused; they pass directly otherwise.
    pub deny_bound: bool,
    /// Whether what is refused is reported as an event.
    pub report_refusals: bool,
    /// Whether the end of each direct connection is reported as an event.
    pub report_direct: bool,
    /// Whether what is redirected or passes is reported as an event before it is connected. Waking whoever reads that is most of what
    /// redirection adds to `connect()`.
    pub report_beginnings: bool,
}

impl PodPolicy {
    /// Fails closed, lets QUIC and bound sockets pass, reports nothing.
    #[must_use]
    pub fn new(rules: RulesId, port4: u16, port6: u16) -> Self {
        Self {
            rules,
            port4,
            port6,
            source4: None,
            source6: None,
            without_hnp: WithoutHnp::Closed,
            deny_quic: false,
            deny_bound: false,
            report_refusals: false,
            report_direct: false,
            report_beginnings: false,
        }
    }

    /// As the kernel takes it.
    pub(super) fn encode(&self, pod: u32) -> Policy {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let address = |address: Option<IpAddr>| address.map_or(Address::UNSPECIFIED, Address::from);
        Policy {
            pod,
            rules: self.rules.0,
            flags: flag(self.without_hnp == WithoutHnp::Open, flags::FAIL_OPEN)
                | flag(self.deny_quic, flags::DENY_QUIC)
                | flag(self.deny_bound, flags::DENY_BOUND)
                | flag(self.report_refusals, flags::REPORT_REFUSALS)
                | flag(self.report_direct, flags::REPORT_DIRECT)
                | flag(self.report_beginnings, flags::REPORT_BEGINNINGS),
            port4: self.port4,
            port6: self.port6,
            source4: address(self.source4.map(IpAddr::V4)),
            source6: address(self.source6.map(IpAddr::V6)),
        }
    }
}
