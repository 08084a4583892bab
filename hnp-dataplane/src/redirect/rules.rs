//! A pod's rules, compiled for the kernel.
//!
//! People write an ordered list in which the first rule that matches decides. The kernel finds the *longest prefix* of an address.
//! Both agree because each prefix carries the verdict of the whole list: an address whose longest prefix is P lies in P and in
//! every prefix around P, and in no other of the list. So the list, restricted to those, is all that can match, and what is left
//! of it is a question of the port: segments of the port range, in order.

use std::{collections::BTreeSet, net::Ipv6Addr, ops::RangeInclusive};

use hnp_common::{Action, Address, MAX_SEGMENTS, Segment, Segments};
use ipnet::{IpNet, Ipv6Net};
use thiserror::Error;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The destinations it is about; `None` is every address of both families. A v4-mapped IPv6 network is an IPv4 network.
    pub network: Option<IpNet>,
    /// The ports it is about; empty is every port.
    pub ports: Vec<RangeInclusive<u16>>,
    /// What is done.
    pub action: Action,
}

/// Why rules cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RulesError {
    /// The kernel's programs look through a bounded list.
    #[error(
        "the rules for {network} cut the ports into {segments} pieces, and {MAX_SEGMENTS} are possible: \
         join port ranges, or give fewer"
    )]
    TooManyPorts {
        /// The network whose addresses they are about.
        network: Ipv6Net,
        /// How many pieces there are.
        segments: usize,
    },
    /// A range that ends before it begins.
    #[error("the port range {first}-{last} ends before it begins")]
    EmptyRange {
        /// Where it begins.
        first: u16,
        /// Where it ends.
        last: u16,
    },
}

/// Rules as the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledRules {
    /// Prefix and what holds for it.
    pub(super) prefixes: Vec<(Ipv6Net, Segments)>,
}

/// IPv4 within IPv6: `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

impl CompiledRules {
    /// Compiles rules of which the first that matches decides, and `default` where none does.
    ///
    /// # Errors
    /// When a port range is empty, or one network needs more than 32 pieces of the port range.
    pub fn compile(rules: &[Rule], default: Action) -> Result<Self, RulesError> {
        for range in rules.iter().flat_map(|rule| &rule.ports) {
            if range.is_empty() {
                return Err(RulesError::EmptyRange {
                    first: *range.start(),
                    last: *range.end(),
                });
            }
        }
        let families = [whole_v6(), whole_v4()];
        let networks: BTreeSet<Ipv6Net> = rules
            .iter()
            .filter_map(|rule| rule.network.map(mapped))
            .chain(families)
            .collect();
        let prefixes = networks
            .into_iter()
            .map(|network| Ok((network, segments(network, rules, default)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self { prefixes })
    }
}

/// What holds for the addresses of `network` that lie in no smaller network of the list.
fn segments(network: Ipv6Net, rules: &[Rule], default: Action) -> Result<Segments, RulesError> {
    let relevant: Vec<(u32, &Rule)> = (1..)
        .zip(rules)
        .filter(|(_, rule)| {
            rule.network.is_none_or(|net| {
                let around = mapped(net);
                // `::/0` contains the mapped addresses by number, but nobody who writes it means IPv4.
                is_v4(&around) == is_v4(&network) && around.contains(&network)
            })
        })
        .collect();
    let decide = |port: u16| {
        relevant
            .iter()
            .find(|(_, rule)| {
                rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(&port))
            })
            .map_or((default, 0), |(number, rule)| (rule.action, *number))
    };
    // The verdict can change only where some range begins, or just behind one.
    let bounds: BTreeSet<u16> = relevant
        .iter()
        .flat_map(|(_, rule)| &rule.ports)
        .flat_map(|range| [Some(*range.start()), range.end().checked_add(1)])
        .flatten()
        .chain([0])
        .collect();
    let mut pieces: Vec<Segment> = Vec::new();
    for first in bounds {
        let (action, rule) = decide(first);
        let piece = Segment {
            first,
            action: action as u8,
            reserved: 0,
            rule,
        };
        if pieces
            .last()
            .is_none_or(|last| (last.action, last.rule) != (piece.action, piece.rule))
        {
            pieces.push(piece);
        }
    }
    if pieces.len() > MAX_SEGMENTS {
        return Err(RulesError::TooManyPorts {
            network,
            segments: pieces.len(),
        });
    }
    let mut items = [Segment::default(); MAX_SEGMENTS];
    items[..pieces.len()].copy_from_slice(&pieces);
    Ok(Segments {
        len: pieces.len() as u32,
        reserved: 0,
        items,
    })
}

/// In the one form that the kernel's trie knows, host bits zero.
fn mapped(network: IpNet) -> Ipv6Net {
    let (address, bits) = match network {
        IpNet::V4(v4) => (v4.network().to_ipv6_mapped(), MAPPED_BITS + v4.prefix_len()),
        IpNet::V6(v6) => (v6.network(), v6.prefix_len()),
    };
    Ipv6Net::new_assert(address, bits)
}

fn is_v4(network: &Ipv6Net) -> bool {
    network.prefix_len() >= MAPPED_BITS
        && Address::from(std::net::IpAddr::V6(network.network())).is_v4()
}

fn whole_v4() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), MAPPED_BITS)
}

fn whole_v6() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_rule_decides_though_a_later_one_has_the_longer_prefix() {
        let rules = [
            rule("10.0.0.0/8", &[443..=443], Action::Deny),
            rule("10.1.0.0/16", &[], Action::Direct),
            rule("10.1.2.3/32", &[443..=443], Action::Relay),
        ];
        let compiled = CompiledRules::compile(&rules, Action::Relay).unwrap();
        assert_eq!(kernel(&compiled, "10.1.2.3", 443), (Action::Deny, 1));
        assert_eq!(kernel(&compiled, "10.1.2.3", 80), (Action::Direct, 2));
        assert_eq!(kernel(&compiled, "10.9.9.9", 80), (Action::Relay, 0));
        assert_eq!(kernel(&compiled, "2001:db8::1", 443), (Action::Relay, 0));
    }

    #[test]
    fn all_of_ipv6_does_not_mean_ipv4() {
        let rules = [rule("::/0", &[], Action::Deny)];
        let compiled = CompiledRules::compile(&rules, Action::Relay).unwrap();
        assert_eq!(kernel(&compiled, "192.0.2.1", 80), (Action::Relay, 0));
        assert_eq!(kernel(&compiled, "2001:db8::1", 80), (Action::Deny, 1));
    }

    #[test]
    fn what_the_kernel_cannot_hold_is_refused() {
        let ports: Vec<_> = (0..40).map(|n| n * 2..=n * 2).collect();
        let refused =
            CompiledRules::compile(&[rule("10.0.0.0/8", &ports, Action::Deny)], Action::Relay);
        assert!(matches!(refused, Err(RulesError::TooManyPorts { .. })));
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        let backwards = [rule("10.0.0.0/8", &[9..=1], Action::Deny)];
        assert_eq!(
            CompiledRules::compile(&backwards, Action::Relay),
            Err(RulesError::EmptyRange { first: 9, last: 1 })
        );
    }

    proptest! {
        #[test]
        fn longest_prefix_agrees_with_first_match(
            rules in prop::collection::vec(any_rule(), 0..10),
            addresses in prop::collection::vec(any_address(), 1..20),
            port in 0..12_u16,
        ) {
            let compiled = CompiledRules::compile(&rules, Action::Relay).unwrap();
            for address in addresses {
                let first = rules.iter().zip(1..).find(|(rule, _)| {
                    rule.network.is_none_or(|network| network.contains(&address))
                        && (rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(&port)))
                });
                let expected = first.map_or((Action::Relay, 0), |(rule, number)| (rule.action, number));
                prop_assert_eq!(kernel(&compiled, &address.to_string(), port), expected, "{}", address);
            }
        }
    }

    fn rule(network: &str, ports: &[RangeInclusive<u16>], action: Action) -> Rule {
        Rule {
            network: Some(network.parse().unwrap()),
            ports: ports.to_vec(),
            action,
        }
    }

    /// What the kernel does: the longest prefix, then the last segment that begins at or before the port.
    fn kernel(compiled: &CompiledRules, address: &str, port: u16) -> (Action, u32) {
        let address = match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let (_, segments) = compiled
            .prefixes
            .iter()
            .filter(|(network, _)| network.contains(&address))
            .max_by_key(|(network, _)| network.prefix_len())
            .unwrap();
        let segment = segments.items[..segments.len as usize]
            .iter()
            .rfind(|segment| segment.first <= port)
            .unwrap();
        (Action::from_number(segment.action).unwrap(), segment.rule)
    }

    /// Few bits, so that networks nest and overlap.
    fn any_address() -> impl Strategy<Value = IpAddr> {
        (any::<bool>(), 0..4_u8, 0..4_u8).prop_map(|(v4, a, b)| {
            if v4 {
                IpAddr::from([10, a, 0, b])
            } else {
                IpAddr::from([0x2001, u16::from(a), 0, 0, 0, 0, 0, u16::from(b)])
            }
        })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let network = (any_address(), 0..=128_u8).prop_map(|(address, bits)| {
            let bits = if address.is_ipv4() { bits / 4 } else { bits };
            IpNet::new(address, bits).unwrap().trunc()
        });
        let range = (0..12_u16, 0..4_u16).prop_map(|(first, more)| first..=first + more);
        let action = prop::sample::select(vec![
            Action::Bypass,
            Action::Direct,
            Action::Relay,
            Action::Deny,
        ]);
        (
            prop::option::of(network),
            prop::collection::vec(range, 0..3),
            action,
        )
            .prop_map(|(network, ports, action)| Rule {
                network,
                ports,
                action,
            })
    }
}
