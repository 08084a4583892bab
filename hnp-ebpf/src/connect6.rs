//! `cgroup/connect6`: before an IPv6 socket connects, be it to a v4-mapped address.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use hnp_common::Address;

use crate::{
    PASS, REFUSE, Verdict, context,
    decide::{self, Decision},
    listener::{LOOPBACK4, LOOPBACK6},
};

/// Passes, refuses or redirects. The name is [`hnp_common::CONNECT6`].
#[cgroup_sock_addr(connect6)]
fn hnp_connect6(ctx: SockAddrContext) -> Verdict {
    let address = context::address6(&ctx);
    match decide::connect(&ctx, address) {
        Decision::Pass => PASS,
        Decision::Refuse => REFUSE,
        Decision::Redirect(port) => {
            // A socket that asked for IPv4 may be bound to an IPv4 address: it stays with IPv4.
            let loopback = if address.is_v4() {
                Address::v4(LOOPBACK4)
            } else {
                Address { words: LOOPBACK6 }
            };
            context::set_address6(&ctx, &loopback);
            context::set_port(&ctx, port);
            PASS
        }
    }
}
