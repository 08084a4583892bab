//! HNP's eBPF programs: one hook per file, the maps in one.
//!
//! They run in the kernel at the socket calls of the cgroup that `hnp` attaches them to. For now they count `connect()`
//! calls and let all of them pass.

#![no_std]
#![no_main]

mod connect4;
mod connect6;
mod maps;

/// What the kernel does with the call: 1 lets it pass, 0 refuses it with `EPERM`.
type Verdict = i32;
const PASS: Verdict = 1;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which a loop like this one can be.
    loop {}
}
