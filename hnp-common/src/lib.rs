//! The ABI between HNP's eBPF programs and its user-space half: map keys, values and settings.
#![no_std]
