//! HNP's eBPF programs: one hook per file, the maps in one.
//!
//! They run in the kernel at the socket calls of the cgroups that `hnp` attaches them to.
//!
//! ```text
//! connect4/6        decide: pass, refuse, or rewrite to HNP's listener and remember the destination in the socket
//! getpeername4/6    tell the application the destination it asked for
//! getsockname4/6    tell the application the pod's address in place of loopback
//! sock_ops          before the SYN: publish the destination; at the end of a direct connection: report it
//! sendmsg4/6        refuse QUIC where a policy says so
//! ```
//!
//! An older or newer instance of HNP may be attached to the same cgroup: what one rewrote, the other finds to be a
//! loopback address, and leaves alone.

#![no_std]
#![no_main]

mod connect4;
mod connect6;
mod context;
mod decide;
mod getpeername4;
mod getpeername6;
mod getsockname4;
mod getsockname6;
mod listener;
mod maps;
mod report;
mod sendmsg4;
mod sendmsg6;
mod sock_ops;

/// What the kernel does with the call: 1 lets it pass, 0 refuses it with `EPERM`.
type Verdict = i32;
const PASS: Verdict = 1;
const REFUSE: Verdict = 0;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which a loop like this one can be.
    loop {}
}
