//! The maps that the hooks share with each other and with user space.

use aya_ebpf::{
    bindings::BPF_NOEXIST, macros::map, maps::PerCpuHashMap, programs::SockAddrContext,
};
use hnp_common::{CONNECTS_CAPACITY, ConnectKey};

/// `connect()` calls by family and protocol. Per CPU, so that counting needs no atomic operation; user space adds up.
#[map]
static CONNECTS: PerCpuHashMap<ConnectKey, u64> =
    PerCpuHashMap::with_max_entries(CONNECTS_CAPACITY, 0);

/// Counts one call. A full map loses the count of a protocol never seen before, and nothing else.
#[inline(always)]
pub(crate) fn count_connect(ctx: &SockAddrContext) {
    // SAFETY: the kernel passes a valid context to the program, and it outlives the call.
    let (family, protocol) = unsafe { ((*ctx.sock_addr).family, (*ctx.sock_addr).protocol) };
    let key = ConnectKey { family, protocol };
    if add(&key).is_none() && CONNECTS.insert(key, 1, BPF_NOEXIST.into()).is_err() {
        // Another CPU made the entry first.
        add(&key);
    }
}

#[inline(always)]
fn add(key: &ConnectKey) -> Option<()> {
    let count = CONNECTS.get_ptr_mut(key)?;
    // SAFETY: the helper returned this CPU's slot, which lives as long as the program runs, and programs of a CPU's
    // cgroup hooks do not interrupt each other here: migration is disabled while they run.
    unsafe { *count += 1 };
    Some(())
}
