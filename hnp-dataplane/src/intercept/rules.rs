//! Which connection gets which action.
//!
//! The list is evaluated twice. The kernel sees address and port: for it a rule with names is a `relay` of its ports, whatever
//! the address, so that the first rule that *could* match decides there as it would here. User space has the name as well, and
//! goes through the whole list again.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use thiserror::Error;

use crate::config::model::{Intercept, InterceptAction, InterceptRule};
use crate::config::units::PortRange;
use crate::policy::Pattern;
use crate::redirect::{Action, CompiledRules, Rule, RulesError};

/// A configuration's rules, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Compiled>,
    bypass_cidrs: Vec<IpNet>,
    bypass_ports: Vec<PortRange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Compiled {
    names: Vec<Pattern>,
    networks: Vec<IpNet>,
    ports: Vec<PortRange>,
    action: InterceptAction,
}

/// What is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub action: InterceptAction,
    /// The rule that says so, from 1; 0 where none matched.
    pub rule: u32,
    /// Whether the name made the rule match, so that the name has to be true.
    pub by_name: bool,
}

/// The kernel's part of the rules, and what its numbers mean.
#[derive(Debug, Clone)]
pub struct KernelRules {
    /// For the kernel.
    pub compiled: CompiledRules,
    /// By the number that the kernel gives a rule, less one: the rule of the configuration, from 1; 0 for what HNP added.
    numbers: Vec<u32>,
}

impl KernelRules {
    /// The rule of the configuration that the kernel calls `number`; 0 for none.
    #[must_use]
    pub fn number(&self, number: u32) -> u32 {
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        index
            .and_then(|index| self.numbers.get(index))
            .copied()
            .unwrap_or(0)
    }
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// A host that is none.
    #[error("intercept rule {rule}, `{host}`: {problem}")]
    Host {
        /// Which rule, from 1.
        rule: usize,
        /// As written.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// What the kernel cannot hold.
    #[error("the interception rules: {0}")]
    Kernel(String),
}

impl RuleError {
    /// The dotted key of what is wrong.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            RuleError::Host { rule, .. } => format!("intercept.rules[{}].hosts", rule - 1),
            RuleError::Kernel(_) => "intercept.rules".to_owned(),
        }
    }
}

impl From<RulesError> for RuleError {
    fn from(error: RulesError) -> RuleError {
        RuleError::Kernel(error.to_string())
    }
}

impl Rules {
    /// Compiles the rules of a configuration.
    ///
    /// # Errors
    /// A host that is none, or more pieces of the port range than the kernel's programs go through.
    pub fn compile(config: &Intercept) -> Result<Rules, RuleError> {
        let rules = (1..).zip(&config.rules);
        let rules = Rules {
            rules: rules
                .map(|(number, rule)| Compiled::new(number, rule))
                .collect::<Result<_, _>>()?,
            bypass_cidrs: config.bypass_cidrs.clone(),
            bypass_ports: config.bypass_ports.clone(),
        };
        rules.kernel(&[])?;
        Ok(rules)
    }

    /// What the kernel has to know, for a pod with these addresses of its own.
    ///
    /// # Errors
    /// More pieces of the port range than the kernel's programs go through.
    pub fn kernel(&self, own: &[IpAddr]) -> Result<KernelRules, RuleError> {
        let mut rules = Vec::new();
        let mut numbers = Vec::new();
        let mut add = |network: Option<IpNet>, ports: &[PortRange], action, number| {
            rules.push(Rule {
                network,
                ports: ports.iter().map(range).collect(),
                action,
            });
            numbers.push(number);
        };
        let bypassed = own.iter().map(|address| IpNet::from(*address));
        for network in bypassed.chain(self.bypass_cidrs.iter().copied()) {
            add(Some(network), &[], Action::Bypass, 0);
        }
        if !self.bypass_ports.is_empty() {
            add(None, &self.bypass_ports, Action::Bypass, 0);
        }
        for (number, rule) in (1..).zip(&self.rules) {
            let action = match rule.action {
                InterceptAction::Direct => Action::Direct,
                InterceptAction::Deny => Action::Deny,
                InterceptAction::Relay | InterceptAction::Tunnel | InterceptAction::Mtls => {
                    Action::Relay
                }
            };
            for network in &rule.networks {
                add(Some(*network), &rule.ports, action, number);
            }
            if !rule.names.is_empty() {
                add(None, &rule.ports, Action::Relay, number);
            } else if rule.is_about_everything() {
                add(None, &rule.ports, action, number);
            }
        }
        Ok(KernelRules {
            compiled: CompiledRules::compile(&rules, Action::Relay)?,
            numbers,
        })
    }

    /// Whether the name decides: some rule with `hosts` could match before one that matches without a name.
    #[must_use]
    pub fn needs_name(&self, destination: SocketAddr) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.is_on(destination.port()))
            .map_while(|rule| (!rule.matches(destination.ip())).then_some(rule))
            .any(|rule| !rule.names.is_empty())
    }

    /// What is done with a connection to `destination` that asks for `name`, if that is known.
    #[must_use]
    pub fn decide(&self, destination: SocketAddr, name: Option<&str>) -> Verdict {
        let numbered = (1..).zip(&self.rules);
        for (rule, one) in numbered.filter(|(_, one)| one.is_on(destination.port())) {
            let by_address = one.matches(destination.ip());
            let by_name =
                || name.is_some_and(|name| one.names.iter().any(|pattern| pattern.names(name)));
            if by_address || by_name() {
                return Verdict {
                    action: one.action,
                    rule,
                    by_name: !by_address,
                };
            }
        }
        Verdict {
            action: InterceptAction::Relay,
            rule: 0,
            by_name: false,
        }
    }
}

impl Compiled {
    fn new(number: usize, rule: &InterceptRule) -> Result<Compiled, RuleError> {
        let mut networks = rule.cidrs.clone();
        let mut names = Vec::new();
        for host in &rule.hosts {
            match Pattern::parse(host) {
                // No name is ever an address: whoever writes one means the destination.
                Ok(Pattern::Literal(address)) => networks.push(address.into()),
                Ok(pattern) => names.push(pattern),
                Err(problem) => {
                    return Err(RuleError::Host {
                        rule: number,
                        host: host.clone(),
                        problem,
                    });
                }
            }
        }
        Ok(Compiled {
            names,
            networks,
            ports: rule.ports.clone(),
            action: rule.action,
        })
    }

    fn is_on(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|range| range.contains(port))
    }

    fn is_about_everything(&self) -> bool {
        self.names.is_empty() && self.networks.is_empty()
    }

    /// Whether it matches without a name.
    fn matches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_about_everything()
            || self
                .networks
                .iter()
                .any(|network| canonical(network).contains(&address))
    }
}

/// An IPv4 network, where it is written as one mapped into IPv6.
fn canonical(network: &IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new_assert(v4, v6.prefix_len() - 96).into(),
            None => *network,
        },
        _ => *network,
    }
}

fn range(range: &PortRange) -> RangeInclusive<u16> {
    range.first..=range.last
}

#[cfg(test)]
mod tests;
