//! PEM texts, certificates and revocation lists: raw ones, and real ones with a few bytes changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hnp_fuzz::certificates::any(input));
