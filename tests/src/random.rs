//! Seeded bytes and choices: a failure is repeated by its seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: every seed gives a full-period stream, and filling a buffer costs less than hashing it.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        let span = (high - low) as u64 + 1;
        low + usize::try_from(self.word() % span).unwrap()
    }

    /// Fills `buffer`; a buffer whose length is no multiple of 8 drops the rest of the last word.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// `length` bytes.
    #[must_use]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}

/// The seed of this test: `HNP_TEST_SEED` when set, else one of its own. It is printed, which a test that fails shows.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("HNP_TEST_SEED") {
        Ok(value) => value.parse().expect("HNP_TEST_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    eprintln!("seed: repeat with HNP_TEST_SEED={seed}");
    seed
}
