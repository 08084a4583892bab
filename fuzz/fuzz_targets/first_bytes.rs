//! Raw bytes as the beginning of a connection. The first byte says where they are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [split, bytes @ ..] = input {
        hnp_fuzz::first_bytes::detection(bytes);
        hnp_fuzz::first_bytes::handshake(bytes, usize::from(*split));
    }
});
