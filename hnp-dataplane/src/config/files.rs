//! The files that a configuration names: where they are, which to read again when they change, and whether they can be read.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::model::{Config, EndpointConfig, ListenerTls, Parent, Upstream};

/// What a directory of a certificate may hold, as Kubernetes' TLS secrets and the documented client secret do.
const IN_DIRECTORY: [&str; 7] = [
    "tls.crt",
    "tls.key",
    "ca.crt",
    "server.crt",
    "server.key",
    "client.crt",
    "client.key",
];

/// A file or directory that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The dotted key that names it.
    pub(super) key: String,
    /// Relative paths are resolved.
    pub(super) path: PathBuf,
    /// A certificate, key, authority or revocation list.
    pub(super) tls: bool,
    /// Whether it may be a directory, too.
    pub(super) or_directory: bool,
}

/// How a path is used.
#[derive(Clone, Copy)]
enum Use {
    /// A list of users, a password.
    Plain,
    /// PEM, or a directory with files of PEM.
    Tls,
    /// PEM.
    TlsFile,
}

impl Named {
    /// Why it cannot be read, if it cannot.
    pub(super) fn wrong(&self) -> Option<String> {
        match File::open(&self.path).and_then(|file| file.metadata()) {
            Ok(data) if data.is_dir() && !self.or_directory => Some("it is a directory".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Config {
    /// Every file whose change is a reason to load again: those that the configuration names, and what a directory of
    /// certificates holds or may come to hold. Not the configuration file itself.
    #[must_use]
    pub fn watched_files(&self) -> Vec<PathBuf> {
        watched(self.named_files())
    }

    /// Those of the [watched files](Config::watched_files) that are certificates, keys, authorities and revocation lists.
    #[must_use]
    pub fn tls_files(&self) -> Vec<PathBuf> {
        let mut named = self.named_files();
        named.retain(|named| named.tls);
        watched(named)
    }

    /// Every file and directory that the configuration names, with the key that names it.
    pub(super) fn named_files(&self) -> Vec<Named> {
        let mut copy = self.clone();
        let mut named = Vec::new();
        copy.each_path(&mut |key, path, used| {
            named.push(Named {
                key,
                path: path.clone(),
                tls: !matches!(used, Use::Plain),
                or_directory: matches!(used, Use::Tls),
            });
        });
        named
    }

    /// Makes relative paths start at `directory`, the configuration file's.
    pub(super) fn resolve_paths(&mut self, directory: &Path) {
        self.each_path(&mut |_, path, _| *path = directory.join(&*path));
        // Neither is a file to be read.
        if let Some(intercept) = &mut self.intercept {
            for path in [&mut intercept.control, &mut intercept.pins] {
                *path = directory.join(&*path);
            }
        }
    }

    /// Visits every path: its key, itself, and how it is used. The one list of them.
    fn each_path(&mut self, visit: Visit<'_>) {
        if let Some(path) = &mut self.auth.htpasswd {
            visit("auth.htpasswd".to_owned(), path, Use::Plain);
        }
        if let Some(tls) = &mut self.listener.tls {
            listener(tls, visit);
        }
        for (index, one) in self.endpoints.iter_mut().enumerate() {
            endpoint(one, &format!("endpoints[{index}]"), visit);
        }
        if let Some(to) = &mut self.upstream {
            upstream(to, visit);
        }
    }
}

type Visit<'v> = &'v mut dyn FnMut(String, &mut PathBuf, Use);

fn listener(tls: &mut ListenerTls, visit: Visit<'_>) {
    let at = "listener.tls";
    visit(format!("{at}.certificate"), &mut tls.certificate, Use::Tls);
    one(&mut tls.key, format!("{at}.key"), Use::Tls, visit);
    list(&mut tls.client_ca, &format!("{at}.client-ca"), visit);
    crl(&mut tls.crl, at, visit);
}

fn endpoint(endpoint: &mut EndpointConfig, at: &str, visit: Visit<'_>) {
    visit(
        format!("{at}.certificate"),
        &mut endpoint.certificate,
        Use::Tls,
    );
    one(&mut endpoint.key, format!("{at}.key"), Use::Tls, visit);
    list(&mut endpoint.client_ca, &format!("{at}.client-ca"), visit);
    crl(&mut endpoint.crl, at, visit);
    list(
        &mut endpoint.upstream_ca,
        &format!("{at}.upstream-ca"),
        visit,
    );
    one(
        &mut endpoint.upstream_certificate,
        format!("{at}.upstream-certificate"),
        Use::Tls,
        visit,
    );
    one(
        &mut endpoint.upstream_key,
        format!("{at}.upstream-key"),
        Use::Tls,
        visit,
    );
}

fn upstream(upstream: &mut Upstream, visit: Visit<'_>) {
    let at = "upstream";
    list(&mut upstream.ca, &format!("{at}.ca"), visit);
    one(
        &mut upstream.certificate,
        format!("{at}.certificate"),
        Use::Tls,
        visit,
    );
    one(&mut upstream.key, format!("{at}.key"), Use::Tls, visit);
    if let Some(to) = &mut upstream.parent {
        parent(to, visit);
    }
}

fn parent(parent: &mut Parent, visit: Visit<'_>) {
    let at = "upstream.parent";
    one(
        &mut parent.password_file,
        format!("{at}.password-file"),
        Use::Plain,
        visit,
    );
    list(&mut parent.ca, &format!("{at}.ca"), visit);
    one(
        &mut parent.certificate,
        format!("{at}.certificate"),
        Use::Tls,
        visit,
    );
    one(&mut parent.key, format!("{at}.key"), Use::Tls, visit);
}

fn one(path: &mut Option<PathBuf>, key: String, used: Use, visit: Visit<'_>) {
    if let Some(path) = path {
        visit(key, path, used);
    }
}

fn list(paths: &mut [PathBuf], key: &str, visit: Visit<'_>) {
    each(paths, key, Use::Tls, visit);
}

fn crl(paths: &mut [PathBuf], at: &str, visit: Visit<'_>) {
    each(paths, &format!("{at}.crl"), Use::TlsFile, visit);
}

fn each(paths: &mut [PathBuf], key: &str, used: Use, visit: Visit<'_>) {
    // A single file's place is the key's, whether or not it stands in a list.
    let single = paths.len() == 1;
    for (index, path) in paths.iter_mut().enumerate() {
        let key = match single {
            true => key.to_owned(),
            false => format!("{key}[{index}]"),
        };
        visit(key, path, used);
    }
}

fn watched(named: Vec<Named>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for named in named {
        if named.or_directory && named.path.is_dir() {
            files.extend(IN_DIRECTORY.map(|name| named.path.join(name)));
        } else {
            files.push(named.path);
        }
    }
    files.sort_unstable();
    files.dedup();
    files
}
