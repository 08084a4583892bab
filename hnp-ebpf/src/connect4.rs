//! `cgroup/connect4`: before an IPv4 socket connects.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{PASS, Verdict, maps};

/// Counts the call. The name is [`hnp_common::CONNECT4`].
#[cgroup_sock_addr(connect4)]
fn hnp_connect4(ctx: SockAddrContext) -> Verdict {
    maps::count_connect(&ctx);
    PASS
}
