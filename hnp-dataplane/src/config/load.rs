//! From sources to a configuration, or to all the reasons why not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::diagnostic::{self, ConfigError, Diagnostic, Place, Severity};
use super::document::Document;
use super::layers::{Overlay, Sources};
use super::model::Config;
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
}

impl Loaded {
    /// The files whose change is a reason to load again: the configuration's own, and those it names.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let named = self.config.files().into_iter().map(Path::to_owned);
        self.file.iter().cloned().chain(named).collect()
    }
}

/// Reads the sources: at start, and at every reload.
///
/// # Errors
/// When there is nothing to read, when the file cannot be read, and with every mistake in file, environment and flags.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let overlay = Overlay::of(sources);
    let Some(file) = &sources.file else {
        if overlay.diagnostics.is_empty() && !overlay.paths().any(|path| path == "upstream.url") {
            return Err(ConfigError::Nothing);
        }
        return assemble(&Document::parse(Path::new(""), ""), &overlay, None);
    };
    let read_error = |source| ConfigError::Read {
        path: file.clone(),
        source,
    };
    // Absolute now: a reload may find another working directory.
    let absolute = std::path::absolute(file).map_err(read_error)?;
    let text = std::fs::read_to_string(&absolute).map_err(read_error)?;
    assemble(&Document::parse(file, &text), &overlay, Some(absolute))
}

fn assemble(
    document: &Document<'_>,
    overlay: &Overlay,
    file: Option<PathBuf>,
) -> Result<Loaded, ConfigError> {
    let mut found = document.mistakes.clone();
    found.extend(overlay.diagnostics.iter().cloned());
    found.extend(missing(document, overlay));
    if found.iter().any(is_error) {
        return Err(invalid(found));
    }
    let place = |path: &str| {
        overlay
            .place(path)
            .or_else(|| document.place(path))
            .unwrap_or(Place::Default)
    };
    let error = |message: String| Diagnostic {
        severity: Severity::Error,
        key: String::new(),
        message: diagnostic::mask_passwords(&message),
        help: None,
        place: place(""),
    };

    let mut values = document
        .values()
        .map_err(|mistake| invalid(vec![*mistake]))?;
    overlay.lay_over(&mut values);
    // Nothing is left for serde to refuse; if something is, it is refused in serde's words.
    let mut config =
        Config::deserialize(values).map_err(|refusal| invalid(vec![error(refusal.to_string())]))?;
    if let Some(directory) = file.as_deref().and_then(Path::parent) {
        config.resolve_paths(directory);
    }
    found.extend(
        validate::findings(&config)
            .into_iter()
            .map(|finding| Diagnostic {
                severity: finding.severity,
                place: place(&finding.key),
                key: finding.key,
                message: finding.message,
                help: Some(finding.help),
            }),
    );
    if found.iter().any(is_error) {
        return Err(invalid(found));
    }
    diagnostic::sort(&mut found);
    let set = document.paths().chain(overlay.paths());
    let origins = set.map(|path| (path.to_owned(), place(path))).collect();
    Ok(Loaded {
        config,
        warnings: found,
        file,
        origins,
    })
}

/// The required keys of tables that are there without them.
fn missing(document: &Document<'_>, overlay: &Overlay) -> Vec<Diagnostic> {
    let mut missing = Vec::new();
    for table in schema::TOP.all() {
        let within = |path: &str| {
            path.strip_prefix(table.path)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let present = document.sets(table.path) || overlay.paths().any(within);
        for key in table
            .keys
            .iter()
            .filter(|key| matches!(key.kind, Kind::Required(_)))
        {
            let path = table.path_of(key.name);
            if !present || document.sets(&path) || overlay.paths().any(|set| set == path) {
                continue;
            }
            let place = document.place(table.path);
            let set_within = || {
                overlay
                    .paths()
                    .find(|path| within(path))
                    .and_then(|path| overlay.place(path))
            };
            missing.push(Diagnostic {
                severity: Severity::Error,
                message: format!("`{path}` is missing: [{}] needs it", table.path),
                help: Some(format!("add `{} = …`{}", key.name, alternative(&path))),
                key: path,
                place: place.or_else(set_within).unwrap_or(Place::Default),
            });
        }
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

fn invalid(mut found: Vec<Diagnostic>) -> ConfigError {
    found.retain(is_error);
    diagnostic::sort(&mut found);
    ConfigError::Invalid(found)
}
