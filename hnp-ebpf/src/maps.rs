//! The maps that the hooks share with each other and with user space.

#![allow(
    deprecated,
    reason = "what replaces cgroup storage (6.2) is found by the task's cgroup, not by the one a program is attached to"
)]

use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, CgroupStorage, LpmTrie, LruHashMap, PerCpuHashMap, RingBuf},
};
use hnp_common::{
    Build, COUNTERS_CAPACITY, Capture, Counter, Counters, DESTINATIONS_CAPACITY, Destination,
    DestinationKey, EVENTS_BYTES, Policy, RULES_CAPACITY, RuleKey, Segments, Settings,
};

/// The policy of the cgroup that the running program is attached to. The kernel finds it by the attachment itself: no
/// lookup, and no way to find another's.
#[map]
static POLICIES: CgroupStorage<Policy> = CgroupStorage::new();

#[map]
pub(crate) static RULES: LpmTrie<RuleKey, Segments> = LpmTrie::with_max_entries(RULES_CAPACITY, 0);

/// Freed by the kernel together with the socket.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<Capture> = SkStorage::new();

#[map]
pub(crate) static DESTINATIONS: LruHashMap<DestinationKey, Destination> =
    LruHashMap::with_max_entries(DESTINATIONS_CAPACITY, 0);

/// Per CPU, so that counting needs no atomic operation; user space adds up. Made and removed by user space.
#[map]
static COUNTERS: PerCpuHashMap<u32, Counters> =
    PerCpuHashMap::with_max_entries(COUNTERS_CAPACITY, 0);

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Set by the loader. The verifier knows its value, so that where a helper is not there the call to it is never looked at. The
/// section's name is [`hnp_common::BUILD_SECTION`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.hnp")]
static HNP_BUILD: Build = Build {
    has_set_retval: 0,
    version: [0; 63],
};

/// The policy, if the cgroup has one.
#[inline(always)]
pub(crate) fn policy() -> Option<&'static Policy> {
    // SAFETY: the helper never returns null, and the storage lives as long as the program runs: user space replaces it as
    // a whole, and the kernel frees the old one after a grace period.
    let policy = unsafe { &*POLICIES.get_ptr_mut().cast_const() };
    (policy.pod != 0).then_some(policy)
}

#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    let settings = SETTINGS.get_ptr(0)?;
    // SAFETY: an array's elements live as long as the map; two words, each read as a whole.
    Some(unsafe { &*settings })
}

#[inline(always)]
pub(crate) fn has_set_retval() -> bool {
    // SAFETY: a static of this object. Volatile, as the compiler would take the value above for the last word. (aya's `Global`
    // has a type whose BTF the kernel refuses.)
    unsafe { (&raw const HNP_BUILD.has_set_retval).read_volatile() != 0 }
}

/// Counts one. A pod without counters loses the count, and nothing else.
#[inline(always)]
pub(crate) fn count(pod: u32, counter: Counter) {
    if let Some(counters) = COUNTERS.get_ptr_mut(pod) {
        // SAFETY: the helper returned this CPU's slot, which lives as long as the program runs, and programs of a CPU's
        // cgroup hooks do not interrupt each other here: migration is disabled while they run. `sock_ops` may interrupt
        // `connect` in a softirq, between load and store: then one count is lost, which statistics can bear.
        unsafe { (*counters).values[counter as usize] += 1 };
    }
}
