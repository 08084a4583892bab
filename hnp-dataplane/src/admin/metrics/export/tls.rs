//! What is exposed of TLS, of the reverse proxy's connections, and of endpoints and certificates.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::NoLabelSet;

use super::{Encoder, Exporter};
use crate::admin::metrics::Side;
use crate::admin::metrics::cells::{HistogramTotal, SideCells};
use crate::admin::names::{self, Name};

const SIDES: [Side; 2] = [Side::Client, Side::Upstream];

impl Exporter {
    /// In the order of [`names::ALL`].
    pub(super) fn tls(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let handshakes = self.sum(|cells| &cells.handshakes, ("other", "other", "none", false));
        to.samples(
            &names::TLS_HANDSHAKES,
            handshakes
                .into_iter()
                .map(|((side, result, version, resumed), count)| {
                    let resumed = if resumed { "yes" } else { "no" };
                    ([side, result, version, resumed].map(str::to_owned), count)
                }),
        )?;
        to.histograms(
            &names::TLS_HANDSHAKE,
            &SIDES.map(|side| {
                let mut total = HistogramTotal::default();
                for cells in self.cells() {
                    cells.sides[side as usize].handshake.add_to(&mut total);
                }
                (side.as_str(), total)
            }),
        )?;
        self.by_side(to, &names::TLS_HANDSHAKES_ACTIVE, |cells| {
            cells.handshakes_active.load(Relaxed)
        })?;
        self.per_worker_pair(
            to,
            &names::UPSTREAM_CONNECTIONS,
            ["idle", "in_use"],
            |cells| {
                [
                    cells.upstream_idle.load(Relaxed),
                    cells.upstream_in_use.load(Relaxed),
                ]
            },
        )?;
        let requests = |connection: usize| -> u64 {
            self.cells()
                .map(|cells| cells.upstream_requests[connection].load(Relaxed))
                .sum()
        };
        to.by_label(
            &names::UPSTREAM_REQUESTS,
            [
                ("new", requests(0)),
                ("kept", requests(1)),
                ("again", requests(2)),
            ],
        )?;
        self.by_side(to, &names::HTTP2_STREAMS, |cells| {
            cells.streams.load(Relaxed)
        })?;
        self.by_side(to, &names::HTTP2_STREAMS_ACTIVE, |cells| {
            cells.streams_active.load(Relaxed)
        })?;
        self.endpoints(to)?;
        self.certificates(to)
    }

    fn by_side(
        &self,
        to: &mut Encoder<'_>,
        name: &Name,
        read: fn(&SideCells) -> u64,
    ) -> fmt::Result {
        to.samples(
            name,
            self.cells().enumerate().flat_map(|(worker, cells)| {
                SIDES.map(|side| {
                    let labels = [worker.to_string(), side.as_str().to_owned()];
                    (labels, read(&cells.sides[side as usize]))
                })
            }),
        )
    }

    fn endpoints(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let counts = self.0.endpoints.counts();
        to.samples(
            &names::ENDPOINT_CONNECTIONS,
            counts.iter().flat_map(|(endpoint, [with, without], _)| {
                [("yes", with), ("no", without)]
                    .map(|(shown, count)| ([endpoint.clone(), shown.to_owned()], *count))
            }),
        )?;
        to.samples(
            &names::ENDPOINT_WITHOUT_CERTIFICATE,
            counts
                .iter()
                .map(|(endpoint, _, remembered)| ([endpoint.clone()], *remembered)),
        )
    }

    fn certificates(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let certificates = &self.0.certificates;
        to.gauges(&names::CERTIFICATE_EXPIRY, &certificates.seconds_left())?;
        to.by_label(
            &names::CERTIFICATE_RELOADS,
            [
                ("ok", certificates.reloads_ok.load(Relaxed)),
                ("failed", certificates.reloads_failed.load(Relaxed)),
            ],
        )?;
        let last = certificates.last_reload.load(Relaxed);
        to.plain(&names::CERTIFICATE_LAST_RELOAD, (last != 0).then_some(last))
    }
}

impl Encoder<'_> {
    /// Histograms that one label tells apart.
    fn histograms(&mut self, name: &Name, totals: &[(&str, HistogramTotal)]) -> fmt::Result {
        let mut encoder = self.describe(name)?;
        for (value, total) in totals {
            let labels: Vec<_> = name.labels.iter().copied().zip([*value]).collect();
            encoder
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(total.sum, total.count, &total.buckets, None)?;
        }
        Ok(())
    }

    /// Levels that may be negative.
    fn gauges<const N: usize>(
        &mut self,
        name: &Name,
        samples: &[([String; N], i64)],
    ) -> fmt::Result {
        debug_assert_eq!(name.labels.len(), N, "{}", name.name);
        let mut encoder = self.describe(name)?;
        for (values, value) in samples {
            let values = values.iter().map(String::as_str);
            let labels: Vec<_> = name.labels.iter().copied().zip(values).collect();
            encoder.encode_family(&labels)?.encode_gauge(value)?;
        }
        Ok(())
    }
}
