//! A token bucket in one number.
//!
//! Instead of tokens and the time of their last count it keeps the time at which the bucket will be full again (the generic
//! cell rate algorithm, as ATM's traffic control had it): taking a token moves that time on by the cost of one, and there is
//! a token as long as it is not further away than a full bucket.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// How fast a bucket fills. It holds one second's worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds that one token takes.
    cost: u64,
}

impl Rate {
    /// `per_second` tokens a second, at least one.
    pub(super) fn per_second(per_second: u32) -> Rate {
        Rate {
            cost: SECOND / u64::from(per_second.max(1)),
        }
    }

    /// As one number, 0 for none.
    pub(super) fn to_bits(rate: Option<Rate>) -> u64 {
        rate.map_or(0, |rate| rate.cost)
    }

    /// From [`to_bits`](Rate::to_bits).
    pub(super) fn from_bits(bits: u64) -> Option<Rate> {
        (bits != 0).then_some(Rate { cost: bits })
    }

    /// Takes a token from the bucket that is full at `full_at`: when it is full then, or the nanoseconds to wait for one.
    pub(super) fn take(self, full_at: u64, now: u64) -> Result<u64, u64> {
        let next = full_at.max(now) + self.cost;
        let capacity = SECOND.max(self.cost);
        if next - now <= capacity {
            Ok(next)
        } else {
            Err(next - now - capacity)
        }
    }
}

/// A bucket that threads share without a lock.
#[derive(Debug, Default)]
pub(super) struct SharedBucket {
    full_at: AtomicU64,
}

impl SharedBucket {
    /// As [`Rate::take`].
    pub(super) fn take(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = rate.take(full_at, now)?;
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let bucket = SharedBucket::default();
        let rate = Rate::per_second(10);
        let start = 5 * SECOND;
        assert_eq!(
            (0..20).filter(|_| bucket.take(rate, start).is_ok()).count(),
            10
        );
        assert_eq!(bucket.take(rate, start), Err(SECOND / 10));
        assert_eq!(bucket.take(rate, start + SECOND / 10), Ok(()));
        assert!(bucket.take(rate, start + SECOND / 10).is_err());
        // A long rest does not save up more than a second's worth.
        let later = start + 100 * SECOND;
        assert_eq!(
            (0..20).filter(|_| bucket.take(rate, later).is_ok()).count(),
            10
        );
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let rate = Rate::per_second(1);
        let full_at = rate.take(0, SECOND).unwrap();
        assert_eq!(rate.take(full_at, SECOND), Err(SECOND));
        assert!(rate.take(full_at, 2 * SECOND).is_ok());
    }
}
