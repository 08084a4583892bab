//! The Prometheus text format, as far as a test reads it.

use std::collections::BTreeMap;

/// One reading of all metrics, keyed as written: `name` or `name{label="value"}`.
#[derive(Debug, Clone)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the exposition format.
    ///
    /// # Panics
    /// When a line is not in it.
    #[must_use]
    pub fn parse(text: &str) -> Metrics {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                // Exemplars and timestamps are not written; the value is the last word.
                let (key, value) = line
                    .rsplit_once(' ')
                    .unwrap_or_else(|| panic!("not a sample: {line}"));
                let value = value
                    .parse()
                    .unwrap_or_else(|e| panic!("not a number in {line}: {e}"));
                (key.to_owned(), value)
            })
            .collect();
        Metrics(samples)
    }

    /// The sum over all label values of `name`; 0 when there is no such sample.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, &[])
    }

    /// The sum over the samples of `name` whose labels hold each of `labels` (`key="value"`).
    #[must_use]
    pub fn sum_where(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples(name)
            .filter(|(key, _)| labels.iter().all(|label| key.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether there is any sample of `name`: a gauge that does not exist must not pass for one at 0.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.samples(name).next().is_some()
    }

    /// Like [`Metrics::sum`], for a metric that has to exist.
    ///
    /// # Panics
    /// When there is no sample of `name`.
    pub fn require(&self, name: &str) -> f64 {
        assert!(self.has(name), "no metric {name} among {:?}", self.0.keys());
        self.sum(name)
    }

    fn samples(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .filter(move |(key, _)| key.split('{').next() == Some(name))
            .map(|(key, value)| (key.as_str(), *value))
    }
}
