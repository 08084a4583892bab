//! Raw bytes as a response head with what follows it, and as chunks. The first byte says where they are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [split, bytes @ ..] = input {
        hnp_fuzz::oracle::response(bytes, usize::from(*split));
    }
});
