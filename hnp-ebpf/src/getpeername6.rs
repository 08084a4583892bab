//! `cgroup/getpeername6`: what an IPv6 socket says about its peer.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use hnp_common::Action;

use crate::{PASS, Verdict, context, maps};

/// Answers with the destination that the application asked for. The name is [`hnp_common::GETPEERNAME6`].
#[cgroup_sock_addr(getpeername6)]
fn hnp_getpeername6(ctx: SockAddrContext) -> Verdict {
    // SAFETY: the call's socket; its entry lives as long as it.
    if let Some(capture) = unsafe { maps::SOCKETS.get_ptr_mut(&ctx).as_ref() }
        && capture.action == Action::Relay as u32
    {
        context::set_address6(&ctx, &capture.destination.address);
        context::set_port(&ctx, capture.destination.port as u16);
    }
    PASS
}
