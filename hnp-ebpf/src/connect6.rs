//! `cgroup/connect6`: before an IPv6 socket connects, be it to a v4-mapped address.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{PASS, Verdict, maps};

/// Counts the call. The name is [`hnp_common::CONNECT6`].
#[cgroup_sock_addr(connect6)]
fn hnp_connect6(ctx: SockAddrContext) -> Verdict {
    maps::count_connect(&ctx);
    PASS
}
