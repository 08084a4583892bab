//! `cgroup/connect4`: before an IPv4 socket connects.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use hnp_common::Address;

use crate::{
    PASS, REFUSE, Verdict, context,
    decide::{self, Decision},
    listener::LOOPBACK4,
};

/// Passes, refuses or redirects. The name is [`hnp_common::CONNECT4`].
#[cgroup_sock_addr(connect4)]
fn hnp_connect4(ctx: SockAddrContext) -> Verdict {
    match decide::connect(&ctx, context::address4(&ctx)) {
        Decision::Pass => PASS,
        Decision::Refuse => REFUSE,
        Decision::Redirect(port) => {
            context::set_address4(&ctx, &Address::v4(LOOPBACK4));
            context::set_port(&ctx, port);
            PASS
        }
    }
}
