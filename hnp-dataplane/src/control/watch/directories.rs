//! Which directories have to be watched so that no way of changing a file goes unnoticed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows in one path (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// The directory of each file, and of each symbolic link on the way to it; where one does not exist, the nearest that does.
pub(super) fn of<'f>(files: impl Iterator<Item = &'f Path>) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for file in files {
        walk(file, &mut directories);
    }
    directories
}

/// Walks an absolute path as the kernel does, one name at a time.
fn walk(file: &Path, directories: &mut BTreeSet<PathBuf>) {
    let mut at = PathBuf::from("/");
    let mut left = names(file);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        if let Ok(target) = std::fs::read_link(&next) {
            links += 1;
            directories.insert(at.clone());
            if links > LINKS {
                return;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(names(&target));
        } else if left.is_empty() || !next.is_dir() {
            // The file, or where the path breaks off: what is missing will appear in here.
            directories.insert(at);
            return;
        } else {
            at = next;
        }
    }
}

/// The names of a path, the first last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}
