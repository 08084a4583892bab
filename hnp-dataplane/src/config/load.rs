//! From sources to a configuration, or to all the reasons why not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::diagnostic::{self, ConfigError, Diagnostic, Place, Severity};
use super::document::Document;
use super::fingerprint::Fingerprint;
use super::layers::{Overlay, Sources};
use super::model::{Config, Mode};
use super::schema::{self, Kind};
use super::validate;

/// A configuration to run with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says; relative paths are resolved.
    pub config: Config,
    /// What is allowed and probably not meant: log each at start and at reload.
    pub warnings: Vec<Diagnostic>,
    /// The file it was read from, absolute.
    pub file: Option<PathBuf>,
    /// Where each value that is not a default was set, by dotted path.
    pub origins: BTreeMap<String, Place>,
    /// The files it was read from, its own and those it names, and what they held: their change is a reason to load again.
    pub fingerprint: Fingerprint,
}

/// Reads the sources: at start, and at every reload.
///
/// # Errors
/// When there is nothing to read, when the file cannot be read, and with every mistake in file, environment and flags.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let overlay = Overlay::of(sources);
    let names_upstream = overlay.paths().any(|path| path == "upstream.url");
    if sources.file.is_none() && overlay.diagnostics.is_empty() && !names_upstream {
        return Err(ConfigError::Nothing);
    }
    load_any(sources)
}

/// As [`load`], for a command that can do without any configuration.
///
/// # Errors
/// When the file cannot be read, and with every mistake in file, environment and flags.
pub fn load_any(sources: &Sources) -> Result<Loaded, ConfigError> {
    let overlay = Overlay::of(sources);
    let Some(file) = &sources.file else {
        let assembly = Assembly {
            document: Document::parse(Path::new(""), ""),
            overlay,
            file: None,
            fingerprint: Fingerprint::default(),
        };
        return assembly.finish();
    };
    // Absolute: what it names must not depend on the working directory.
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    let fingerprint = Fingerprint::of([absolute.clone()]);
    let text = match std::fs::read_to_string(&absolute) {
        Ok(text) => text,
        Err(source) => {
            return Err(ConfigError::Read {
                path: file.clone(),
                source,
                fingerprint,
            });
        }
    };
    let assembly = Assembly {
        document: Document::parse(file, &text),
        overlay,
        file: Some(absolute),
        fingerprint,
    };
    assembly.finish()
}

/// What is served where nobody says what. The chaos-agent-proxy, which HNP replaces, is told its upstream and its certificate, and serves plaintext
/// requests with them. Whoever asks for credentials gets nothing that does without.
fn usual_modes(config: &Config) -> Vec<Mode> {
    let mut modes = vec![Mode::Tunnel];
    if config.upstream.is_some() && config.auth.htpasswd.is_none() {
        modes.push(Mode::ReverseProxy);
    }
    modes
}

/// What has been read, on its way to a configuration.
struct Assembly<'s> {
    document: Document<'s>,
    overlay: Overlay,
    file: Option<PathBuf>,
    fingerprint: Fingerprint,
}

impl Assembly<'_> {
    fn finish(mut self) -> Result<Loaded, ConfigError> {
        self.overlay.settle(self.document.text_at("upstream.url"));
        let mut found = self.document.mistakes.clone();
        found.extend(self.overlay.diagnostics.iter().cloned());
        found.extend(missing(&self.document, &self.overlay));
        if found.iter().any(is_error) {
            return Err(self.refuse(found));
        }
        let config = match self.config() {
            Ok(config) => config,
            Err(refusal) => return Err(self.refuse(vec![*refusal])),
        };
        let named = Fingerprint::of(config.watched_files()).with_tls(config.tls_files());
        self.fingerprint = self.fingerprint.and(named);
        found.extend(validate::findings(&config).into_iter().map(|finding| {
            let place = self.place(&finding.key);
            finding.at(place)
        }));
        if found.iter().any(is_error) {
            return Err(self.refuse(found));
        }
        diagnostic::sort(&mut found);
        Ok(Loaded {
            config,
            warnings: found,
            origins: self.origins(),
            file: self.file,
            fingerprint: self.fingerprint,
        })
    }

    /// The layers as one, relative paths resolved.
    fn config(&self) -> Result<Config, Box<Diagnostic>> {
        let mut values = self.document.values()?;
        self.overlay.lay_over(&mut values);
        let modes_are_given = values.contains_key("modes");
        // Nothing is left for serde to refuse; if something is, it is refused in serde's words.
        let mut config = Config::deserialize(values).map_err(|refusal| Diagnostic {
            severity: Severity::Error,
            key: String::new(),
            message: diagnostic::mask_passwords(&refusal.to_string()),
            help: None,
            place: self.place(""),
        })?;
        if let Some(directory) = self.file.as_deref().and_then(Path::parent) {
            config.resolve_paths(directory);
        }
        config.normalize();
        if !modes_are_given {
            config.modes = usual_modes(&config);
        }
        Ok(config)
    }

    fn place(&self, path: &str) -> Place {
        let place = self.overlay.place(path);
        let place = place.or_else(|| self.document.place(path));
        place.unwrap_or(Place::Default)
    }

    fn origins(&self) -> BTreeMap<String, Place> {
        let set = self.document.paths().chain(self.overlay.paths());
        set.map(|path| (path.to_owned(), self.place(path)))
            .collect()
    }

    fn refuse(self, mut mistakes: Vec<Diagnostic>) -> ConfigError {
        mistakes.retain(is_error);
        diagnostic::sort(&mut mistakes);
        ConfigError::Invalid {
            mistakes,
            fingerprint: self.fingerprint,
        }
    }
}

/// The required keys of tables that are there without them.
fn missing(document: &Document<'_>, overlay: &Overlay) -> Vec<Diagnostic> {
    let mut missing = Vec::new();
    for table in schema::TOP.all() {
        for at in instances(table, document, overlay) {
            missing.extend(missing_in(table, &at, document, overlay));
        }
    }
    missing
}

/// The paths at which a table is there: its own, or one for each element of the list it is in.
fn instances(table: &schema::Table, document: &Document<'_>, overlay: &Overlay) -> Vec<String> {
    let within = |path: &str| {
        path.strip_prefix(table.path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let mut instances: Vec<String> = document
        .paths()
        .filter(|path| is_at(path, table.path))
        .map(str::to_owned)
        .collect();
    if instances.is_empty() && overlay.paths().any(within) {
        instances.push(table.path.to_owned());
    }
    instances
}

/// Whether `path` without its indices is `plain`.
fn is_at(path: &str, plain: &str) -> bool {
    let without = path.split('.').map(|part| part.split('[').next());
    without.eq(plain.split('.').map(Some))
}

fn missing_in(
    table: &'static schema::Table,
    at: &str,
    document: &Document<'_>,
    overlay: &Overlay,
) -> Vec<Diagnostic> {
    let set_within = || {
        let within = |path: &&str| path.strip_prefix(at).is_some_and(|p| p.starts_with('.'));
        overlay
            .paths()
            .find(within)
            .and_then(|path| overlay.place(path))
    };
    let place = document.place(at).or_else(set_within);
    let place = place.unwrap_or(Place::Default);
    let header = match at.ends_with(']') {
        true => format!("[[{}]]", table.path),
        false => format!("[{}]", table.path),
    };
    let mut missing = Vec::new();
    for key in table
        .keys
        .iter()
        .filter(|key| matches!(key.kind, Kind::Required(_)))
    {
        let path = format!("{at}.{}", key.name);
        if document.sets(&path) || overlay.paths().any(|set| set == path) {
            continue;
        }
        missing.push(Diagnostic {
            severity: Severity::Error,
            message: format!("`{path}` is missing: {header} needs it"),
            help: Some(format!("add `{} = …`{}", key.name, alternative(&path))),
            key: path,
            place: place.clone(),
        });
    }
    missing
}

fn alternative(path: &str) -> &'static str {
    match path {
        "upstream.url" => ", or set PROXY_URL",
        _ => "",
    }
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}
