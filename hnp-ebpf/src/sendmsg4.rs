//! `cgroup/sendmsg4`: before a datagram leaves by `sendto()` or `sendmsg()` with an IPv4 address.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{PASS, REFUSE, Verdict, context, decide, maps};

/// Refuses QUIC where the policy says so, so that clients fall back to TCP at once. The name is
/// [`hnp_common::SENDMSG4`].
#[cgroup_sock_addr(sendmsg4)]
fn hnp_sendmsg4(ctx: SockAddrContext) -> Verdict {
    match maps::policy() {
        Some(policy) if decide::quic_is_denied(&ctx, policy, context::address4(&ctx)) => REFUSE,
        _ => PASS,
    }
}
