//! The ABI between HNP's eBPF programs and its user-space half: the names of programs and maps, and the layout of what
//! the maps hold.
//!
//! Both sides are built from this one crate, so they agree on names; that they agree on layout is asserted below. No type here
//! has padding: the kernel compares map keys byte for byte, and the verifier refuses to copy bytes nobody wrote.

#![cfg_attr(not(test), no_std)]

mod address;
mod event;
mod policy;
#[cfg(feature = "user")]
mod user;

pub use self::{
    address::Address,
    event::{COUNTERS_LEN, Counter, Counters, Event, EventKind},
    policy::{Action, MAX_SEGMENTS, Policy, RuleKey, Segment, Segments, Settings, flags},
};

/// The version of everything below. Maps that were pinned by another version are not taken over.
pub const ABI: u32 = 1;

/// Decides about a `connect()` to an IPv4 address; attached as `cgroup/connect4`.
pub const CONNECT4: &str = "hnp_connect4";
/// Decides about a `connect()` to an IPv6 address; attached as `cgroup/connect6`.
pub const CONNECT6: &str = "hnp_connect6";
/// Tells a captured IPv4 socket whom it believes to talk to; attached as `cgroup/getpeername4`.
pub const GETPEERNAME4: &str = "hnp_getpeername4";
/// The same for IPv6; attached as `cgroup/getpeername6`.
pub const GETPEERNAME6: &str = "hnp_getpeername6";
/// Tells a captured IPv4 socket the pod's address; attached as `cgroup/getsockname4`.
pub const GETSOCKNAME4: &str = "hnp_getsockname4";
/// The same for IPv6; attached as `cgroup/getsockname6`.
pub const GETSOCKNAME6: &str = "hnp_getsockname6";
/// Refuses QUIC to IPv4 addresses where a policy says so; attached as `cgroup/sendmsg4`.
pub const SENDMSG4: &str = "hnp_sendmsg4";
/// The same for IPv6; attached as `cgroup/sendmsg6`.
pub const SENDMSG6: &str = "hnp_sendmsg6";
/// Publishes original destinations and accounts for direct connections; attached as `sock_ops`.
pub const SOCK_OPS: &str = "hnp_sock_ops";

/// Cgroup storage: the [`Policy`] of the cgroup that a program is attached to.
pub const POLICIES: &str = "POLICIES";
/// LPM trie from [`RuleKey`] to [`Segments`].
pub const RULES: &str = "RULES";
/// How many prefixes [`RULES`] holds, of all policies together.
pub const RULES_CAPACITY: u32 = 65_536;
/// Socket-local storage: the [`Capture`] of a socket.
pub const SOCKETS: &str = "SOCKETS";
/// LRU hash map from [`DestinationKey`] to [`Destination`].
pub const DESTINATIONS: &str = "DESTINATIONS";
/// How many connections may wait for `accept()` at once, on a whole node, before the oldest is forgotten.
pub const DESTINATIONS_CAPACITY: u32 = 131_072;
/// Per-CPU hash map from a pod's number to its [`Counters`].
pub const COUNTERS: &str = "COUNTERS";
/// How many pods [`COUNTERS`] holds: a node runs 110 by default, a few hundred at most.
pub const COUNTERS_CAPACITY: u32 = 2048;
/// One [`Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// The ring buffer of [`Event`]s.
pub const EVENTS: &str = "EVENTS";
/// Size of [`EVENTS`] in bytes; a power of two, and pages.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// The constant that the loader sets in the programs: a [`Build`].
pub const BUILD: &str = "HNP_BUILD";
/// The section that holds nothing but [`BUILD`]. It becomes a map of the kernel's, which stays with the programs: by it, HNP tells
/// whose programs are attached. That holds for programs of any [`ABI`], so its name and layout never change.
pub const BUILD_SECTION: &str = ".rodata.hnp";

/// What the loader tells the programs, for good; the verifier knows the values, too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Whether the kernel has `bpf_set_retval` (Linux 5.18): 0 or 1.
    pub has_set_retval: u8,
    /// Which build of HNP loaded them, in ASCII, ended by a zero byte.
    pub version: [u8; 63],
}

/// By what HNP, having accepted a connection, finds out where it was meant to go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestinationKey {
    /// The network namespace's cookie (`SO_NETNS_COOKIE`): two pods may use one source address.
    pub netns: u64,
    /// The source address.
    pub address: Address,
    /// The source port.
    pub port: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Where a connection was meant to go, and who made it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// When `connect()` was called, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The address that `connect()` was given.
    pub address: Address,
    /// The port that `connect()` was given.
    pub port: u32,
    /// The number of the pod: [`Policy::pod`].
    pub pod: u32,
    /// Which rule decided: [`Segment::rule`].
    pub rule: u32,
    /// The process that called `connect()`, as the host numbers it.
    pub pid: u32,
    /// The name of its thread, ended by a zero byte.
    pub comm: [u8; 16],
}

/// What a socket carries along from `connect()` on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Where it was meant to go.
    pub destination: Destination,
    /// The address `getsockname()` answers in place of a loopback address; unspecified leaves the answer as it is.
    pub source: Address,
    /// [`Action::Relay`] or [`Action::Direct`], as a number.
    pub action: u32,
    /// The policy's [`flags`].
    pub flags: u32,
    /// Zero until the connection's end was reported; and which of the ends were seen, for the byte counts.
    pub progress: u32,
    /// The port of HNP's listener that it was rewritten to; 0 for [`Action::Direct`].
    pub listener: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Build>() == 64 && offset_of!(Build, version) == 1);
    assert!(size_of::<DestinationKey>() == 32 && align_of::<DestinationKey>() == 8);
    assert!(offset_of!(DestinationKey, address) == 8 && offset_of!(DestinationKey, port) == 24);
    assert!(size_of::<Destination>() == 56 && align_of::<Destination>() == 8);
    assert!(offset_of!(Destination, port) == 24 && offset_of!(Destination, comm) == 40);
    assert!(size_of::<Capture>() == 88 && align_of::<Capture>() == 8);
    assert!(offset_of!(Capture, source) == 56 && offset_of!(Capture, action) == 72);
};
