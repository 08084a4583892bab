//! A mistake in the configuration: where, what, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::fingerprint::Fingerprint;

/// Why there is no configuration to run with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file, no upstream, no rule: nothing could be reached.
    #[error(
        "error: nothing is configured, so nothing could be reached\n  \
         = help: set PROXY_URL to the manager's url, as in `PROXY_URL=https://app.harness.io hnp run`,\n  \
         = help: or name a file with `--config hnp.toml` or HNP_CONFIG (docs/configuration.md describes it)"
    )]
    Nothing,
    /// The file cannot be read.
    #[error(
        "error: cannot read the configuration file {}: {source}\n  \
         = help: name a file that exists and that this user may read, with `--config` or HNP_CONFIG",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What there was to read: a change of it is a reason to try again.
        fingerprint: Fingerprint,
    },
    /// The file, an environment variable or a flag says what cannot be.
    #[error("{}", Report(mistakes))]
    Invalid {
        /// Every mistake, in the order of the file.
        mistakes: Vec<Diagnostic>,
        /// What was read: a change of it is a reason to try again.
        fingerprint: Fingerprint,
    },
}

impl ConfigError {
    /// One line for the log: the first mistake, and how many more there are.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            ConfigError::Invalid { mistakes, .. } => match mistakes.as_slice() {
                [] => "no mistake is known".to_owned(),
                [one] => one.line(),
                [first, more @ ..] => format!("{} (and {} more)", first.line(), more.len()),
            },
            other => {
                let text = other.to_string();
                let first = text.lines().next().unwrap_or_default();
                first.trim_start_matches("error: ").to_owned()
            }
        }
    }

    /// The mistakes, one by one; empty unless the configuration was read.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            ConfigError::Invalid { mistakes, .. } => mistakes,
            ConfigError::Nothing | ConfigError::Read { .. } => &[],
        }
    }

    /// The files that were read, or should have been: when one changes, loading again may succeed.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            ConfigError::Nothing => Fingerprint::default(),
            ConfigError::Read { fingerprint, .. } | ConfigError::Invalid { fingerprint, .. } => {
                fingerprint.clone()
            }
        }
    }
}

/// One mistake, or something that is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// The dotted key, with indices in lists: `policy.allow[0].hosts[1]`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Refused.
    Error,
    /// Served, and probably not meant.
    Warning,
}

/// Where a value came from, and so where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "source")]
pub enum Place {
    /// The configuration file.
    File {
        /// As it was named.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The source line, passwords in urls masked.
        #[serde(skip)]
        text: String,
        /// Characters to underline, at least 1.
        #[serde(skip)]
        length: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: &'static str,
    },
    /// A command line flag.
    Flag {
        /// Its name, with the dashes.
        name: &'static str,
    },
    /// Nowhere: a default.
    Default,
}

impl Place {
    /// The place of a byte range of a file's text.
    pub(super) fn in_file(file: &Path, source: &str, span: Range<usize>) -> Place {
        let start = floor_boundary(source, span.start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |at| start + at);
        let end = floor_boundary(source, span.end).clamp(start, line_end);
        Place::File {
            file: file.to_owned(),
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: mask_passwords(source[line_start..line_end].trim_end()),
            length: source[start..end].trim_end().chars().count().max(1),
        }
    }

    fn order(&self) -> (u8, usize, usize) {
        match self {
            Place::File { line, column, .. } => (0, *line, *column),
            Place::Environment { .. } => (1, 0, 0),
            Place::Flag { .. } => (2, 0, 0),
            Place::Default => (3, 0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File {
                file, line, column, ..
            } => write!(f, "{}:{line}:{column}", file.display()),
            Place::Environment { name } => write!(f, "environment variable {name}"),
            Place::Flag { name } => write!(f, "flag {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

impl Diagnostic {
    /// On one line, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        let help = self.help.as_ref().map(|help| format!("; {help}"));
        format!(
            "{}: {}{}",
            self.place,
            self.message,
            help.unwrap_or_default()
        )
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        let mut margin = 1;
        if let Place::File {
            line,
            column,
            text,
            length,
            ..
        } = &self.place
        {
            let number = line.to_string();
            margin = number.len();
            // Tabs stay tabs, so that the caret stands under its character.
            let keep_tabs = |c: char| if c == '\t' { '\t' } else { ' ' };
            let indent: String = text.chars().take(column - 1).map(keep_tabs).collect();
            writeln!(f, "{:margin$}--> {}", "", self.place)?;
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{number} | {text}")?;
            write!(f, "{:margin$} | {indent}{}", "", "^".repeat(*length))?;
        } else {
            write!(f, "{:margin$}--> {}", "", self.place)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:margin$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// In the order of the file, then the environment, then the flags.
pub(super) fn sort(mistakes: &mut [Diagnostic]) {
    mistakes.sort_by_key(|mistake| mistake.place.order());
}

struct Report<'a>(&'a [Diagnostic]);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{mistake}")?;
        }
        Ok(())
    }
}

/// The text with the password of a url replaced by as many stars, so that columns stay where they are.
///
/// From the first `:` behind `://` to the last `@`: a password may hold anything, unescaped quotes and spaces included, and
/// one star too many does no harm.
pub(super) fn mask_passwords(text: &str) -> String {
    let secret = text.find("://").and_then(|scheme| {
        let start = scheme + 3 + text[scheme + 3..].find(':')? + 1;
        let end = start + text[start..].rfind('@')?;
        Some(start..end)
    });
    match secret {
        Some(secret) => {
            let stars = "*".repeat(text[secret.clone()].chars().count());
            format!("{}{stars}{}", &text[..secret.start], &text[secret.end..])
        }
        None => text.to_owned(),
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
