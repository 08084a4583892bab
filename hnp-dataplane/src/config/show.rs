//! The effective configuration as people and the admin endpoint see it: without secrets, with origins.

use super::diagnostic::Place;
use super::load::Loaded;
use super::model::Config;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Stands where a secret was.
const REDACTED: &str = "***";

impl Config {
    /// The same configuration with every secret replaced: what may be shown, logged and served.
    #[must_use]
    pub fn redacted(&self) -> Config {
        let mut shown = self.clone();
        if let Some(upstream) = &mut shown.upstream {
            redact(&mut upstream.url);
            if let Some(parent) = &mut upstream.parent {
                redact(&mut parent.url);
            }
        }
        shown
    }
}

fn redact(url: &mut url::Url) {
    if url.password().is_some() {
        // Fails for urls without a host only, which have no password.
        let _ = url.set_password(Some(REDACTED));
    }
}

impl Loaded {
    /// The effective configuration as a TOML file that says where each value that is not a default comes from.
    ///
    /// # Errors
    /// Never for a configuration that was loaded; serialization into a string is fallible by type only.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let text = toml::to_string(&self.config.redacted())?;
        Ok(annotate(&text, &self.origins))
    }
}

/// Adds `# from:` to the lines of values that have an origin.
fn annotate(text: &str, origins: &BTreeMap<String, Place>) -> String {
    let mut annotated = String::with_capacity(text.len() * 2);
    let mut table = String::new();
    let mut elements: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        annotated.push_str(line);
        if let Some(list) = line
            .strip_prefix("[[")
            .and_then(|rest| rest.strip_suffix("]]"))
        {
            let next = elements.entry(list.to_owned()).or_insert(0);
            table = format!("{list}[{next}].");
            *next += 1;
        } else if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ")
            && let Some(place) = origins.get(&format!("{table}{key}"))
        {
            // Writing into a string cannot fail.
            let _ = write!(annotated, "  # from: {}", short(place));
        }
        annotated.push('\n');
    }
    annotated
}

fn short(place: &Place) -> String {
    match place {
        Place::File { file, line, .. } => format!("{}:{line}", file.display()),
        other => other.to_string(),
    }
}
