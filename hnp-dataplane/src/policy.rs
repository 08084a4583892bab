//! Who may reach what, and why.
//!
//! The policy fails closed: with no rule only the configured upstream can be reached. Two questions are asked of the
//! [`Engine`], and both must be answered with yes:
//!
//! 1. [`check_target`](Engine::check_target), before resolution: may this client ask for this name, or literal address, on
//!    this port?
//! 2. [`check_address`](Engine::check_address), on the very address that is about to be dialled: does the name not lead
//!    where the client may not go? There is no second resolution between the answer and the connection.
//!
//! What the rules mean:
//! * A deny rule wins over everything, the upstream included. In `deny`, `*` covers literal addresses too, and a literal host
//!   also covers the names that resolve to it.
//! * A name is allowed by `hosts`. Its addresses are then dialled unless they are [special](special::special): such an
//!   address needs an allow rule whose `cidrs` contain it.
//! * A name that no rule allows is resolved if some allow rule has `cidrs` for this port, and dialled only where its address
//!   lies within them. Not through a parent proxy: there HNP never sees the address.
//! * A literal address needs an allow rule whose `cidrs` contain it, or that names it among `hosts`.
//! * The upstream, exactly its host and port, is allowed wherever it is, as the operator named it; a cloud metadata
//!   service only if the url is that literal address or a CIDR names it.
//! * An address that carries an IPv4 address is judged by that: see [`special::judged`].
//! * In mode `report` everything passes, and [`Decision::reported`] says that it would not have.

pub mod auth;
pub mod limits;
mod rules;
pub mod special;

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

pub(crate) use self::rules::Pattern;
use self::rules::{List, Match, RuleSet};
use self::special::{Special, judged, special};
use crate::config::model::{Config, PolicyMode};
use crate::dial::no_proxy::{NoProxy, NoProxyError};
use crate::target::{Host, Target};

/// The compiled policy: immutable, shared by all workers.
#[derive(Debug)]
pub struct Engine {
    report: bool,
    allow: RuleSet,
    deny: RuleSet,
    upstream: Option<Target>,
    /// With a parent proxy, what does not go through it.
    direct: Option<NoProxy>,
}

fn of_pod(decision: Decision) -> Decision {
    match decision.reason {
        Reason::Upstream => Decision {
            reason: Reason::PodNetwork,
            ..decision
        },
        _ => decision,
    }
}

fn matched(found: Match) -> Option<u32> {
    match found {
        Match::Rule(rule) => Some(rule),
        _ => None,
    }
}

/// Who asks: up to two names, of which a rule may match either. A user of proxy credentials, a client certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a>([Option<&'a str>; 2]);

impl<'a> Who<'a> {
    /// Somebody who is known by any of two names.
    #[must_use]
    pub fn either(user: Option<&'a str>, certificate: Option<&'a str>) -> Who<'a> {
        Who([user, certificate])
    }

    fn is(self, name: &str) -> bool {
        self.0.contains(&Some(name))
    }
}

impl<'a> From<Option<&'a str>> for Who<'a> {
    fn from(name: Option<&'a str>) -> Who<'a> {
        Who([name, None])
    }
}

/// What happens, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the connection goes on.
    pub allowed: bool,
    /// It goes on only because the mode is `report`.
    pub reported: bool,
    /// What decided; with `reported`, what would have refused.
    pub reason: Reason,
}

/// What decided. Rules count from 1, in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is the configured upstream.
    Upstream,
    /// An allow rule names it.
    Allowed {
        /// Of `policy.allow`.
        rule: u32,
    },
    /// No rule allows the name, but a rule allows networks on this port: the address decides.
    AddressDecides,
    /// The address is of the public Internet, and its name was allowed.
    PublicAddress,
    /// It leaves from a pod's own network, as it would without HNP, and no deny rule names it.
    PodNetwork,
    /// A deny rule names the host.
    DeniedHost {
        /// Of `policy.deny`.
        rule: u32,
    },
    /// A deny rule's network contains the address.
    DeniedAddress {
        /// Of `policy.deny`.
        rule: u32,
        /// The address, or the IPv4 address that it carries.
        address: IpAddr,
    },
    /// No allow rule names the host.
    NotAllowed,
    /// Allow rules name the host, on other ports only.
    PortNotAllowed {
        /// The port asked for.
        port: u16,
    },
    /// Allow rules name the host, for other identities only.
    IdentityNotAllowed,
    /// The host looks like an address in a form that programs read differently (`127.1`, `0x7f000001`).
    AmbiguousHost,
    /// The address is not of the public Internet, and no allow rule's network names it.
    SpecialAddress {
        /// The address, or the IPv4 address that it carries.
        address: IpAddr,
        /// What it is.
        kind: Special,
    },
}

/// A rule that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{list} rule {rule}{}: {problem}", Quoted(.entry))]
pub struct PolicyError {
    list: &'static str,
    rule: usize,
    entry: String,
    problem: String,
}

impl PolicyError {
    /// The dotted key of what cannot be compiled: `policy.allow[0]`.
    #[must_use]
    pub fn key(&self) -> String {
        match self.rule.checked_sub(1) {
            Some(index) => format!("{}[{index}]", self.list),
            None => self.list.to_owned(),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ", `{}`", self.0)
        }
    }
}

impl From<NoProxyError> for PolicyError {
    fn from(error: NoProxyError) -> Self {
        PolicyError {
            list: "upstream.parent",
            rule: 0,
            entry: String::new(),
            problem: error.to_string(),
        }
    }
}

impl Engine {
    /// Compiles `policy`, `upstream` and its parent's no-proxy list.
    ///
    /// # Errors
    /// The first rule that names no target or has a host or CIDR that cannot mean what it says.
    pub fn compile(config: &Config) -> Result<Engine, PolicyError> {
        let parent = config
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.parent.as_ref());
        Ok(Engine {
            report: config.policy.mode == PolicyMode::Report,
            allow: RuleSet::compile(List::Allow, &config.policy.allow)?,
            deny: RuleSet::compile(List::Deny, &config.policy.deny)?,
            upstream: config
                .upstream
                .as_ref()
                .and_then(|upstream| target_of(&upstream.url)),
            direct: parent
                .map(|parent| NoProxy::compile(&parent.no_proxy))
                .transpose()?,
        })
    }

    /// The configured upstream.
    #[must_use]
    pub fn upstream(&self) -> Option<&Target> {
        self.upstream.as_ref()
    }

    /// Before resolution: names, ports, identities and literal addresses.
    #[must_use]
    pub fn check_target<'a>(&self, target: &Target, who: impl Into<Who<'a>>) -> Decision {
        self.decide(self.target(target, who.into()))
    }

    /// The address to be dialled for `target`, which [`check_target`](Engine::check_target) has let pass.
    ///
    /// For a target that it would have refused this refuses as well, unless a CIDR allows the address.
    #[must_use]
    pub fn check_address<'a>(
        &self,
        target: &Target,
        address: IpAddr,
        who: impl Into<Who<'a>>,
    ) -> Decision {
        self.decide(self.address(target, address, who.into()))
    }

    /// Whether requests may go to `target`, which the operator has named as a manager: unless a deny rule says no.
    #[must_use]
    pub fn check_origin<'a>(&self, target: &Target, who: impl Into<Who<'a>>) -> Decision {
        let who = who.into();
        let refused = match &target.host {
            Host::Address(address) => self.denied(target, *address, who),
            Host::Name(_) => {
                let rule = self.deny.host(&target.host, target.port, who);
                matched(rule).map(|rule| Reason::DeniedHost { rule })
            }
        };
        self.decide(refused.map_or(Ok(Reason::Upstream), Err))
    }

    /// As [`Engine::check_address`], of a manager that the operator has named.
    #[must_use]
    pub fn check_origin_address<'a>(
        &self,
        target: &Target,
        address: IpAddr,
        who: impl Into<Who<'a>>,
    ) -> Decision {
        let refused = self.denied(target, address, who.into());
        self.decide(refused.map_or(Ok(Reason::Upstream), Err))
    }

    /// Whether a pod's connection may go to `target` from the pod's own network, which HNP lends no reach: unless a deny rule says no.
    #[must_use]
    pub fn check_pod<'a>(&self, target: &Target, who: impl Into<Who<'a>>) -> Decision {
        of_pod(self.check_origin(target, who))
    }

    /// As [`Engine::check_address`], of a pod's connection from its own network.
    #[must_use]
    pub fn check_pod_address<'a>(
        &self,
        target: &Target,
        address: IpAddr,
        who: impl Into<Who<'a>>,
    ) -> Decision {
        of_pod(self.check_origin_address(target, address, who))
    }

    /// The deny rule that covers an address, or one that it carries.
    fn denied(&self, target: &Target, address: IpAddr, who: Who<'_>) -> Option<Reason> {
        let judged = judged(address);
        judged.all().iter().chain([&address]).find_map(|address| {
            let rule = matched(self.deny.address(*address, target.port, who))?;
            Some(Reason::DeniedAddress {
                rule,
                address: *address,
            })
        })
    }

    fn decide(&self, verdict: Result<Reason, Reason>) -> Decision {
        match verdict {
            Ok(reason) => Decision {
                allowed: true,
                reported: false,
                reason,
            },
            Err(reason) => Decision {
                allowed: self.report,
                reported: self.report,
                reason,
            },
        }
    }

    fn target(&self, target: &Target, who: Who<'_>) -> Result<Reason, Reason> {
        let name = match &target.host {
            Host::Address(address) => return self.address(target, *address, who),
            Host::Name(name) => name,
        };
        self.name(target, name, who)?;
        if self.is_upstream(target) {
            return Ok(Reason::Upstream);
        }
        match self.allow.host(&target.host, target.port, who) {
            Match::Rule(rule) => Ok(Reason::Allowed { rule }),
            _ if self.sees_address_of(&target.host) && self.allow.any_network(target.port, who) => {
                Ok(Reason::AddressDecides)
            }
            other => Err(not_allowed(other, target.port)),
        }
    }

    /// What refuses a name whatever its address.
    fn name(&self, target: &Target, name: &str, who: Who<'_>) -> Result<(), Reason> {
        if let Match::Rule(rule) = self.deny.host(&target.host, target.port, who) {
            return Err(Reason::DeniedHost { rule });
        }
        if looks_numeric(name) && !self.is_upstream(target) {
            return Err(Reason::AmbiguousHost);
        }
        Ok(())
    }

    fn address(&self, target: &Target, address: IpAddr, who: Who<'_>) -> Result<Reason, Reason> {
        if let Some(refused) = self.denied(target, address, who) {
            return Err(refused);
        }
        let judged = judged(address);
        if let Host::Name(name) = &target.host {
            self.name(target, name, who)?;
        }

        let by_network = |address: &IpAddr| self.allow.address(*address, target.port, who);
        if self.is_upstream(target) {
            let unnamed_metadata = |address: &&IpAddr| {
                special(**address) == Some(Special::Metadata)
                    && !matches!(by_network(address), Match::Rule(_))
            };
            return match (&target.host, judged.all().iter().find(unnamed_metadata)) {
                (Host::Name(_), Some(address)) => Err(Reason::SpecialAddress {
                    address: *address,
                    kind: Special::Metadata,
                }),
                _ => Ok(Reason::Upstream),
            };
        }

        // The name, or the literal itself, may be what is allowed; else every place where packets may end up must lie in
        // an allowed network.
        let by_host = self.allow.host(&target.host, target.port, who);
        let least = judged
            .destinations()
            .iter()
            .map(by_network)
            .min()
            .unwrap_or(Match::None);
        match (by_host, least) {
            (_, Match::Rule(_)) | (Match::Rule(_), _) => {}
            (host, network) => {
                let nearest = host.max(network);
                // "Not allowed" would send the reader to look for a missing rule where the address is the point.
                return Err(match (nearest, special(judged.all()[0])) {
                    (Match::None, Some(kind)) => Reason::SpecialAddress {
                        address: judged.all()[0],
                        kind,
                    },
                    _ => not_allowed(nearest, target.port),
                });
            }
        }
        let exact = matches!((&target.host, by_host), (Host::Address(_), Match::Rule(_)));
        for address in judged.all() {
            if let Some(kind) = special(*address)
                && !exact
                && !matches!(by_network(address), Match::Rule(_))
            {
                return Err(Reason::SpecialAddress {
                    address: *address,
                    kind,
                });
            }
        }
        Ok(match (least, by_host, &target.host) {
            (Match::Rule(rule), ..) => Reason::Allowed { rule },
            (_, Match::Rule(rule), Host::Address(_)) => Reason::Allowed { rule },
            _ => Reason::PublicAddress,
        })
    }

    fn is_upstream(&self, target: &Target) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| {
            upstream.port == target.port
                && match (&upstream.host, &target.host) {
                    (Host::Address(a), Host::Address(b)) => a.to_canonical() == b.to_canonical(),
                    (a, b) => a == b,
                }
        })
    }

    /// Whether HNP resolves and dials `host` itself.
    fn sees_address_of(&self, host: &Host) -> bool {
        self.direct
            .as_ref()
            .is_none_or(|direct| direct.matches(host))
    }
}

fn not_allowed(nearest: Match, port: u16) -> Reason {
    match nearest {
        Match::Port => Reason::PortNotAllowed { port },
        Match::Identity => Reason::IdentityNotAllowed,
        Match::None | Match::Rule(_) => Reason::NotAllowed,
    }
}

/// Whether URL parsers would read `name` as an IPv4 address: the last label is a number (WHATWG URL, "ends in a number").
fn looks_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

/// Host and port of a url; none if it has no host or its scheme no port.
fn target_of(url: &url::Url) -> Option<Target> {
    let host = match url.host()? {
        url::Host::Domain(name) => Host::Name(
            name.strip_suffix('.')
                .unwrap_or(name)
                .to_ascii_lowercase()
                .into(),
        ),
        url::Host::Ipv4(address) => Host::Address(address.into()),
        url::Host::Ipv6(address) => Host::Address(address.into()),
    };
    Some(Target {
        host,
        port: url.port_or_known_default()?,
    })
}

impl Reason {
    /// Metric label: snake case, few.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Reason::Upstream => "upstream",
            Reason::Allowed { .. } => "allow_rule",
            Reason::AddressDecides => "address_decides",
            Reason::PublicAddress => "public_address",
            Reason::PodNetwork => "pod_network",
            Reason::DeniedHost { .. } | Reason::DeniedAddress { .. } => "deny_rule",
            Reason::NotAllowed => "not_allowed",
            Reason::PortNotAllowed { .. } => "port_not_allowed",
            Reason::IdentityNotAllowed => "identity_not_allowed",
            Reason::AmbiguousHost => "ambiguous_host",
            Reason::SpecialAddress { kind, .. } => kind.code(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Upstream => f.write_str("it is the configured upstream"),
            Reason::Allowed { rule } => write!(f, "policy.allow rule {rule} allows it"),
            Reason::AddressDecides => {
                f.write_str("its address decides, by the networks that policy.allow names")
            }
            Reason::PublicAddress => {
                f.write_str("policy.allow names its host, and its address is public")
            }
            Reason::PodNetwork => f.write_str(
                "it leaves from the pod's own network, and no rule of policy.deny names it",
            ),
            Reason::DeniedHost { rule } => write!(f, "policy.deny rule {rule} names it"),
            Reason::DeniedAddress { rule, address } => {
                write!(f, "policy.deny rule {rule} covers the address {address}")
            }
            Reason::NotAllowed => f.write_str("no rule of policy.allow names it"),
            Reason::PortNotAllowed { port } => {
                write!(f, "policy.allow names it, but not port {port}")
            }
            Reason::IdentityNotAllowed => {
                f.write_str("policy.allow names it for other identities only")
            }
            Reason::AmbiguousHost => f.write_str("its host is an ambiguous form of an address"),
            Reason::SpecialAddress { address, kind } => {
                write!(
                    f,
                    "{address} is {kind}, and no cidrs of policy.allow contain it"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
