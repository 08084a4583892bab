//! What files held when they were read, so that a change is told from a touch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A digest of each of some files' contents. Equal fingerprints: nothing changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Option<[u8; 32]>>);

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
        Fingerprint(files.into_iter().map(digest).collect())
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self) -> Fingerprint {
        Fingerprint::of(self.0.keys().cloned())
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// This and the files of another.
    pub(super) fn and(mut self, other: Fingerprint) -> Fingerprint {
        self.0.extend(other.0);
        self
    }
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::read(path)
        .ok()
        .map(|contents| Sha256::digest(contents).into())
}
