//! What the programs tell: counters and events.

use super::Address;

/// What is counted for each pod. The number is the place in [`Counters`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections redirected to HNP.
    Relayed = 0,
    /// Connections that pass by a rule.
    Direct = 1,
    /// Connections that are none of HNP's business: loopback, own addresses, configured ones.
    Bypassed = 2,
    /// Connections refused by a rule.
    Denied = 3,
    /// Datagrams or connected UDP sockets to port 443 refused.
    QuicDenied = 4,
    /// Connections that passed because HNP does not listen.
    FailedOpen = 5,
    /// Connections refused because HNP does not listen.
    FailedClosed = 6,
    /// Connections of sockets bound to an interface, passed or refused.
    Bound = 7,
    /// Connections that could not be captured for want of kernel memory; treated as if HNP did not listen.
    NoMemory = 8,
    /// Original destinations that could not be stored. HNP closes such a connection.
    NotPublished = 9,
    /// Events that found the ring buffer full.
    EventsLost = 10,
    /// Connections for which no rule was loaded; treated as if HNP did not listen.
    NoRules = 11,
}

/// How many places [`Counters`] has; more than are used.
pub const COUNTERS_LEN: usize = 16;

/// One pod's counters on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// By [`Counter`].
    pub values: [u64; COUNTERS_LEN],
}

/// What an [`Event`] tells.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A connection is redirected to HNP.
    Relayed = 1,
    /// A connection passes by a rule.
    Direct = 2,
    /// A connection was refused by a rule.
    Denied = 3,
    /// QUIC was refused.
    QuicDenied = 4,
    /// A connection passes because HNP does not listen, or cannot have it.
    FailedOpen = 5,
    /// A connection was refused because HNP does not listen, or cannot have it.
    FailedClosed = 6,
    /// A direct connection was made and has ended.
    Closed = 7,
    /// A direct connection was not made: refused by the peer, unreachable, timed out.
    NotMade = 8,
}

impl EventKind {
    /// The kind of this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Relayed,
            2 => Self::Direct,
            3 => Self::Denied,
            4 => Self::QuicDenied,
            5 => Self::FailedOpen,
            6 => Self::FailedClosed,
            7 => Self::Closed,
            8 => Self::NotMade,
            _ => return None,
        })
    }
}

/// An entry of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// From `connect()` to the end, in nanoseconds; only at an end.
    pub duration: u64,
    /// Bytes that the peer acknowledged; only at an end.
    pub sent: u64,
    /// Bytes received; only at an end.
    pub received: u64,
    /// The network namespace's cookie.
    pub netns: u64,
    /// The source address; unspecified where it is not yet chosen.
    pub source: Address,
    /// The destination, as the application gave it.
    pub destination: Address,
    /// The source port; 0 where it is not yet chosen.
    pub source_port: u16,
    /// The destination's port.
    pub destination_port: u16,
    /// The pod's number.
    pub pod: u32,
    /// The rule's number.
    pub rule: u32,
    /// The process that called `connect()`.
    pub pid: u32,
    /// An [`EventKind`], as a number.
    pub kind: u32,
    /// Always zero.
    pub reserved: u32,
    /// The name of its thread, ended by a zero byte.
    pub comm: [u8; 16],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Counters>() == 8 * COUNTERS_LEN);
    assert!(size_of::<Event>() == 112 && align_of::<Event>() == 8);
    assert!(offset_of!(Event, source) == 40 && offset_of!(Event, source_port) == 72);
    assert!(offset_of!(Event, pod) == 76 && offset_of!(Event, comm) == 96);
};
