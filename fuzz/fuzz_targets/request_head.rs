//! Raw bytes as a request head. The first byte says where they are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [split, bytes @ ..] = input {
        hnp_fuzz::oracle::request(bytes, usize::from(*split));
    }
});
