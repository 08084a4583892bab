//! What the fuzz target `certificates` asserts, on its seeds and on real certificates with bytes changed at random.

use std::path::Path;

use proptest::prelude::*;

#[path = "../../fuzz/src/certificates.rs"]
#[expect(unreachable_pub, reason = "it is public for the fuzz target")]
mod oracle;

#[test]
fn the_seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/certificates");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).expect("the seeds are there") {
        let seed = seed.expect("a seed").path();
        oracle::any(&std::fs::read(seed).expect("a seed can be read"));
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
    ))]

    #[test]
    fn one_byte_changed_is_one_too_many(kind in 2u8..6, place in any::<u16>(), change in 1u8..) {
        let [high, low] = place.to_be_bytes();
        oracle::any(&[kind, high, low, change]);
    }

    #[test]
    fn nothing_panics(kind in 0u8..6, rest in prop::collection::vec(any::<u8>(), 0..60)) {
        oracle::any(&[&[kind], rest.as_slice()].concat());
    }
}
