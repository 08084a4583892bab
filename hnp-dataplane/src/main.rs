//! The binary `hnp`.

use std::process::ExitCode;

// Connections of many ages side by side would leave holes in the heap of an allocator without size classes: measured with
// 8,000 idle tunnels, glibc's took 4.9 KiB for each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hnp_dataplane::cli::main()
}
