//! Raw bytes as all that a client sends on one connection, or an upstream: message after message. The first byte says which, the next
//! three where the bytes are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [role, one, two, three, bytes @ ..] = input {
        hnp_fuzz::framing::connection(*role, &[*one, *two, *three], bytes);
    }
});
