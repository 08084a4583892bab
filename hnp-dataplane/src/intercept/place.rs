//! Which pod is meant: from a path or a process to a cgroup, its name and its network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::InterceptError;
use crate::redirect::{NetNs, cgroup2_mount};

/// A pod that may be intercepted.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) cgroup: PathBuf,
    /// The cgroup's number.
    pub(super) number: u64,
    pub(super) label: String,
    pub(super) netns: NetNs,
}

impl Place {
    /// The pod of a cgroup.
    pub(super) fn of_cgroup(path: &Path) -> Result<Place, InterceptError> {
        let mount = cgroup2_mount()?;
        let path = find(&mount, path)?;
        let processes = processes(&path);
        // One may end between being found and being looked at.
        let netns = processes
            .iter()
            .find_map(|pid| NetNs::of_process(*pid).ok())
            .ok_or_else(|| InterceptError::Empty { path: path.clone() })?;
        let number = fs::metadata(&path)
            .map_err(|error| InterceptError::NoCgroup {
                path: path.clone(),
                why: error.to_string(),
            })?
            .ino();
        Ok(Place {
            number,
            label: label(&path),
            cgroup: path,
            netns,
        })
    }

    /// The cgroup of the pod that a process belongs to.
    pub(super) fn cgroup_of_process(pid: u32) -> Result<PathBuf, InterceptError> {
        let file = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&file).map_err(|error| InterceptError::NoProcess {
            pid,
            why: error.to_string(),
        })?;
        let own = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .ok_or_else(|| InterceptError::NoProcess {
                pid,
                why: format!("{file} names no cgroup v2"),
            })?;
        let whole = cgroup2_mount()?.join(own);
        // A container's cgroup is below its pod's, which covers all of them.
        Ok(match pod_uid(&whole) {
            Some((_, pod)) => pod,
            None => whole,
        })
    }
}

/// A path as it stands, or below the mount, as `/proc/PID/cgroup` has it.
fn find(mount: &Path, path: &Path) -> Result<PathBuf, InterceptError> {
    let below = mount.join(path.strip_prefix("/").unwrap_or(path));
    let found = [path, &*below]
        .into_iter()
        .find(|path| path.join("cgroup.procs").is_file() && path.starts_with(mount));
    match found {
        Some(found) => Ok(found.to_owned()),
        None => Err(InterceptError::NoCgroup {
            path: path.to_owned(),
            why: format!(
                "it is no cgroup v2 directory, neither itself nor below {}",
                mount.display()
            ),
        }),
    }
}

/// The processes in a cgroup and below, as this process' PID namespace numbers them.
fn processes(cgroup: &Path) -> Vec<u32> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = own
        .lines()
        .filter_map(|line| line.parse().ok())
        // A process of another PID namespace, which cannot be looked at.
        .filter(|pid| *pid != 0)
        .collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// What people call the pod of a cgroup.
fn label(cgroup: &Path) -> String {
    match pod_uid(cgroup) {
        Some((uid, _)) => uid,
        None => cgroup.file_name().map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
    }
}

/// The uid of a Kubernetes pod, and the pod's cgroup: the part of the path down to it. Both drivers' forms:
/// `kubepods-burstable-pod<uid with underscores>.slice` and `kubepods/burstable/pod<uid>`.
fn pod_uid(cgroup: &Path) -> Option<(String, PathBuf)> {
    let mut path = PathBuf::new();
    let mut in_kubepods = false;
    for component in cgroup.components() {
        path.push(component);
        let Component::Normal(name) = component else {
            continue;
        };
        let name = name.to_str()?;
        in_kubepods |= name.contains("kubepods");
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let uid = match name.rsplit_once("-pod") {
            Some((_, uid)) => uid,
            None => match name.strip_prefix("pod") {
                Some(uid) => uid,
                None => continue,
            },
        };
        let uid = uid.replace('_', "-");
        if in_kubepods && is_uid(&uid) {
            return Some((uid, path));
        }
    }
    None
}

/// A UUID; of a static pod, a hash without dashes.
fn is_uid(text: &str) -> bool {
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = text.bytes().filter(|byte| *byte == b'-').count();
    hex == 32 && (dashes == 0 || dashes == 4) && hex + dashes == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_found_in_the_path_of_its_cgroup() {
        let uid = "3f6bbb5c-7a0b-4d1e-9d7e-0c5c2e5f1a2b";
        let scored = uid.replace('-', "_");
        let systemd = format!(
            "/sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{scored}.slice"
        );
        let guaranteed = format!("/sys/fs/cgroup/kubepods.slice/kubepods-pod{scored}.slice");
        let cgroupfs = format!("/sys/fs/cgroup/kubepods/burstable/pod{uid}");
        let nested = format!(
            "/sys/fs/cgroup/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{scored}.slice"
        );
        for pod in [systemd, guaranteed, cgroupfs, nested] {
            assert_eq!(label(Path::new(&pod)), uid, "{pod}");
            let container = format!("{pod}/cri-containerd-0123.scope");
            let (found, cgroup) = pod_uid(Path::new(&container)).unwrap();
            assert_eq!((&*found, &*cgroup), (uid, Path::new(&pod)));
        }
        let fixed = "/x/kubepods.slice/kubepods-podd41d8cd98f00b204e9800998ecf8427e.slice";
        assert_eq!(
            label(Path::new(fixed)),
            "d41d8cd98f00b204e9800998ecf8427e",
            "a static pod has a hash for its uid"
        );
    }

    #[test]
    fn what_is_no_kubernetes_pod_is_called_after_its_cgroup() {
        assert_eq!(label(Path::new("/sys/fs/cgroup/my-pod")), "my-pod");
        assert_eq!(
            label(Path::new("/sys/fs/cgroup/user.slice/app-pod12.scope")),
            "app-pod12.scope"
        );
    }
}
