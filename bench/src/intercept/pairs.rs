//! Two ways compared by many short pairs of measurements.
//!
//! A machine that others use changes its speed by more than what is looked for. The two measurements of a pair follow one another
//! and so share most of what disturbs them; every other pair is taken the other way round, so that neither always comes first. Told
//! is the median of the pairs' ratios, and the interval that the medians of resampled pairs fall into 95 times of 100 (the bootstrap):
//! how far the pairs bear the median out.

use std::fmt;

use anyhow::ensure;

use crate::figures::Spread;

/// Resampled medians.
const RESAMPLES: usize = 2000;

/// Ratios, one for each pair.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    ratios: Vec<f64>,
}

/// What the pairs come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    median: f64,
    /// The interval that holds the middle 95 % of resampled medians.
    low: f64,
    high: f64,
    count: usize,
}

impl Pairs {
    /// Enters a pair.
    ///
    /// # Errors
    /// When one of the two measured nothing.
    pub(super) fn enter(&mut self, value: f64, reference: f64) -> anyhow::Result<()> {
        let measured = |value: f64| value.is_finite() && value > 0.0;
        ensure!(
            measured(value) && measured(reference),
            "a pair measured nothing: {value} against {reference}"
        );
        self.ratios.push(value / reference);
        Ok(())
    }

    /// The median with its interval; the same pairs always come to the same. None: there is no pair.
    pub(super) fn ratio(&self) -> Option<Ratio> {
        let median = Spread::of(self.ratios.iter().copied())?.median;
        let count = self.ratios.len();
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let drawn = (0..count).filter_map(|_| self.ratios.get(random.below(count)));
                Some(Spread::of(drawn.copied())?.median)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let tail = RESAMPLES / 40;
        Some(Ratio {
            median,
            low: *medians.get(tail)?,
            high: *medians.get(RESAMPLES - 1 - tail)?,
            count,
        })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        write!(
            f,
            "{:+.1} % ({:+.1} to {:+.1} %, 95 of 100 times; {} pairs)",
            percent(self.median),
            percent(self.low),
            percent(self.high),
            self.count
        )
    }
}

/// xorshift64: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper bits are the better ones; a count of pairs is small beside 2^32, so that none is favoured.
        (self.0 >> 32) as usize % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs on a machine whose speed changes by a factor of two between pairs, and a little within them.
    fn noisy(ratio: f64, count: usize) -> Pairs {
        let mut random = Random(7);
        let mut pairs = Pairs::default();
        for _ in 0..count {
            let speed = 1.0 + random.below(1000) as f64 / 1000.0;
            let jitter = 0.95 + random.below(1000) as f64 / 10_000.0;
            pairs.enter(ratio * speed * jitter, speed).unwrap();
        }
        pairs
    }

    #[test]
    fn a_difference_is_seen_through_noise_that_both_share() {
        let equal = noisy(1.0, 200).ratio().unwrap();
        assert!(equal.low < 1.0 && 1.0 < equal.high, "{equal}");
        let slower = noisy(0.95, 200).ratio().unwrap();
        assert!(slower.high < 1.0 && slower.low > 0.9, "{slower}");
    }

    #[test]
    fn more_pairs_make_the_interval_narrower_and_the_same_ones_the_same() {
        let (few, many) = (noisy(1.0, 20), noisy(1.0, 400));
        let width = |ratio: Ratio| ratio.high - ratio.low;
        let (few_told, many_told) = (few.ratio().unwrap(), many.ratio().unwrap());
        assert!(
            width(many_told) < width(few_told) / 2.0,
            "{few_told} {many_told}"
        );
        assert_eq!(many.ratio(), Some(many_told));
    }

    #[test]
    fn what_measured_nothing_is_no_pair() {
        assert_eq!(Pairs::default().ratio(), None);
        let mut pairs = Pairs::default();
        for (value, reference) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0)] {
            pairs.enter(value, reference).unwrap_err();
        }
        assert_eq!(pairs.ratio(), None);
    }
}
