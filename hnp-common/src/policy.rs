//! What the programs are told: a pod's policy, its rules, and what holds for all.

use super::Address;

/// The policy of one pod: what the programs attached to its cgroup do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// The pod's number, from 1. Zero is "no policy", as freshly attached programs find it: everything passes.
    pub pod: u32,
    /// The number of its rule set: [`RuleKey::rules`]. Several pods may share one.
    pub rules: u32,
    /// Of [`flags`].
    pub flags: u32,
    /// Where HNP listens on `127.0.0.1` in the pod's network namespace.
    pub port4: u16,
    /// Where HNP listens on `[::1]` in the pod's network namespace.
    pub port6: u16,
    /// What `getsockname()` answers on a captured IPv4 socket, mapped; unspecified leaves the answer.
    pub source4: Address,
    /// What `getsockname()` answers on a captured IPv6 socket; unspecified leaves the answer.
    pub source6: Address,
}

/// The bits of [`Policy::flags`].
pub mod flags {
    /// Where nobody listens, or HNP's heartbeat is old: connect directly. Without it: refuse.
    pub const FAIL_OPEN: u32 = 1;
    /// Refuse UDP to port 443 where TCP would be relayed or denied.
    pub const DENY_QUIC: u32 = 1 << 1;
    /// Refuse connections of sockets bound to an interface: they cannot reach the loopback interface. Without it: let them
    /// pass directly.
    pub const DENY_BOUND: u32 = 1 << 2;
    /// Report what is refused.
    pub const REPORT_REFUSALS: u32 = 1 << 3;
    /// Report each direct connection when it ends.
    pub const REPORT_DIRECT: u32 = 1 << 4;
    /// Report what is not refused before it is connected, which `connect()` has to wait for.
    pub const REPORT_BEGINNINGS: u32 = 1 << 5;
}

/// What is done with a connection. The numbers are part of the ABI.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It is none of HNP's business: it passes, and only a counter knows.
    Bypass = 1,
    /// It passes as it is and is observed.
    Direct = 2,
    /// It is redirected to HNP.
    Relay = 3,
    /// `connect()` fails.
    Deny = 4,
}

impl Action {
    /// The action of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Bypass),
            2 => Some(Self::Direct),
            3 => Some(Self::Relay),
            4 => Some(Self::Deny),
            _ => None,
        }
    }
}

/// A key of the rules' LPM trie, behind the trie's own prefix length, which counts the bits of both fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleKey {
    /// The number of the rule set; always matched as a whole.
    pub rules: u32,
    /// The prefix, the rest zero.
    pub address: Address,
}

/// How many [`Segment`]s a prefix may have: each is a step of a loop in the kernel.
pub const MAX_SEGMENTS: usize = 32;

/// The ports from `first` to the one before the next segment's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment {
    /// The first port.
    pub first: u16,
    /// An [`Action`], as a number.
    pub action: u8,
    /// Always zero.
    pub reserved: u8,
    /// The number of the rule that decides, for reports: from 1 in the order in which rules were given; 0 is the default.
    pub rule: u32,
}

/// What holds for all ports of one prefix. The first segment begins at port 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// How many are used, at least 1.
    pub len: u32,
    /// Always zero.
    pub reserved: u32,
    /// In the order of ports.
    pub items: [Segment; MAX_SEGMENTS],
}

/// What holds for all pods.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// When HNP last said that it is alive, in nanoseconds of `CLOCK_MONOTONIC`.
    pub heartbeat: u64,
    /// After how many nanoseconds without a heartbeat HNP counts as gone, though it listens; 0 is never.
    pub stale_after: u64,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Policy>() == 48 && align_of::<Policy>() == 4);
    assert!(offset_of!(Policy, port4) == 12 && offset_of!(Policy, source4) == 16);
    assert!(size_of::<RuleKey>() == 20 && align_of::<RuleKey>() == 4);
    assert!(size_of::<Segment>() == 8 && offset_of!(Segment, rule) == 4);
    assert!(size_of::<Segments>() == 8 + 8 * MAX_SEGMENTS && offset_of!(Segments, items) == 8);
    assert!(size_of::<Settings>() == 16 && align_of::<Settings>() == 8);
};
