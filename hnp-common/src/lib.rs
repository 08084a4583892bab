//! The ABI between HNP's eBPF programs and its user-space half: the names of programs and maps, and the layout of what
//! the maps hold.
//!
//! Both sides are built from this one crate, so they agree on names; that they agree on layout is asserted below. No type here
//! has padding: the kernel compares map keys byte for byte, and the verifier refuses to copy bytes nobody wrote.

#![cfg_attr(not(test), no_std)]

/// Counts `connect()` calls to IPv4 addresses; attached as `cgroup/connect4`.
pub const CONNECT4: &str = "hnp_connect4";

/// Counts `connect()` calls to IPv6 addresses; attached as `cgroup/connect6`.
pub const CONNECT6: &str = "hnp_connect6";

/// The per-CPU hash map from [`ConnectKey`] to a `u64` count.
pub const CONNECTS: &str = "CONNECTS";

/// How many keys [`CONNECTS`] holds: a few protocols in two families, and room for exotic ones.
pub const CONNECTS_CAPACITY: u32 = 64;

/// What `connect()` calls are counted by: the socket's family and protocol, as `struct bpf_sock_addr` gives them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectKey {
    /// `AF_INET` or `AF_INET6`. A dual-stack socket is `AF_INET6`, even where it connects to a v4-mapped address.
    pub family: u32,
    /// `IPPROTO_TCP`, `IPPROTO_UDP`, …
    pub protocol: u32,
}

const _: () = {
    assert!(size_of::<ConnectKey>() == 8);
    assert!(align_of::<ConnectKey>() == 4);
    assert!(core::mem::offset_of!(ConnectKey, family) == 0);
    assert!(core::mem::offset_of!(ConnectKey, protocol) == 4);
};

#[cfg(feature = "user")]
#[allow(
    unsafe_code,
    reason = "promises a layout, which the assertions above check"
)]
mod user {
    // SAFETY: `repr(C)`, integers only, no padding: every bit pattern of its size is a value.
    unsafe impl aya::Pod for super::ConnectKey {}
}
