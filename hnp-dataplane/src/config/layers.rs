//! Where values come from: defaults, then the file, then the environment, then flags; the later wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::diagnostic::{Diagnostic, Place, Severity};
use super::document::wrongs;
use super::schema;

/// Everything that a configuration is made of; kept for the next reload.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if one is named.
    pub file: Option<PathBuf>,
    /// The environment's part.
    pub environment: Environment,
    /// The command line's part.
    pub flags: Flags,
}

/// The environment variables that HNP knows, as they were at start.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    known: BTreeMap<&'static str, String>,
    unreadable: Vec<&'static str>,
}

/// Names the file, when `--config` does not.
pub const HNP_CONFIG: &str = "HNP_CONFIG";
/// The manager's url.
pub const PROXY_URL: &str = "PROXY_URL";
/// Variables of HNP's client certificate and its key. Of pairs that name different files the first is used.
const CERTIFICATES: [[&str; 2]; 2] = [
    ["PROXY_CLIENT_CERT_PATH", "PROXY_CLIENT_KEY_PATH"],
    ["CLIENT_CERT_PATH", "CLIENT_KEY_PATH"],
];
/// The keys that they set.
const CERTIFICATE_KEYS: [&str; 2] = ["upstream.certificate", "upstream.key"];

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Environment {
        Environment::read(|name| std::env::var_os(name))
    }

    /// One that `lookup` answers for. An empty variable counts as unset: charts render values that nobody set as empty.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Environment {
        let mut environment = Environment::default();
        let names = CERTIFICATES.into_iter().flatten();
        for name in [HNP_CONFIG, PROXY_URL].into_iter().chain(names) {
            match lookup(name).map(OsString::into_string) {
                None => {}
                Some(Ok(text)) if text.trim().is_empty() => {}
                Some(Ok(text)) => {
                    environment.known.insert(name, text);
                }
                Some(Err(_)) => environment.unreadable.push(name),
            }
        }
        environment
    }

    /// The file that `HNP_CONFIG` names.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.known.get(HNP_CONFIG).map(PathBuf::from)
    }

    fn overrides(&self) -> Vec<Override> {
        let url = self.known.get(PROXY_URL);
        let url = url.map(|url| Override {
            path: "upstream.url",
            value: url.trim().into(),
            place: Place::Environment { name: PROXY_URL },
        });
        url.into_iter().chain(self.certificate()).collect()
    }

    /// HNP's client certificate and its key.
    fn certificate(&self) -> Vec<Override> {
        let Some(pair) = self.certificate_pairs().next() else {
            return Vec::new();
        };
        let set = pair.into_iter().zip(CERTIFICATE_KEYS);
        let set = set.filter_map(|(name, path)| {
            // Relative to where HNP was started, as paths of the environment are, and not to the file.
            let file = PathBuf::from(self.known.get(name)?.trim());
            let file = std::path::absolute(&file).unwrap_or(file);
            Some(Override {
                path,
                value: file.to_string_lossy().into_owned().into(),
                place: Place::Environment { name },
            })
        });
        set.collect()
    }

    /// The pairs of which at least one variable is set.
    fn certificate_pairs(&self) -> impl Iterator<Item = [&'static str; 2]> {
        let set = |pair: &[&'static str; 2]| pair.iter().any(|name| self.known.contains_key(name));
        CERTIFICATES.into_iter().filter(set)
    }

    /// What in the environment is not used, or cannot be read.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let pairs: Vec<[&'static str; 2]> = self.certificate_pairs().collect();
        let unused = match pairs.as_slice() {
            [used, unused] if self.values(used) != self.values(unused) => Some(Diagnostic {
                severity: Severity::Warning,
                key: String::new(),
                message: format!(
                    "{} and {} name other files than {} and {}, and are not used",
                    unused[0], unused[1], used[0], used[1]
                ),
                help: Some("unset one of the pairs".to_owned()),
                place: Place::Environment { name: unused[0] },
            }),
            _ => None,
        };
        let unreadable = self.unreadable.iter().map(|name| Diagnostic {
            severity: Severity::Error,
            key: String::new(),
            message: format!("{name} is not UTF-8"),
            help: None,
            place: Place::Environment { name },
        });
        unused.into_iter().chain(unreadable).collect()
    }

    fn values(&self, pair: &[&'static str; 2]) -> [Option<&String>; 2] {
        pair.map(|name| self.known.get(name))
    }
}

/// What the command line says; `None` and empty say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, any number of times.
    pub listen: Vec<String>,
    /// `--proxy-url`.
    pub proxy_url: Option<String>,
    /// `--parent-proxy`.
    pub parent_proxy: Option<String>,
    /// `--workers`.
    pub workers: Option<u32>,
    /// `--backend`.
    pub backend: Option<String>,
    /// `--admin`: an address or `off`.
    pub admin: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
}

impl Flags {
    fn overrides(&self) -> Vec<Override> {
        let text = |path, name, value: &Option<String>| {
            let place = Place::Flag { name };
            value.as_deref().map(|value| Override {
                path,
                value: value.into(),
                place,
            })
        };
        let listen = (!self.listen.is_empty()).then(|| Override {
            path: "listener.address",
            value: self
                .listen
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .into(),
            place: Place::Flag { name: "--listen" },
        });
        let workers = self.workers.map(|workers| Override {
            path: "workers",
            value: i64::from(workers).into(),
            place: Place::Flag { name: "--workers" },
        });
        let overrides = [
            listen,
            text("upstream.url", "--proxy-url", &self.proxy_url),
            text("upstream.parent.url", "--parent-proxy", &self.parent_proxy),
            workers,
            text("backend", "--backend", &self.backend),
            text("admin.address", "--admin", &self.admin),
            text("log.format", "--log-format", &self.log_format),
            text("log.level", "--log-level", &self.log_level),
        ];
        overrides.into_iter().flatten().collect()
    }
}

/// One value laid over the file.
struct Override {
    path: &'static str,
    value: toml::Value,
    place: Place,
}

impl Override {
    fn place_name(&self) -> &'static str {
        match &self.place {
            Place::Environment { name } | Place::Flag { name } => name,
            Place::File { .. } | Place::Default => "the value",
        }
    }
}

fn starts_with_http(url: &str) -> bool {
    let scheme = url.get(.."http://".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// What environment and flags change.
pub(super) struct Overlay {
    overrides: Vec<Override>,
    /// What is wrong with them, and what is not served.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Overlay {
    pub(super) fn of(sources: &Sources) -> Overlay {
        let mut overrides = sources.environment.overrides();
        let mut diagnostics = sources.environment.diagnostics();
        // Later wins: a variable that a flag overrides is not looked at.
        for flag in sources.flags.overrides() {
            overrides.retain(|earlier| earlier.path != flag.path);
            overrides.push(flag);
        }
        diagnostics.extend(overrides.iter().flat_map(check));
        Overlay {
            overrides,
            diagnostics,
        }
    }

    /// Takes back what has no meaning with the upstream's url, which the file gives unless the overlay does: deployments name a
    /// certificate in the environment, whatever the url.
    pub(super) fn settle(&mut self, url_of_file: Option<String>) {
        let given = self.overrides.iter();
        let mut given = given.filter(|layer| layer.path == "upstream.url");
        let url = given.find_map(|layer| layer.value.as_str().map(str::to_owned));
        let url = url.or(url_of_file);
        let why = match url.as_deref().map(str::trim_start) {
            None => "there is no upstream",
            Some(url) if starts_with_http(url) => "the upstream's url is http://",
            Some(_) => return,
        };
        let environment = |layer: &Override| matches!(layer.place, Place::Environment { name } if name != PROXY_URL);
        let (unused, kept) = std::mem::take(&mut self.overrides)
            .into_iter()
            .partition(environment);
        self.overrides = kept;
        let unused: Vec<Override> = unused;
        self.diagnostics
            .extend(unused.into_iter().map(|layer| Diagnostic {
                severity: Severity::Warning,
                key: layer.path.to_owned(),
                message: format!("{} is not used: {why}", layer.place_name()),
                help: Some("give the upstream an https:// url, or unset the variable".to_owned()),
                place: layer.place,
            }));
    }

    /// Sets the values in `table`.
    pub(super) fn lay_over(&self, table: &mut toml::Table) {
        for layer in &self.overrides {
            let mut within = &mut *table;
            let mut path = layer.path;
            while let Some((name, rest)) = path.split_once('.') {
                let entry = within
                    .entry(name)
                    .or_insert_with(|| toml::Table::new().into());
                let toml::Value::Table(next) = entry else {
                    // The file has something else here: an error already, which names the place.
                    return;
                };
                within = next;
                path = rest;
            }
            within.insert(path.to_owned(), layer.value.clone());
        }
    }

    /// Where a value was set, if environment or flags set it.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        let path = path.split('[').next().unwrap_or(path);
        let layer = self.overrides.iter().find(|layer| layer.path == path);
        layer.map(|layer| layer.place.clone())
    }

    /// The paths of all values set.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.overrides.iter().map(|layer| layer.path)
    }
}

/// What is wrong with a value, by the same rules as in a file.
fn check(layer: &Override) -> Vec<Diagnostic> {
    let Some(kind) = schema::value_at(layer.path) else {
        return Vec::new();
    };
    let text = layer.value.to_string();
    let Ok(value) = toml::de::DeValue::parse(&text) else {
        return Vec::new();
    };
    let wrongs = wrongs(kind, layer.path, &value).into_iter();
    let diagnostic = |wrong: super::document::Wrong| Diagnostic {
        severity: Severity::Error,
        key: wrong.key,
        message: super::diagnostic::mask_passwords(&wrong.message),
        help: Some(super::diagnostic::mask_passwords(&wrong.help)),
        place: layer.place.clone(),
    };
    wrongs.map(diagnostic).collect()
}
