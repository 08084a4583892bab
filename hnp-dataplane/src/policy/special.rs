//! Which addresses are special, and which addresses an address stands for.
//!
//! A proxy that dials what it is asked to dial is a way into every network that its host can reach. Addresses that are not
//! plainly of the public Internet are therefore refused unless the operator names their range.
//!
//! Sources: the IANA special-purpose address registries (RFC 6890, kept current by RFC 8190), RFC 1918 (private), RFC 6598
//! (shared, carrier-grade NAT), RFC 3927 (link-local), RFC 5737, 3849 and 9637 (documentation), RFC 2544 and 5180
//! (benchmarking), RFC 5771 and 4291 (multicast), RFC 1112 section 4 (class E), RFC 4193 (unique local), RFC 3879
//! (site-local), RFC 6666 (discard), RFC 9602 (SRv6 identifiers). Whatever IPv6 lies outside `2000::/3`, the only global
//! unicast space that IANA has given out (RFC 4291 section 2.4), counts as reserved.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// `0.0.0.0/8` or `::`: this host, this network.
    Unspecified,
    /// RFC 1918.
    Private,
    /// `fc00::/7`, and the site-local addresses before it.
    UniqueLocal,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `100.64.0.0/10`: between a carrier's NAT and its customers.
    Shared,
    /// Where a cloud hands its machines their credentials.
    Metadata,
    /// For use in texts only.
    Documentation,
    /// For laboratories.
    Benchmarking,
    /// More receivers than one.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// For protocols' own use: `192.0.0.0/24`, `2001::/23`, relays, discard.
    Protocol,
    /// Not assigned to anyone.
    Reserved,
}

impl Special {
    /// Metric label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Special::Private | Special::UniqueLocal => "private_address",
            Special::Loopback => "loopback_address",
            Special::LinkLocal => "link_local_address",
            Special::Shared => "shared_address",
            Special::Metadata => "cloud_metadata",
            _ => "special_address",
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Special::Unspecified => "an unspecified address",
            Special::Private => "a private address",
            Special::UniqueLocal => "a unique local (private) address",
            Special::Loopback => "a loopback address",
            Special::LinkLocal => "a link-local address",
            Special::Shared => "a shared (carrier-grade NAT) address",
            Special::Metadata => "a cloud metadata service",
            Special::Documentation => "a documentation address",
            Special::Benchmarking => "a benchmarking address",
            Special::Multicast => "a multicast address",
            Special::Broadcast => "the broadcast address",
            Special::Protocol => "an address for protocols' own use",
            Special::Reserved => "a reserved address",
        })
    }
}

/// Metadata services: AWS, Google, Azure, OpenStack and others share the first; then AWS (containers, EKS pod identity), Alibaba,
/// Oracle (classic), Azure's wire server, Tencent, Scaleway.
const METADATA_V4: [Ipv4Addr; 8] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(169, 254, 42, 42),
];

/// AWS (metadata, EKS pod identity), Google, OpenStack, Scaleway.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// What is special about `address` itself, embedded addresses not looked for.
#[must_use]
pub fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    if METADATA_V4.contains(&address) {
        return Some(Special::Metadata);
    }
    Some(match address.octets() {
        [0, ..] => Special::Unspecified,
        [10, ..] | [192, 168, ..] => Special::Private,
        [172, b, ..] if b & 0xf0 == 16 => Special::Private,
        [100, b, ..] if b & 0xc0 == 64 => Special::Shared,
        [127, ..] => Special::Loopback,
        [169, 254, ..] => Special::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Special::Documentation,
        // The second is the anycast prefix of 6to4 relays (deprecated, RFC 7526).
        [192, 0, 0, _] | [192, 88, 99, _] => Special::Protocol,
        [198, 18 | 19, ..] => Special::Benchmarking,
        [255, 255, 255, 255] => Special::Broadcast,
        [224..=239, ..] => Special::Multicast,
        [240..=255, ..] => Special::Reserved,
        _ => return None,
    })
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    if METADATA_V6.contains(&address) {
        return Some(Special::Metadata);
    }
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Special::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Special::Loopback,
        [0xff00..=0xffff, ..] => Special::Multicast,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        // fec0::/10 was site-local (RFC 3879).
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Special::UniqueLocal,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Special::Documentation,
        [0x2001, 2, 0, ..] => Special::Benchmarking,
        // Teredo, ORCHID and the rest of the block for IETF protocols; discard-only; SRv6 identifiers.
        [0x2001, 0..=0x1ff, ..] | [0x100, 0, 0, 0, ..] | [0x5f00, ..] => Special::Protocol,
        [0x2000..=0x3fff, ..] => return None,
        _ => Special::Reserved,
    })
}

/// The addresses that decide about an address: itself, or the IPv4 addresses that it carries.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    list: [IpAddr; 4],
    len: usize,
    needed: usize,
}

impl Judged {
    fn of(list: &[IpAddr], needed: usize) -> Judged {
        let mut all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); 4];
        all[..list.len()].copy_from_slice(list);
        Judged {
            list: all,
            len: list.len(),
            needed,
        }
    }

    /// All of them: none may be special unless a rule names it.
    #[must_use]
    pub fn all(&self) -> &[IpAddr] {
        &self.list[..self.len]
    }

    /// Those where packets may end up: for a literal target, each needs an allow rule.
    #[must_use]
    pub fn destinations(&self) -> &[IpAddr] {
        &self.list[..self.needed]
    }
}

/// Which addresses decide about `address`.
///
/// | form | source | decided by |
/// |---|---|---|
/// | `::ffff:a.b.c.d`, `::a.b.c.d`, `::ffff:0:a.b.c.d` | RFC 4291 2.5.5, RFC 2765 2.1 | the IPv4 address |
/// | `64:ff9b::/96` | RFC 6052 2.1 | the IPv4 address |
/// | `64:ff9b:1::/48` | RFC 8215, RFC 6052 2.2 | the last 32 bits; where a longer layout is possible, every layout's address |
/// | `2002::/16` (6to4) | RFC 3056 2 | the IPv4 address of the site |
/// | `2001::/32` (Teredo) | RFC 4380 4 | the client's address, and the server's |
/// | `…:0:5efe:a.b.c.d`, `…:200:5efe:a.b.c.d` (ISATAP) | RFC 5214 6.1 | the whole address, and the IPv4 address |
///
/// An ISATAP address is native IPv6 to a host that has no such interface, so the whole of it counts as well.
#[must_use]
pub fn judged(address: IpAddr) -> Judged {
    let IpAddr::V6(v6) = address else {
        return Judged::of(&[address], 1);
    };
    let o = v6.octets();
    let v4 = |a: usize| IpAddr::from([o[a], o[a + 1], o[a + 2], o[a + 3]]);
    let last = v4(12);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Judged::of(&[address], 1),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Judged::of(&[last], 1),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Judged::of(&[last], 1),
        [0x64, 0xff9b, 1, 0, 0, 0, ..] => Judged::of(&[last], 1),
        [0x64, 0xff9b, 1, ..] => {
            // Octet 8 is skipped by every layout but the last (RFC 6052 section 2.2).
            let slash48 = IpAddr::from([o[6], o[7], o[9], o[10]]);
            let slash56 = IpAddr::from([o[7], o[9], o[10], o[11]]);
            Judged::of(&[last, slash48, slash56, v4(9)], 4)
        }
        [0x2002, _, _, _, 0 | 0x200, 0x5efe, ..] => Judged::of(&[v4(2), last], 1),
        [0x2002, ..] => Judged::of(&[v4(2)], 1),
        [0x2001, 0, ..] => {
            let client = IpAddr::from([!o[12], !o[13], !o[14], !o[15]]);
            Judged::of(&[client, v4(4)], 1)
        }
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Judged::of(&[address, last], 1),
        _ => Judged::of(&[address], 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_and_end_where_the_registries_say() {
        use Special::*;
        let table: &[(&str, Option<Special>)] = &[
            ("0.0.0.0", Some(Unspecified)),
            ("0.255.255.255", Some(Unspecified)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(Shared)),
            ("100.100.100.200", Some(Metadata)),
            ("100.127.255.255", Some(Shared)),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.0.0.0", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("128.0.0.0", None),
            ("168.63.129.16", Some(Metadata)),
            ("168.63.129.17", None),
            ("169.253.255.255", None),
            ("169.254.0.0", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("169.254.255.255", Some(LinkLocal)),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("191.255.255.255", None),
            ("192.0.0.0", Some(Protocol)),
            ("192.0.0.192", Some(Metadata)),
            ("192.0.1.0", None),
            ("192.0.2.1", Some(Documentation)),
            ("192.0.3.0", None),
            ("192.88.98.255", None),
            ("192.88.99.1", Some(Protocol)),
            ("192.167.255.255", None),
            ("192.168.0.0", Some(Private)),
            ("192.168.255.255", Some(Private)),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(Benchmarking)),
            ("198.19.255.255", Some(Benchmarking)),
            ("198.20.0.0", None),
            ("198.51.100.7", Some(Documentation)),
            ("203.0.113.7", Some(Documentation)),
            ("223.255.255.255", None),
            ("224.0.0.0", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.0", Some(Reserved)),
            ("255.255.255.254", Some(Reserved)),
            ("255.255.255.255", Some(Broadcast)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("100::1", Some(Protocol)),
            ("1fff:ffff::", Some(Reserved)),
            ("2000::", None),
            ("2001:1::1", Some(Protocol)),
            ("2001:2::1", Some(Benchmarking)),
            ("2001:20::1", Some(Protocol)),
            ("2001:1ff:ffff::", Some(Protocol)),
            ("2001:200::", None),
            ("2001:db7:ffff::", None),
            ("2001:db8::1", Some(Documentation)),
            ("2001:db9::", None),
            ("2606:4700::1111", None),
            ("3ffe:ffff::", None),
            ("3fff::1", Some(Documentation)),
            ("3fff:fff:ffff::", Some(Documentation)),
            ("3fff:1000::", None),
            ("4000::", Some(Reserved)),
            ("5f00::1", Some(Protocol)),
            ("fbff:ffff::", Some(Reserved)),
            ("fc00::", Some(UniqueLocal)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("fdff:ffff::", Some(UniqueLocal)),
            ("fe00::", Some(Reserved)),
            ("fe80::1", Some(LinkLocal)),
            ("fe80::a9fe:a9fe", Some(Metadata)),
            ("febf:ffff::", Some(LinkLocal)),
            ("fec0::1", Some(UniqueLocal)),
            ("ff02::1", Some(Multicast)),
        ];
        for (address, expected) in table {
            assert_eq!(special(address.parse().unwrap()), *expected, "{address}");
        }
    }

    #[test]
    fn addresses_stand_for_the_ipv4_they_carry() {
        let table: &[(&str, &[&str])] = &[
            ("8.8.8.8", &["8.8.8.8"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"]),
            ("::10.0.0.1", &["10.0.0.1"]),
            ("::ffff:0:10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b::169.254.169.254", &["169.254.169.254"]),
            ("64:ff9b:1::127.0.0.1", &["127.0.0.1"]),
            ("2002:7f00:1::1", &["127.0.0.1"]),
            // RFC 4380's own example of a client behind 192.0.2.45.
            (
                "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                &["192.0.2.45", "65.54.227.120"],
            ),
            (
                "2606:4700::5efe:10.1.2.3",
                &["2606:4700::5efe:10.1.2.3", "10.1.2.3"],
            ),
            (
                "2606:4700::200:5efe:10.1.2.3",
                &["2606:4700::200:5efe:10.1.2.3", "10.1.2.3"],
            ),
            // 169.254.169.254 where a /48 translator would look for it, a harmless address where a /96 one would.
            (
                "64:ff9b:1:a9fe:a9:fe00:808:808",
                &["8.8.8.8", "169.254.169.254", "254.169.254.0", "169.254.0.8"],
            ),
            ("::", &["::"]),
            ("::1", &["::1"]),
            ("2606:4700::1111", &["2606:4700::1111"]),
        ];
        for (address, expected) in table {
            let judged = judged(address.parse().unwrap());
            let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(judged.all(), expected, "{address}");
        }
    }
}
