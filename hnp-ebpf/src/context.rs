//! Reading and writing `struct bpf_sock_addr`.
//!
//! Its arrays are read word by word: LLVM would otherwise make an address out of the context's and read through that, which the
//! verifier refuses.

use core::ptr::{read_volatile as read, write_volatile as write};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    programs::SockAddrContext,
};
use hnp_common::Address;

/// `SOCK_STREAM`, `SOCK_DGRAM`; `IPPROTO_TCP`, `IPPROTO_UDP`.
const STREAM: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;

#[inline(always)]
pub(crate) fn is_tcp(ctx: &SockAddrContext) -> bool {
    let ctx = ctx.sock_addr.cast_const();
    // SAFETY: the kernel passes a valid context to the program, and it outlives the call.
    unsafe { (*ctx).type_ == STREAM && (*ctx).protocol == TCP }
}

#[inline(always)]
pub(crate) fn is_udp(ctx: &SockAddrContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.sock_addr).protocol == UDP }
}

#[inline(always)]
pub(crate) fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: as above; never null at these hooks.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The port in the address the call is about, in host byte order.
#[inline(always)]
pub(crate) fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: as above.
    let port = unsafe { (*ctx.sock_addr).user_port };
    u16::from_be(port as u16)
}

#[inline(always)]
pub(crate) fn set_port(ctx: &SockAddrContext, port: u16) {
    // SAFETY: as above; the verifier lets this field be written.
    unsafe { (*ctx.sock_addr).user_port = u32::from(port.to_be()) };
}

#[inline(always)]
pub(crate) fn address4(ctx: &SockAddrContext) -> Address {
    // SAFETY: as above.
    Address::v4(unsafe { (*ctx.sock_addr).user_ip4 })
}

#[inline(always)]
pub(crate) fn set_address4(ctx: &SockAddrContext, address: &Address) {
    // SAFETY: as above.
    unsafe { (*ctx.sock_addr).user_ip4 = address.words[3] };
}

#[inline(always)]
pub(crate) fn address6(ctx: &SockAddrContext) -> Address {
    let ctx: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: as above.
    let words = unsafe {
        [
            read(&raw const (*ctx).user_ip6[0]),
            read(&raw const (*ctx).user_ip6[1]),
            read(&raw const (*ctx).user_ip6[2]),
            read(&raw const (*ctx).user_ip6[3]),
        ]
    };
    Address { words }
}

#[inline(always)]
pub(crate) fn set_address6(ctx: &SockAddrContext, address: &Address) {
    let ctx: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: as above.
    unsafe {
        write(&raw mut (*ctx).user_ip6[0], address.words[0]);
        write(&raw mut (*ctx).user_ip6[1], address.words[1]);
        write(&raw mut (*ctx).user_ip6[2], address.words[2]);
        write(&raw mut (*ctx).user_ip6[3], address.words[3]);
    }
}
