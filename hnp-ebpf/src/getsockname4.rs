//! `cgroup/getsockname4`: what an IPv4 socket says about itself.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use hnp_common::Action;

use crate::{PASS, Verdict, context, maps};

/// Answers with the pod's address where the kernel would say loopback. The name is [`hnp_common::GETSOCKNAME4`].
#[cgroup_sock_addr(getsockname4)]
fn hnp_getsockname4(ctx: SockAddrContext) -> Verdict {
    // SAFETY: the call's socket; its entry lives as long as it.
    if let Some(capture) = unsafe { maps::SOCKETS.get_ptr_mut(&ctx).as_ref() }
        && capture.action == Action::Relay as u32
        && !capture.source.is_unspecified()
        && context::address4(&ctx).is_local()
    {
        context::set_address4(&ctx, &capture.source);
    }
    PASS
}
