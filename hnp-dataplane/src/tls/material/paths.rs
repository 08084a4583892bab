//! Which files a path stands for: itself, or what lies in the directory that it names, as Kubernetes mounts secrets.

use std::path::{Path, PathBuf};

use crate::certs::Fault;

/// For which end of a connection a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
}

impl End {
    /// How the files of a pair may be called, in the order in which they are looked for.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["tls", "server", "client"],
            Self::Client => &["tls", "client"],
        }
    }
}

/// The certificate's file, and the key's. Without a key named, a directory holds it, or the certificate's own file.
pub(super) fn pair(
    end: End,
    certificate: &Path,
    key: Option<&Path>,
) -> Result<(PathBuf, PathBuf), Fault> {
    if !certificate.is_dir() {
        let key = match key {
            Some(key) if key.is_dir() => {
                let stem = certificate.file_stem().unwrap_or_default();
                key.join(stem).with_extension("key")
            }
            Some(key) => key.to_owned(),
            None => certificate.to_owned(),
        };
        return Ok((certificate.to_owned(), key));
    }
    let stems = end.stems();
    let Some(stem) = stems
        .iter()
        .find(|stem| certificate.join(format!("{stem}.crt")).exists())
    else {
        let names: Vec<_> = stems.iter().map(|stem| format!("{stem}.crt")).collect();
        let fault = format!("is a directory without {}", names.join(" or "));
        let remedy = "mount the secret there, or name a file";
        return Err(Fault::new(certificate, fault, remedy));
    };
    let key = match key {
        Some(key) if !key.is_dir() => key.to_owned(),
        other => other.unwrap_or(certificate).join(format!("{stem}.key")),
    };
    Ok((certificate.join(format!("{stem}.crt")), key))
}

/// The file of a bundle.
pub(super) fn bundle(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join("ca.crt"),
        false => path.to_owned(),
    }
}

/// The bundle that comes with a certificate: `ca.crt` beside it, if a directory was named.
pub(crate) fn bundle_beside(certificate: &Path) -> Option<PathBuf> {
    let bundle = certificate.join("ca.crt");
    (certificate.is_dir() && bundle.exists()).then_some(bundle)
}

/// Every file that a path may stand for, whether or not it is there: what to watch.
pub(crate) fn candidates(end: End, path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let stems = end.stems().iter();
    stems
        .flat_map(|stem| [format!("{stem}.crt"), format!("{stem}.key")])
        .chain(["ca.crt".to_owned()])
        .map(|name| path.join(name))
        .collect()
}
