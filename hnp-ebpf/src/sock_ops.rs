//! `sock_ops`: the life of a TCP connection.

use core::ptr::{null_mut, read_volatile as read};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        bpf_sock_ops,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_netns_cookie, bpf_sk_storage_get},
    },
    macros::sock_ops,
    programs::SockOpsContext,
};
use hnp_common::{Action, Address, Capture, Counter, DestinationKey, EventKind, flags};

use crate::{
    maps,
    report::{self, Facts},
};

/// The states of a TCP connection, as `enum` in the kernel's `tcp_states.h` numbers them.
mod state {
    pub(super) const SYN_SENT: u32 = 2;
    pub(super) const FIN_WAIT2: u32 = 5;
    pub(super) const CLOSE: u32 = 7;
    pub(super) const CLOSE_WAIT: u32 = 8;
    pub(super) const LAST_ACK: u32 = 9;
    pub(super) const CLOSING: u32 = 11;
}

/// Bits of [`Capture::progress`].
const REPORTED: u32 = 1;
const PEER_FINISHED: u32 = 1 << 1;

const AF_INET: u32 = 2;

/// Publishes where a captured connection was meant to go, and reports direct ones at their end. The name is
/// [`hnp_common::SOCK_OPS`].
#[sock_ops]
fn hnp_sock_ops(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        if let Some(capture) = capture(&ctx) {
            connecting(&ctx, capture);
        }
    } else if op == BPF_SOCK_OPS_STATE_CB
        && let Some(capture) = capture(&ctx)
    {
        moved(&ctx, capture);
    }
    1
}

/// Just before the SYN: source address and port are chosen, and nobody can have accepted yet.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, capture: &mut Capture) {
    if capture.action == Action::Relay as u32 {
        if maps::DESTINATIONS
            .insert(key(ctx), capture.destination, 0)
            .is_err()
        {
            maps::count(capture.destination.pod, Counter::NotPublished);
        }
    } else if capture.flags & flags::REPORT_DIRECT == 0 {
        return;
    }
    // Of a connection that fails, the entry is to be removed; of a direct one, the end is to be reported.
    let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

/// From one state to another.
#[inline(always)]
fn moved(ctx: &SockOpsContext, capture: &mut Capture) {
    let (old, new) = (ctx.arg(0), ctx.arg(1));
    if capture.action == Action::Relay as u32 {
        // Once the connection was made, HNP removes the entry when it accepts. It may do so after the client has closed.
        if new == state::CLOSE && old == state::SYN_SENT {
            let _ = maps::DESTINATIONS.remove(key(ctx));
        }
        return;
    }
    if new == state::CLOSE_WAIT || new == state::CLOSING {
        capture.progress |= PEER_FINISHED;
    }
    // A second instance of these programs on the same cgroup has a capture of its own, in maps of its own; with maps taken
    // over, the first to come reports.
    if new == state::CLOSE && capture.progress & REPORTED == 0 {
        capture.progress |= REPORTED;
        closed(ctx, capture, old);
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, capture: &Capture, old: u32) {
    let made = old != state::SYN_SENT;
    let ops = ctx.ops.cast_const();
    // SAFETY: the kernel passes a valid context to the program, and it outlives the call.
    let (acked, received) = unsafe { ((*ops).bytes_acked, (*ops).bytes_received) };
    // The kernel counts SYN and FIN as bytes: they take sequence numbers (RFC 9293 section 3.4).
    let own_fin = old == state::FIN_WAIT2 || old == state::LAST_ACK || old == state::CLOSING;
    let peer_fin = capture.progress & PEER_FINISHED != 0 || old == state::FIN_WAIT2;
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let destination = &capture.destination;
    let key = key(ctx);
    report::submit(
        if made {
            EventKind::Closed
        } else {
            EventKind::NotMade
        },
        &Facts {
            time: now,
            netns: key.netns,
            source: key.address,
            source_port: key.port as u16,
            destination: destination.address,
            destination_port: destination.port as u16,
            pod: destination.pod,
            rule: destination.rule,
            pid: destination.pid,
            comm: destination.comm,
            duration: now.saturating_sub(destination.time),
            sent: acked.saturating_sub(u64::from(made) + u64::from(own_fin)),
            received: received.saturating_sub(u64::from(peer_fin)),
        },
    );
}

/// What `connect` noted in the socket. aya's wrapper knows the context of address hooks only.
#[inline(always)]
fn capture(ctx: &SockOpsContext) -> Option<&'static mut Capture> {
    // SAFETY: as above; null where it is a request, not yet a socket.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    let map = (&raw const maps::SOCKETS).cast_mut();
    // SAFETY: a map of this object and a socket that the verifier knows; without a value, nothing is made.
    let capture = unsafe { bpf_sk_storage_get(map.cast(), socket.cast(), null_mut(), 0) };
    // SAFETY: the helper returns null or the value, which lives as long as the socket; its lock is held, and no other
    // program writes to it in this state.
    unsafe { capture.cast::<Capture>().as_mut() }
}

#[inline(always)]
fn key(ctx: &SockOpsContext) -> DestinationKey {
    let ops: *const bpf_sock_ops = ctx.ops;
    // A v6 socket that speaks IPv4 has its mapped address here.
    let address = if ctx.family() == AF_INET {
        Address::v4(ctx.local_ip4())
    } else {
        // SAFETY: as above; word by word, as in `context`.
        let words = unsafe {
            [
                read(&raw const (*ops).local_ip6[0]),
                read(&raw const (*ops).local_ip6[1]),
                read(&raw const (*ops).local_ip6[2]),
                read(&raw const (*ops).local_ip6[3]),
            ]
        };
        Address { words }
    };
    DestinationKey {
        // SAFETY: takes the context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        address,
        port: ctx.local_port(),
        reserved: 0,
    }
}
