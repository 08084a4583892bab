//! What files held when they were read, so that a change is told from a touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A digest of each of some files' contents. Equal fingerprints: nothing changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    digests: BTreeMap<PathBuf, Option<[u8; 32]>>,
    /// Those of the files that go together, as a certificate and its key do.
    tls: BTreeSet<PathBuf>,
}

impl Fingerprint {
    /// Reads the files. One that cannot be read, or is not a regular file, counts as having no contents: a pipe must not be
    /// read twice.
    ///
    /// Take it *before* the files are read for use: then a change in between shows as a change, and is not lost.
    #[must_use]
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Fingerprint {
        let digest = |path: PathBuf| {
            let digest = digest(&path);
            (path, digest)
        };
        Fingerprint {
            digests: files.into_iter().map(digest).collect(),
            tls: BTreeSet::new(),
        }
    }

    /// The same, of which `files` are certificates, keys, authorities and revocation lists.
    #[must_use]
    pub fn with_tls(mut self, files: impl IntoIterator<Item = PathBuf>) -> Fingerprint {
        let known = files
            .into_iter()
            .filter(|file| self.digests.contains_key(file));
        self.tls = known.collect();
        self
    }

    /// Whether a certificate, key, authority or revocation list of this one is not what it was in `old`, or was not in it.
    #[must_use]
    pub fn tls_differs(&self, old: &Fingerprint) -> bool {
        let differs = |file| self.digests.get(file) != old.digests.get(file);
        self.tls.iter().any(differs)
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self) -> Fingerprint {
        Fingerprint {
            tls: self.tls.clone(),
            ..Fingerprint::of(self.digests.keys().cloned())
        }
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.digests.keys().map(PathBuf::as_path)
    }

    /// This and the files of another.
    pub(super) fn and(mut self, other: Fingerprint) -> Fingerprint {
        self.digests.extend(other.digests);
        self.tls.extend(other.tls);
        self
    }
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::read(path)
        .ok()
        .map(|contents| Sha256::digest(contents).into())
}
