//! Latencies counted in buckets whose width grows with their value, after the idea of HdrHistogram.

use std::time::Duration;

/// Buckets per power of two: a value is known to within 1/128 of itself.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values below `STEPS` have a bucket each; every power of two above has `STEPS` of them.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS as usize;

/// How often each latency was seen. Recording is a few instructions and never allocates.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The latency that a share `quantile` (0 to 1) of all did not exceed; zero when nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count is a count"
        )]
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(index));
            }
        }
        Duration::ZERO
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

fn bucket(value: u64) -> usize {
    let index = if value < STEPS {
        value
    } else {
        let shift = u64::from(u64::BITS - 1 - value.leading_zeros() - STEP_BITS);
        STEPS + shift * STEPS + ((value >> shift) - STEPS)
    };
    index as usize
}

/// The highest value that falls into a bucket.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = (index - STEPS) / STEPS;
    let step = (index - STEPS) % STEPS;
    // The last bucket ends at u64::MAX: computed wider so that it cannot overflow.
    let end = (u128::from(STEPS + step) + 1) << shift;
    u64::try_from(end - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_in_a_bucket_that_ends_within_one_part_in_128_above_it() {
        for shift in 0..64_u32 {
            for offset in [0_u64, 1, 3, 7] {
                let value = (1_u64 << shift).saturating_add(offset << shift.saturating_sub(4));
                let index = bucket(value);
                assert!(index < BUCKETS, "{value} has bucket {index} of {BUCKETS}");
                let end = highest(index);
                assert!(
                    end >= value && end - value <= value / STEPS,
                    "{value} is told as {end}"
                );
                assert!(
                    index == 0 || highest(index - 1) < value,
                    "{value} belongs to an earlier bucket"
                );
            }
        }
        assert_eq!(highest(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        for micros in (1..=1000).rev() {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.len(), 1000);
        for (quantile, micros) in [
            (0.0, 1.0),
            (0.5, 500.0),
            (0.99, 990.0),
            (0.999, 999.0),
            (1.0, 1000.0),
        ] {
            let told = histogram.quantile(quantile).as_secs_f64() * 1e6;
            assert!(
                (told / micros - 1.0).abs() < 0.008,
                "quantile {quantile}: {told} for {micros}"
            );
        }
    }

    #[test]
    fn an_empty_histogram_has_zero_quantiles() {
        assert_eq!(Histogram::new().quantile(0.99), Duration::ZERO);
        assert!(Histogram::new().is_empty());
    }
}
