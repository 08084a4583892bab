//! From cells to the exposition format.

mod pods;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::cells::{HistogramTotal, LabelTable, WorkerCells};
use super::process::Process;
use super::{Shared, WorkerMetrics};
use crate::admin::names::{self, Kind, Name};

/// The two text formats that scrapers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4, for everyone who does not ask.
    Prometheus,
}

impl Format {
    /// The media type of an exposition in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Renders what `registry` collects.
pub(super) fn render(registry: &Registry, format: Format) -> String {
    let mut text = String::with_capacity(16 << 10);
    // Writing to a String cannot fail, and the collector below returns only the writer's errors.
    let written = prometheus_client::encoding::text::encode(&mut text, registry);
    debug_assert!(written.is_ok());
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus(&text),
    }
}

/// OpenMetrics names a counter's family without `_total` and ends in `# EOF`; the older format wants the family called as
/// its samples are, and knows neither `# UNIT` nor `# EOF`. Without this a counter would be untyped to older scrapers.
fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    // HELP comes before TYPE, which alone tells whether the name needs its suffix.
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

/// Reads the cells at each scrape.
pub(super) struct Exporter(pub(super) Arc<Shared>);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Collector for Exporter {
    /// In the order of [`names::ALL`].
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Encoder(encoder);
        self.workers(&mut to)?;
        self.labelled(&mut to)?;
        self.tls(&mut to)?;
        self.pods(&mut to)?;
        self.process_wide(&mut to)?;
        kernel_view(&mut to, &self.0)
    }
}

impl Exporter {
    fn workers(&self, to: &mut Encoder<'_>) -> fmt::Result {
        self.per_worker(to, &names::CONNECTIONS_ACCEPTED, |cells| {
            cells.accepted.load(Relaxed)
        })?;
        self.per_worker(to, &names::CONNECTIONS_ACTIVE, |cells| {
            cells.active.load(Relaxed)
        })?;
        self.per_worker(to, &names::TUNNELS_ACTIVE, |cells| {
            cells.tunnels.load(Relaxed)
        })?;
        self.per_worker_pair(to, &names::BYTES, ["up", "down"], |cells| {
            [cells.bytes_up.load(Relaxed), cells.bytes_down.load(Relaxed)]
        })?;
        self.per_worker(to, &names::TASKS, |cells| cells.tasks.load(Relaxed))?;
        self.per_worker_pair(to, &names::PIPES, ["idle", "in_use"], |cells| {
            [
                cells.pipes_idle.load(Relaxed),
                cells.pipes_in_use.load(Relaxed),
            ]
        })?;
        self.per_worker_pair(to, &names::BUFFERS, ["idle", "in_use"], |cells| {
            [
                cells.buffers_idle.load(Relaxed),
                cells.buffers_in_use.load(Relaxed),
            ]
        })?;
        let backends = self
            .cells()
            .enumerate()
            .filter_map(|(worker, cells)| Some((worker, *cells.backend.get()?)));
        to.samples(
            &names::BACKEND_INFO,
            backends.map(|(worker, backend)| ([worker.to_string(), backend.into()], 1)),
        )
    }

    fn labelled(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let requests = self.sum(|cells| &cells.requests, ("other", 0));
        to.samples(
            &names::REQUESTS,
            requests
                .into_iter()
                .map(|((mode, status), count)| ([mode.to_owned(), status.to_string()], count)),
        )?;
        self.pairs(to, &names::DECISIONS, |cells| &cells.decisions)?;
        to.histogram(
            &names::RESOLVE,
            &self.total(|cells, total| cells.resolve.add_to(total)),
        )?;
        to.histogram(
            &names::DIAL,
            &self.total(|cells, total| cells.dial.add_to(total)),
        )?;
        let errors = self.sum(|cells| &cells.dial_errors, "other");
        to.samples(
            &names::DIAL_ERRORS,
            errors
                .into_iter()
                .map(|(error, count)| ([error.to_owned()], count)),
        )?;
        self.pairs(to, &names::CLOSES, |cells| &cells.closes)?;
        to.histogram(
            &names::TUNNEL_SECONDS,
            &self.total(|cells, total| cells.tunnel_seconds.add_to(total)),
        )
    }

    fn process_wide(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let sum = |read: fn(&WorkerCells) -> u64| self.cells().map(read).sum::<u64>();
        let process = &self.0.process;
        to.by_label(
            &names::DNS_LOOKUPS,
            [
                ("hit", sum(|cells| cells.dns_hits.load(Relaxed))),
                ("miss", sum(|cells| cells.dns_misses.load(Relaxed))),
                ("failed", sum(|cells| cells.dns_failures.load(Relaxed))),
            ],
        )?;
        to.plain(
            &names::DNS_CACHE_ENTRIES,
            Some(process.dns_cache_entries.load(Relaxed)),
        )?;
        to.by_label(
            &names::LOG_LINES_DROPPED,
            [
                ("access", process.access_lines_dropped.load(Relaxed)),
                (
                    "operational",
                    process.operational_lines_dropped.load(Relaxed),
                ),
            ],
        )?;
        to.by_label(
            &names::CONFIG_RELOADS,
            [
                ("ok", process.reloads_ok.load(Relaxed)),
                ("failed", process.reloads_failed.load(Relaxed)),
            ],
        )?;
        to.plain(
            &names::CONFIG_LAST_RELOAD,
            Some(process.last_reload.load(Relaxed)),
        )?;
        to.plain(
            &names::UPSTREAM_REACHABLE,
            u64::try_from(process.upstream_reachable.load(Relaxed)).ok(),
        )?;
        to.plain(&names::DRAINING, Some(process.draining.load(Relaxed)))?;
        to.by_label(&names::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1)])
    }

    fn cells(&self) -> impl Iterator<Item = &WorkerCells> {
        self.0
            .workers
            .iter()
            .map(|WorkerMetrics(cells)| &cells.counted)
    }

    fn per_worker(
        &self,
        to: &mut Encoder<'_>,
        name: &Name,
        read: fn(&WorkerCells) -> u64,
    ) -> fmt::Result {
        to.samples(
            name,
            self.cells()
                .enumerate()
                .map(|(worker, cells)| ([worker.to_string()], read(cells))),
        )
    }

    fn per_worker_pair(
        &self,
        to: &mut Encoder<'_>,
        name: &Name,
        labels: [&str; 2],
        read: fn(&WorkerCells) -> [u64; 2],
    ) -> fmt::Result {
        to.samples(
            name,
            self.cells().enumerate().flat_map(|(worker, cells)| {
                let values = read(cells);
                [0, 1].map(|i| ([worker.to_string(), labels[i].to_owned()], values[i]))
            }),
        )
    }

    fn pairs(
        &self,
        to: &mut Encoder<'_>,
        name: &Name,
        table: fn(&WorkerCells) -> &LabelTable<(&'static str, &'static str)>,
    ) -> fmt::Result {
        let counts = self.sum(table, ("other", "other"));
        to.samples(
            name,
            counts
                .into_iter()
                .map(|((a, b), count)| ([a.to_owned(), b.to_owned()], count)),
        )
    }

    /// The tables of all workers together; sorted, so that two scrapes show the same order.
    fn sum<K: Copy + Ord>(
        &self,
        table: fn(&WorkerCells) -> &LabelTable<K>,
        other: K,
    ) -> BTreeMap<K, u64> {
        let mut sum = BTreeMap::new();
        for table in self.cells().map(table) {
            for (key, count) in table.counts() {
                *sum.entry(key).or_default() += count;
            }
            if table.overflow() > 0 {
                *sum.entry(other).or_default() += table.overflow();
            }
        }
        sum
    }

    fn total(&self, add: fn(&WorkerCells, &mut HistogramTotal)) -> HistogramTotal {
        let mut total = HistogramTotal::default();
        for cells in self.cells() {
            add(cells, &mut total);
        }
        total
    }
}

fn kernel_view(to: &mut Encoder<'_>, shared: &Shared) -> fmt::Result {
    let process = Process::read();
    let started = shared
        .process
        .started
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    if let Some(seconds) = process.cpu_seconds {
        to.describe(&names::PROCESS_CPU)?
            .encode_counter::<NoLabelSet, _, f64>(&seconds, NO_EXEMPLAR)?;
    }
    to.plain(&names::PROCESS_RESIDENT, process.resident_bytes)?;
    to.plain(&names::PROCESS_VIRTUAL, process.virtual_bytes)?;
    to.plain(&names::PROCESS_OPEN_FDS, process.open_fds)?;
    to.plain(&names::PROCESS_MAX_FDS, process.max_fds)?;
    to.plain(&names::PROCESS_THREADS, process.threads)?;
    to.describe(&names::PROCESS_START)?.encode_gauge(&started)
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// The encoder of prometheus-client, driven by [`Name`].
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn describe<'s>(&'s mut self, name: &'s Name) -> Result<MetricEncoder<'s>, fmt::Error> {
        let (family, kind) = match name.kind {
            // The encoder adds the suffix itself.
            Kind::Counter => (name.name.trim_end_matches("_total"), MetricType::Counter),
            Kind::Gauge => (name.name, MetricType::Gauge),
            Kind::Histogram => (name.name, MetricType::Histogram),
        };
        self.0.encode_descriptor(family, name.help, None, kind)
    }

    /// One sample for each set of label values, which are in the order of `name.labels`.
    fn samples<const N: usize>(
        &mut self,
        name: &Name,
        samples: impl Iterator<Item = ([String; N], u64)>,
    ) -> fmt::Result {
        debug_assert_eq!(name.labels.len(), N, "{}", name.name);
        let mut encoder = self.describe(name)?;
        for (values, value) in samples {
            let labels: Vec<_> = name
                .labels
                .iter()
                .copied()
                .zip(values.iter().map(String::as_str))
                .collect();
            let mut sample = encoder.encode_family(&labels)?;
            match name.kind {
                Kind::Counter => {
                    sample.encode_counter::<NoLabelSet, _, f64>(&value, NO_EXEMPLAR)?
                }
                _ => sample.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn by_label<const N: usize>(&mut self, name: &Name, samples: [(&str, u64); N]) -> fmt::Result {
        self.samples(
            name,
            samples
                .into_iter()
                .map(|(label, value)| ([label.to_owned()], value)),
        )
    }

    /// A metric without labels, left out when there is no value.
    fn plain(&mut self, name: &Name, value: Option<u64>) -> fmt::Result {
        match value {
            Some(value) => self.describe(name)?.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn histogram(&mut self, name: &Name, total: &HistogramTotal) -> fmt::Result {
        self.describe(name)?.encode_histogram::<NoLabelSet>(
            total.sum,
            total.count,
            &total.buckets,
            None,
        )
    }
}
