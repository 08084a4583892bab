//! Where cgroup v2 is mounted: at `/sys/fs/cgroup` mostly, below it on a host that has v1 as well.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::RedirectError;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The directory of the cgroup v2 hierarchy, as this process sees it.
///
/// # Errors
/// When the list of mounts cannot be read, or holds no cgroup v2.
pub fn cgroup2_mount() -> Result<PathBuf, RedirectError> {
    let mounts = fs::read_to_string(MOUNTINFO).map_err(|error| RedirectError::Path {
        doing: "read",
        path: MOUNTINFO.into(),
        error,
    })?;
    cgroup2_in(&mounts).ok_or(RedirectError::NoCgroup2)
}

/// The directories of the cgroups with these numbers, below `mount`. A number whose cgroup is no more has none.
#[must_use]
pub fn cgroup_paths(mount: &Path, numbers: &[u64]) -> HashMap<u64, PathBuf> {
    let mut found = HashMap::new();
    if !numbers.is_empty() {
        visit(mount, &mut |number, path| {
            if numbers.contains(&number) {
                found.insert(number, path.to_owned());
            }
        });
    }
    found
}

/// Calls for every cgroup's number. What vanishes meanwhile is not missed.
pub(super) fn visit(directory: &Path, found: &mut impl FnMut(u64, &Path)) {
    if let Ok(metadata) = fs::metadata(directory) {
        found(metadata.ino(), directory);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), found);
        }
    }
}

/// proc_pid_mountinfo(5): `36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup2 source rw`, with any number of
/// optional fields before the dash.
fn cgroup2_in(mounts: &str) -> Option<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            (filesystem.split(' ').next()? == "cgroup2").then_some((root, point))
        })
        // Several mounts are possible; one of the whole hierarchy shows every pod.
        .min_by_key(|(root, _)| *root != "/")
        .map(|(_, point)| unescape(point))
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let code =
            octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_host_has_it_at_the_usual_place() {
        let mounts = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_in(mounts), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_hybrid_host_has_it_below() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw shared:1 master:2 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_in(mounts), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn the_whole_hierarchy_is_preferred() {
        let mounts = "40 31 0:38 /kubepods/pod1 /mnt/pod rw - cgroup2 none rw\n\
                      41 31 0:38 / /host\\040cgroup rw - cgroup2 none rw\n";
        assert_eq!(cgroup2_in(mounts), Some("/host cgroup".into()));
    }

    #[test]
    fn cgroup_v1_alone_is_not_enough() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup2 rw,cpu\n";
        assert_eq!(cgroup2_in(mounts), None);
    }
}
