//! The eBPF half: loading and pinning.
