//! One list of rules, compiled: a look-up costs as many hash probes as a name has labels, or as the list has prefix lengths.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{PolicyError, Who};
use crate::config::model::Rule;
use crate::config::units::PortRange;
use crate::target::Host;

/// Which list of the configuration a rule stands in; they differ in what `*` and a literal host mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Allow,
    Deny,
}

impl List {
    pub(super) fn name(self) -> &'static str {
        match self {
            List::Allow => "policy.allow",
            List::Deny => "policy.deny",
        }
    }
}

/// How near a rule of the list came to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// No rule names it.
    None,
    /// A rule names it, on other ports.
    Port,
    /// A rule names it on this port, for other identities.
    Identity,
    /// The rule with this number (from 1) is for it.
    Rule(u32),
}

#[derive(Debug)]
struct Scope {
    ports: Vec<PortRange>,
    identities: Vec<Box<str>>,
}

/// A compiled list.
#[derive(Debug, Default)]
pub(super) struct RuleSet {
    scopes: Vec<Scope>,
    names: HashMap<Box<str>, Vec<u32>>,
    /// What stands after `*.`.
    suffixes: HashMap<Box<str>, Vec<u32>>,
    any_name: Vec<u32>,
    /// Literal addresses among `hosts`: they name that very target, not the address that some name resolves to.
    literals: HashMap<IpAddr, Vec<u32>>,
    networks: Networks,
    /// Rules with `cidrs`.
    with_networks: Vec<u32>,
}

impl RuleSet {
    pub(super) fn compile(list: List, rules: &[Rule]) -> Result<RuleSet, PolicyError> {
        let mut set = RuleSet::default();
        for (index, rule) in rules.iter().enumerate() {
            let id = u32::try_from(index).unwrap_or(u32::MAX);
            let error = |entry: &str, problem: String| PolicyError {
                list: list.name(),
                rule: index + 1,
                entry: entry.to_owned(),
                problem,
            };
            if rule.hosts.is_empty() && rule.cidrs.is_empty() {
                let problem = "it names no target: add `hosts = [\"*\"]`, or `cidrs = [\"0.0.0.0/0\", \"::/0\"]`";
                return Err(error("", problem.to_owned()));
            }
            set.scopes.push(Scope {
                ports: rule.ports.clone(),
                identities: rule
                    .identities
                    .iter()
                    .map(|name| name.as_str().into())
                    .collect(),
            });
            for host in &rule.hosts {
                match Pattern::parse(host).map_err(|problem| error(host, problem))? {
                    Pattern::Any => {
                        set.any_name.push(id);
                        if list == List::Deny {
                            // "Refuse everything" must not leave literal addresses open.
                            set.networks.insert(IpNet::V4(Ipv4Net::default()), id);
                            set.networks
                                .insert(IpNet::V6(ipnet::Ipv6Net::default()), id);
                        }
                    }
                    Pattern::Below(suffix) => set.suffixes.entry(suffix).or_default().push(id),
                    Pattern::Name(name) => set.names.entry(name).or_default().push(id),
                    Pattern::Literal(address) if list == List::Deny => {
                        set.networks.insert(address.into(), id)
                    }
                    Pattern::Literal(address) => set.literals.entry(address).or_default().push(id),
                }
            }
            for cidr in &rule.cidrs {
                let network = canonical(*cidr);
                if let (List::Allow, Some(embedding)) = (list, embedding(network)) {
                    let problem = format!(
                        "addresses in {embedding} are judged by the IPv4 address they carry: name that IPv4 range instead"
                    );
                    return Err(error(&cidr.to_string(), problem));
                }
                set.networks.insert(network, id);
            }
            if !rule.cidrs.is_empty() {
                set.with_networks.push(id);
            }
        }
        Ok(set)
    }

    /// The best match of the target's host as it was asked for: its name, or its literal address.
    pub(super) fn host(&self, host: &Host, port: u16, who: Who<'_>) -> Match {
        match host {
            Host::Name(name) => self.name(name, port, who),
            Host::Address(address) => match self.literals.get(&address.to_canonical()) {
                Some(ids) => self.best(ids, port, who),
                None => Match::None,
            },
        }
    }

    fn name(&self, name: &str, port: u16, who: Who<'_>) -> Match {
        let exact = self
            .names
            .get(name)
            .map_or(Match::None, |ids| self.best(ids, port, who));
        let mut best = exact.max(self.best(&self.any_name, port, who));
        if self.suffixes.is_empty() {
            return best;
        }
        let mut rest = name;
        while let Some((label, suffix)) = rest.split_once('.') {
            // `.example.com` has an empty label, and no host.
            if let (false, Some(ids)) = (label.is_empty(), self.suffixes.get(suffix)) {
                best = best.max(self.best(ids, port, who));
            }
            rest = suffix;
        }
        best
    }

    /// The best match of an address with the rules' CIDRs.
    pub(super) fn address(&self, address: IpAddr, port: u16, who: Who<'_>) -> Match {
        let mut best = Match::None;
        self.networks
            .each(address, |ids| best = best.max(self.best(ids, port, who)));
        best
    }

    /// Whether some CIDR could allow an address on this port to this identity.
    pub(super) fn any_network(&self, port: u16, who: Who<'_>) -> bool {
        matches!(self.best(&self.with_networks, port, who), Match::Rule(_))
    }

    fn best(&self, ids: &[u32], port: u16, who: Who<'_>) -> Match {
        let near = |id: &u32| {
            let scope = &self.scopes[*id as usize];
            if !scope.ports.is_empty() && !scope.ports.iter().any(|range| range.contains(port)) {
                Match::Port
            } else if scope.identities.is_empty()
                || scope.identities.iter().any(|name| who.is(name))
            {
                Match::Rule(id + 1)
            } else {
                Match::Identity
            }
        };
        ids.iter().map(near).max().unwrap_or(Match::None)
    }
}

/// Prefixes by length, so that a look-up is one probe per length in use.
#[derive(Debug, Default)]
struct Networks {
    v4: Vec<(u8, HashMap<u32, Vec<u32>>)>,
    v6: Vec<(u8, HashMap<u128, Vec<u32>>)>,
}

impl Networks {
    fn insert(&mut self, network: IpNet, id: u32) {
        fn of_length<K>(
            all: &mut Vec<(u8, HashMap<K, Vec<u32>>)>,
            length: u8,
        ) -> &mut HashMap<K, Vec<u32>> {
            let at = all
                .iter()
                .position(|(l, _)| *l == length)
                .unwrap_or_else(|| {
                    all.push((length, HashMap::new()));
                    all.len() - 1
                });
            &mut all[at].1
        }
        match network {
            IpNet::V4(net) => {
                of_length(&mut self.v4, net.prefix_len())
                    .entry(net.network().to_bits())
                    .or_default()
                    .push(id);
            }
            IpNet::V6(net) => {
                of_length(&mut self.v6, net.prefix_len())
                    .entry(net.network().to_bits())
                    .or_default()
                    .push(id);
            }
        }
    }

    fn each(&self, address: IpAddr, mut found: impl FnMut(&[u32])) {
        match address {
            IpAddr::V4(v4) => {
                for (length, table) in &self.v4 {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    if let Some(ids) = table.get(&(v4.to_bits() & mask)) {
                        found(ids);
                    }
                }
            }
            IpAddr::V6(v6) => {
                for (length, table) in &self.v6 {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                    if let Some(ids) = table.get(&(v6.to_bits() & mask)) {
                        found(ids);
                    }
                }
            }
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`, as a mapped address is the IPv4 address.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(net) = network
        && net.prefix_len() >= 96
        && let Some(v4) = net.network().to_ipv4_mapped()
        && let Ok(net) = Ipv4Net::new(v4, net.prefix_len() - 96)
    {
        return IpNet::V4(net.trunc());
    }
    network.trunc()
}

/// The range of translated or tunnelled IPv4 that holds the whole of `network`, if one does.
fn embedding(network: IpNet) -> Option<&'static str> {
    const RANGES: [(&str, Ipv6Addr, u8); 4] = [
        (
            "64:ff9b::/96",
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0),
            96,
        ),
        (
            "64:ff9b:1::/48",
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0),
            48,
        ),
        ("2002::/16", Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
        ("2001::/32", Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    ];
    let IpNet::V6(net) = network else { return None };
    let inside = |base: Ipv6Addr, length: u8| {
        let mask = u128::MAX << (128 - u32::from(length));
        net.prefix_len() >= length && net.network().to_bits() & mask == base.to_bits()
    };
    RANGES
        .iter()
        .find(|(_, base, length)| inside(*base, *length))
        .map(|(name, ..)| *name)
}

/// What a host of a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Every name.
    Any,
    /// Names that end in this, a dot before it.
    Below(Box<str>),
    /// This name.
    Name(Box<str>),
    /// No name, but this address.
    Literal(IpAddr),
}

impl Pattern {
    /// Whether it names `host`, which is in the form of targets: lower case, no trailing dot.
    pub(crate) fn names(&self, host: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Name(name) => **name == *host,
            Pattern::Below(suffix) => host
                .strip_suffix(&**suffix)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
            Pattern::Literal(_) => false,
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text == "*" {
            return Ok(Pattern::Any);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Pattern::Literal(address.to_canonical()));
        }
        if text.contains("://") {
            return Err(
                "a host has no scheme: write the name alone, and its port in `ports`".to_owned(),
            );
        }
        if text.parse::<IpNet>().is_ok() {
            return Err("a network belongs in `cidrs`".to_owned());
        }
        if text.contains(':') {
            return Err("a host has no port: write the port in `ports`".to_owned());
        }
        if let Some(domain) = text.strip_prefix('.') {
            return Err(format!(
                "a name has no leading dot: write `*.{domain}` for the names below `{domain}`"
            ));
        }
        match text.strip_prefix("*.") {
            Some(suffix) => name(suffix).map(Pattern::Below),
            None => name(text).map(Pattern::Name),
        }
    }
}

/// A name as targets have it: lower case, no trailing dot, internationalised labels as `xn--`.
fn name(text: &str) -> Result<Box<str>, String> {
    let problem = || {
        "it is not a name: write `app.example.com`, `*.example.com`, `*` or an address".to_owned()
    };
    let ascii = match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) => name,
        _ => return Err(problem()),
    };
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.split('.').any(str::is_empty) || !name.bytes().all(plain) {
        return Err(problem());
    }
    Ok(name.into())
}
