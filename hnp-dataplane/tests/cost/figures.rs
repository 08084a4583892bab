//! Two ways to do the same, compared.

use std::fmt;

/// What was counted of two ways, in pairs.
pub(crate) struct Compared {
    names: [String; 2],
    pairs: Vec<[f64; 2]>,
}

/// The pairs' median, and what is least and most among them.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Compared {
    /// Counts both in turns, so many times.
    pub(crate) fn count<T: fmt::Display>(
        pairs: usize,
        ways: &[T; 2],
        mut count: impl FnMut(&T) -> f64,
    ) -> Self {
        Self {
            names: ways.each_ref().map(ToString::to_string),
            pairs: (0..pairs)
                .map(|_| ways.each_ref().map(&mut count))
                .collect(),
        }
    }

    /// The second way against the first.
    pub(crate) fn ratio(&self) -> Spread {
        self.spread(|[first, second]| second / first)
    }

    fn spread(&self, figure: impl Fn(&[f64; 2]) -> f64) -> Spread {
        let mut figures: Vec<f64> = self.pairs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        Spread {
            median: figures[figures.len() / 2],
            least: figures[0],
            most: figures[figures.len() - 1],
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names.iter().enumerate() {
            let spread = self.spread(|pair| pair[at]);
            writeln!(f, "  {name:<18} {spread:.0}")?;
        }
        write!(f, "  {:<18} {:.5}", "ratio", self.ratio())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let Self {
            median,
            least,
            most,
        } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}
