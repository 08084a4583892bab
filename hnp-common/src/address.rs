//! Addresses of both families in one form.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2), as four words in network byte order:
/// that is how the kernel's contexts hand addresses out, and words need no shifting in the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Address {
    /// The words, the leading one first, each with its bytes in the order of the wire.
    pub words: [u32; 4],
}

/// The third word of every mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// `::`, which stands for "none".
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// The mapped form of an IPv4 address given as a word in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self {
            words: [0, 0, MAPPED, word],
        }
    }

    /// Whether this is an IPv4 address in mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether this is `::`.
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// Whether connecting there leads to the own host: loopback of either family, or an unspecified address, which the
    /// kernel takes for loopback.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(&self) -> bool {
        if self.is_v4() {
            let host = u32::from_be(self.words[3]);
            host >> 24 == 127 || host == 0
        } else {
            self.words[0] | self.words[1] | self.words[2] == 0 && u32::from_be(self.words[3]) <= 1
        }
    }

    /// Whether this is an IPv6 link-local address (`fe80::/10`). It means nothing without an interface, which the hooks do
    /// not get to see.
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local6(&self) -> bool {
        u32::from_be(self.words[0]) >> 22 == 0xfe80 >> 6
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let word = |n: usize| {
            u32::from_ne_bytes([
                octets[4 * n],
                octets[4 * n + 1],
                octets[4 * n + 2],
                octets[4 * n + 3],
            ])
        };
        Self {
            words: [word(0), word(1), word(2), word(3)],
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            return Self::V4(Ipv4Addr::from(u32::from_be(address.words[3])));
        }
        let [a, b, c, d] = address.words.map(|word| u128::from(u32::from_be(word)));
        Self::V6(Ipv6Addr::from(a << 96 | b << 64 | c << 32 | d))
    }
}

const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went_in() {
        for text in ["10.1.2.3", "0.0.0.0", "::", "::1", "2001:db8::1:ff00"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(IpAddr::from(Address::from(mapped)), mapped.to_canonical());
    }

    #[test]
    fn what_never_leaves_the_host_is_known() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(address(text).is_local(), "{text}");
        }
        for text in [
            "126.255.255.255",
            "128.0.0.1",
            "::2",
            "1::",
            "::ffff:10.0.0.1",
            "1::1",
        ] {
            assert!(!address(text).is_local(), "{text}");
        }
        assert!(address("fe80::1").is_link_local6() && address("febf::1").is_link_local6());
        assert!(!address("fec0::1").is_link_local6() && !address("169.254.0.1").is_link_local6());
    }
}
