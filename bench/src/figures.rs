//! The figures of a measurement, and what is told of several measurements of the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::{Load, Outcome};

/// Bytes of a GiB.
pub(crate) const GIB: f64 = (1_u64 << 30) as f64;
/// Bytes of a KiB.
pub(crate) const KIB: f64 = 1024.0;

/// What can be read off a measurement, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// GiB a second.
    GibPerSecond,
    /// CPU seconds of the proxy for a GiB.
    CpuPerGib,
    /// Connections or exchanges a second.
    PerSecond,
    /// Connections or exchanges for a CPU second of the proxy: what it could do a second if nobody else held it up.
    PerCpuSecond,
    /// CPU microseconds of the proxy for a connection or an exchange.
    CpuMicros,
    /// Percent of the time that the proxy was on a CPU: at 100 it is what limits the rate, below it is the load or the upstream.
    Busy,
    /// Percent of the time that generator and upstream together were on a CPU: near 100, where they share one, they limit the rate.
    LoadBusy,
    /// Half of all took no longer; microseconds.
    P50,
    /// 99 % took no longer; microseconds.
    P99,
    /// 99.9 % took no longer; microseconds.
    P999,
    /// KiB of resident memory for a tunnel, beyond what the proxy had before.
    RssPerTunnel,
    /// KiB that the upstream could send into a tunnel before it stopped.
    TakenPerTunnel,
    /// Connections that failed.
    Failures,
}

impl Metric {
    /// Its heading in tables.
    pub fn title(self) -> &'static str {
        match self {
            Metric::GibPerSecond => "GiB/s",
            Metric::CpuPerGib => "CPU s/GiB",
            Metric::PerSecond => "per second",
            Metric::PerCpuSecond => "per CPU second",
            Metric::Busy => "proxy's CPU %",
            Metric::LoadBusy => "load's CPU %",
            Metric::CpuMicros => "CPU us each",
            Metric::P50 => "p50 us",
            Metric::P99 => "p99 us",
            Metric::P999 => "p99.9 us",
            Metric::RssPerTunnel => "RSS KiB/tunnel",
            Metric::TakenPerTunnel => "KiB taken/tunnel",
            Metric::Failures => "failed",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        matches!(
            self,
            Metric::GibPerSecond | Metric::PerSecond | Metric::PerCpuSecond
        )
    }

    /// Whether neither more nor less of it is better.
    pub fn is_neutral(self) -> bool {
        matches!(self, Metric::Busy | Metric::LoadBusy)
    }
}

/// The figures of one measurement.
pub type Figures = BTreeMap<Metric, f64>;

/// Reads off what a generator measured.
pub fn figures(load: Load, outcome: &Outcome) -> Figures {
    let units = outcome.units as f64;
    let mut figures = Figures::new();
    if matches!(load, Load::Download | Load::Upload) {
        figures.insert(Metric::GibPerSecond, units / GIB / outcome.seconds);
        figures.extend(
            outcome
                .cpu
                .map(|cpu| (Metric::CpuPerGib, cpu * GIB / units)),
        );
    } else {
        figures.insert(Metric::PerSecond, units / outcome.seconds);
        figures.extend(
            outcome
                .cpu
                .map(|cpu| (Metric::CpuMicros, cpu * 1e6 / units)),
        );
    }
    if let Some(latency) = outcome.latency {
        figures.extend([
            (Metric::P50, latency.p50),
            (Metric::P99, latency.p99),
            (Metric::P999, latency.p999),
        ]);
    }
    if outcome.failures > 0 {
        figures.insert(Metric::Failures, outcome.failures as f64);
    }
    figures
}

/// The same figure of several measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The one in the middle (of two, their mean).
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of no values: none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let (least, most) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(*values.get((count - 1) / 2)?, *values.get(count / 2)?);
        Some(Spread {
            median,
            least,
            most,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Latency;

    #[test]
    fn a_spread_tells_median_and_range() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Some(Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0,
                count: 3
            })
        );
        assert_eq!(
            Spread::of([3.0, 1.0]),
            Some(Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0,
                count: 2
            })
        );
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn bulk_is_told_in_gib_and_the_rest_in_pieces() {
        let outcome = Outcome {
            seconds: 2.0,
            units: 1 << 32,
            cpu: Some(1.0),
            ..Outcome::default()
        };
        let read = figures(Load::Download, &outcome);
        assert_eq!(
            read,
            Figures::from([(Metric::GibPerSecond, 2.0), (Metric::CpuPerGib, 0.25)])
        );
        let latency = Some(Latency {
            p50: 1.0,
            p99: 2.0,
            p999: 3.0,
        });
        let outcome = Outcome {
            seconds: 0.5,
            units: 1000,
            cpu: Some(0.01),
            latency,
            failures: 2,
            ..Outcome::default()
        };
        let read = figures(Load::Churn, &outcome);
        assert_eq!(read[&Metric::PerSecond], 2000.0);
        assert_eq!(read[&Metric::CpuMicros], 10.0);
        assert_eq!(read[&Metric::P99], 2.0);
        assert_eq!(read[&Metric::Failures], 2.0);
    }
}
