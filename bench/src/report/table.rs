//! The table: a block a scenario, a line a metric, a column a peer.

use std::fmt::Write as _;

use super::{Style, Summary};
use crate::figures::{Metric, Spread};
use crate::mutual::RELAY;
use crate::peers::HNP;
use crate::placement::Placement;
use crate::session::DIRECT;

const LABEL: usize = 20;
const COLUMN: usize = 22;

/// A scenario in the table.
pub(crate) struct Heading {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// Which CPUs were used.
    pub(crate) placement: Placement,
}

/// Draws it. Each cell holds the median, half the range in percent of it and, for other peers, HNP's figure as a multiple of
/// theirs: green where HNP is ahead, red where it is behind.
pub(crate) fn render(
    summary: &Summary,
    names: &[&'static str],
    headings: &[Heading],
    style: Style,
) -> String {
    let mut text = String::new();
    let _infallible = render_into(&mut text, summary, names, headings, style);
    text
}

fn render_into(
    text: &mut String,
    summary: &Summary,
    names: &[&'static str],
    headings: &[Heading],
    style: Style,
) -> std::fmt::Result {
    write!(text, "\n{:LABEL$}", "")?;
    for name in names {
        write!(text, "{}", style.bold(&format!("{name:>COLUMN$}")))?;
    }
    writeln!(
        text,
        "\n{:LABEL$}{}",
        "",
        style.dim("median, +/- half the range; x: hnp's figure as a multiple of this one")
    )?;
    for heading in headings {
        let metrics = summary.metrics(heading.key);
        if metrics.is_empty() {
            // Without a proxy an idle tunnel has nothing to tell.
            continue;
        }
        let cpus = heading.placement.words();
        writeln!(text, "{}{}", style.bold(heading.title), style.dim(cpus))?;
        for metric in metrics {
            write!(text, "  {:1$}", metric.title(), LABEL - 2)?;
            let own = summary.get(heading.key, HNP.name, metric);
            for name in names {
                let Some(spread) = summary.get(heading.key, name, metric) else {
                    write!(text, "{}", style.dim(&format!("{:>COLUMN$}", "-")))?;
                    continue;
                };
                let ratio = own
                    .filter(|_| *name != HNP.name && !metric.is_neutral())
                    .map(|own| own.median / spread.median);
                cell(
                    text,
                    metric,
                    spread,
                    ratio,
                    [DIRECT, RELAY].contains(name),
                    style,
                )?;
            }
            writeln!(text)?;
        }
    }
    writeln!(text)
}

/// A figure, its range, and the ratio. What is measured without a proxy (or with one that does nothing) is no opponent: its ratio has no colour.
fn cell(
    text: &mut String,
    metric: Metric,
    spread: Spread,
    ratio: Option<f64>,
    bystander: bool,
    style: Style,
) -> std::fmt::Result {
    let range = if spread.count > 1 && spread.median != 0.0 {
        format!(
            "+/-{:.0}%",
            (spread.most - spread.least) / 2.0 / spread.median.abs() * 100.0
        )
    } else {
        String::new()
    };
    let ratio_text = ratio
        .filter(|ratio| ratio.is_finite())
        .map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
    let ratio_text = format!("{ratio_text:>7}");
    let ahead = ratio.is_none_or(|ratio| (ratio >= 1.0) == metric.more_is_better());
    let painted = match ratio {
        None => ratio_text,
        Some(_) if bystander => style.dim(&ratio_text),
        Some(_) if ahead => style.good(&ratio_text),
        Some(_) => style.bad(&ratio_text),
    };
    write!(
        text,
        "{:>8}{}{painted}",
        number(spread.median),
        style.dim(&format!("{range:>7}"))
    )
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        10_000_000.0.. => format!("{:.1}M", value / 1e6),
        100_000.0.. => format!("{:.0}k", value / 1e3),
        10_000.0.. => format!("{:.1}k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::session::{Findings, Record};

    #[test]
    fn numbers_have_three_digits_that_matter() {
        for (value, text) in [
            (0.2345, "0.234"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
            (17_234.0, "17.2k"),
            (123_456.0, "123k"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_peer_is_told_with_its_ratio_and_a_missing_figure_as_missing() {
        let record = |peer, round, value| Record {
            scenario: "churn",
            peer,
            round,
            figures: Figures::from([(Metric::PerSecond, value)]),
        };
        let records = vec![
            record("hnp", 0, 300.0),
            record("hnp", 1, 330.0),
            record("hnp", 2, 270.0),
            record("squid", 0, 100.0),
        ];
        let findings = Findings {
            records,
            ..Findings::default()
        };
        let text = render(
            &Summary::of(&findings),
            &["hnp", "squid", "direct"],
            &[Heading {
                key: "churn",
                title: "churn",
                placement: Placement::Free,
            }],
            Style::PLAIN,
        );
        let line = text
            .lines()
            .find(|line| line.contains("per second"))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["per", "second", "300", "+/-10%", "100", "3.00x", "-"],
            "{text}"
        );
    }
}
