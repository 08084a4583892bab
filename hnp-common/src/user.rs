//! Lets aya copy these types to and from the kernel.
#![allow(
    unsafe_code,
    reason = "promises a layout, which the assertions beside each type check"
)]

use super::{
    Address, Build, Capture, Counters, Destination, DestinationKey, Event, Policy, RuleKey,
    Segments, Settings,
};

// SAFETY: `repr(C)`, integers only, no padding: every bit pattern of its size is a value.
unsafe impl aya::Pod for Address {}
// SAFETY: as above.
unsafe impl aya::Pod for Build {}
// SAFETY: as above.
unsafe impl aya::Pod for DestinationKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Destination {}
// SAFETY: as above.
unsafe impl aya::Pod for Capture {}
// SAFETY: as above.
unsafe impl aya::Pod for Policy {}
// SAFETY: as above.
unsafe impl aya::Pod for RuleKey {}
// SAFETY: as above; an action is a plain byte there.
unsafe impl aya::Pod for Segments {}
// SAFETY: as above.
unsafe impl aya::Pod for Settings {}
// SAFETY: as above.
unsafe impl aya::Pod for Counters {}
// SAFETY: as above; the kind is a plain number there.
unsafe impl aya::Pod for Event {}
