//! `cgroup/sendmsg6`: before a datagram leaves by `sendto()` or `sendmsg()` with an IPv6 address.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{PASS, REFUSE, Verdict, context, decide, maps};

/// Refuses QUIC where the policy says so, so that clients fall back to TCP at once. The name is
/// [`hnp_common::SENDMSG6`].
#[cgroup_sock_addr(sendmsg6)]
fn hnp_sendmsg6(ctx: SockAddrContext) -> Verdict {
    match maps::policy() {
        Some(policy) if decide::quic_is_denied(&ctx, policy, context::address6(&ctx)) => REFUSE,
        _ => PASS,
    }
}
