//! Whether HNP is there to take a connection.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, bpf_sock, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_lookup_tcp, bpf_sk_release},
    },
    programs::SockAddrContext,
};

use crate::maps;

/// `127.0.0.1` as a word in network byte order.
pub(crate) const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// `::1`.
pub(crate) const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

/// Whether HNP's heartbeat is young enough, where one is asked for.
#[inline(always)]
pub(crate) fn is_alive() -> bool {
    let Some(settings) = maps::settings() else {
        return true;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    settings.stale_after == 0 || now.saturating_sub(settings.heartbeat) <= settings.stale_after
}

/// Whether somebody listens on this port of the loopback address, in the network namespace of the call.
#[inline(always)]
pub(crate) fn is_there(ctx: &SockAddrContext, v4: bool, port: u16) -> bool {
    let port = port.to_be();
    // The size tells the families apart, and has to be constant: hence a call for each.
    let socket = if v4 {
        let mut tuple = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: LOOPBACK4,
            daddr: LOOPBACK4,
            sport: 0,
            dport: port,
        };
        lookup(ctx, &raw mut tuple)
    } else {
        let mut tuple = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: LOOPBACK6,
            daddr: LOOPBACK6,
            sport: 0,
            dport: port,
        };
        lookup(ctx, &raw mut tuple)
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and held until released below.
    let listens = unsafe { (*socket).state } == BPF_TCP_LISTEN;
    // SAFETY: as above; not used afterwards.
    unsafe { bpf_sk_release(socket.cast()) };
    listens
}

/// `Half` is one of the two halves of `bpf_sock_tuple`.
#[inline(always)]
fn lookup<Half>(ctx: &SockAddrContext, tuple: *mut Half) -> *mut bpf_sock {
    const { assert!(size_of::<Half>() <= size_of::<bpf_sock_tuple__bindgen_ty_1>()) };
    // SAFETY: the kernel reads as many bytes of the tuple as it is told, during the call.
    unsafe {
        bpf_sk_lookup_tcp(
            ctx.as_ptr(),
            tuple.cast::<bpf_sock_tuple>(),
            size_of::<Half>() as u32,
            BPF_F_CURRENT_NETNS as u64,
            0,
        )
    }
}
