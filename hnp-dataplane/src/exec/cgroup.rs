//! The cgroup that the command runs in, and nobody else.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;

use crate::redirect::{self, RedirectError};

/// How the names of these cgroups begin.
const PREFIX: &str = "hnp-exec-";
/// How often another name is tried.
const TRIES: usize = 16;
/// How long processes may take to leave: one that is ending cannot be moved, and a dump of its memory takes time.
const LEAVING: Duration = Duration::from_secs(2);
/// How long a change is waited for that may not be told, in milliseconds.
const MOMENT: u8 = 10;

/// Why the command has no cgroup.
#[derive(Debug, Error)]
pub(crate) enum CgroupError {
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("cannot make a cgroup for the command below {}: {error}{}", .parent.display(), remedy(.error))]
    Make { parent: PathBuf, error: io::Error },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run hnp as root, or let its user write to that directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; cgroups are mounted read-only here: mount them writable into this container"
        }
        _ => "",
    }
}

/// A cgroup of this process's making. Its directory stays until [`Cgroup::remove`].
///
/// Who holds one holds a lock on its directory, which ends with the process in whatever way: the next `hnp exec` removes
/// what nobody holds.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where processes go that outlive the command.
    parent: PathBuf,
    _held: File,
}

impl Cgroup {
    /// Makes one below the cgroup of this process, so that its limits hold for the command too; below the root of the
    /// hierarchy where that cannot be seen from here.
    ///
    /// # Errors
    /// Where there is no cgroup v2, or none may be made.
    pub(crate) fn make() -> Result<Cgroup, CgroupError> {
        let mount = redirect::cgroup2_mount()?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let parent = own_cgroup(&own)
            .map(|path| mount.join(path))
            .filter(|path| path.join("cgroup.procs").exists())
            .unwrap_or(mount);
        sweep(&parent);
        let fault = |error| CgroupError::Make {
            parent: parent.clone(),
            error,
        };
        for _ in 0..TRIES {
            let path = parent.join(unique());
            if let Some(held) = hold(&path).map_err(fault)? {
                return Ok(Cgroup {
                    path,
                    parent,
                    _held: held,
                });
            }
        }
        Err(fault(io::ErrorKind::AlreadyExists.into()))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that a process writes `0` to in order to come in.
    pub(crate) fn door(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))
    }

    /// The processes in it, those in cgroups that they made themselves included.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = Vec::new();
        visit(&self.path, &mut |directory| {
            all.extend(processes(directory))
        });
        all
    }

    /// Moves out who is left, and removes it. Cgroups that the command made inside stay if they are in use, and this one with them.
    pub(crate) fn remove(self) -> io::Result<()> {
        sweep(&self.path);
        let mut events = File::open(self.path.join("cgroup.events"))?;
        let deadline = Instant::now() + LEAVING;
        loop {
            // Read before the attempt, so that whatever happens after it wakes the wait.
            let populated = is_populated(&mut events)?;
            let error = match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => error,
                result => return result,
            };
            // What is empty and busy has cgroups inside.
            if !populated || Instant::now() >= deadline {
                return Err(error);
            }
            self.move_out();
            await_change(&events)?;
        }
    }

    /// Moves its processes to the parent. One that is ending stays, and is nobody's once it has ended; one that has ended needs no
    /// moving.
    fn move_out(&self) {
        for process in processes(&self.path) {
            let out = OpenOptions::new()
                .write(true)
                .open(self.parent.join("cgroup.procs"));
            let _ = out.and_then(|mut out| out.write_all(process.to_string().as_bytes()));
        }
    }
}

/// Whether a process is in it or in a cgroup below, by its `cgroup.events`. One that is ending counts until it has ended.
fn is_populated(events: &mut File) -> io::Result<bool> {
    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    Ok(!text.lines().any(|line| line == "populated 0"))
}

/// Waits until `cgroup.events` tells something new (cgroups(7): `POLLPRI`), or for a moment: who forks while it is moved leaves a
/// child inside, of which nothing is told.
fn await_change(events: &File) -> io::Result<()> {
    let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
    match poll(&mut waiting, PollTimeout::from(MOMENT)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the directory and locks it. `None`: it was there, or was swept away in between.
fn hold(path: &Path) -> io::Result<Option<File>> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    }
    let Ok(held) = File::open(path) else {
        return Ok(None);
    };
    held.lock_shared()?;
    let ours = held.metadata()?.ino();
    let still_there = fs::metadata(path).is_ok_and(|there| there.ino() == ours);
    Ok(still_there.then_some(held))
}

/// Removes what an `hnp exec` left that was killed. A cgroup with processes in it stays.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Ok(directory) = File::open(entry.path())
            && directory.try_lock().is_ok()
        {
            // What is in use is not removed.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Unique among the processes of this namespace of process numbers; of another one, another number is tried.
fn unique() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{made}", process::id())
}

/// From `/proc/self/cgroup`: the path in the v2 hierarchy, relative to its root. `None` where it lies outside of what this
/// process sees.
fn own_cgroup(text: &str) -> Option<&Path> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = Path::new(path);
    let outside = path.iter().next() == Some(OsStr::new(".."));
    (!outside).then_some(path)
}

fn processes(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn visit(directory: &Path, found: &mut impl FnMut(&Path)) {
    found(directory);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_among_those_of_v1() {
        let hybrid = "3:cpuset:/\n0::/user.slice/session-1.scope\n";
        let expected = Path::new("user.slice/session-1.scope");
        assert_eq!(own_cgroup(hybrid), Some(expected));
        assert_eq!(own_cgroup("0::/\n"), Some(Path::new("")));
        assert_eq!(own_cgroup("0::/../other\n"), None);
        assert_eq!(own_cgroup("3:cpuset:/\n"), None);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = CgroupError::Make {
            parent: "/sys/fs/cgroup/user.slice".into(),
            error: io::Error::from_raw_os_error(libc::EACCES),
        };
        let said = error.to_string();
        assert!(
            said.contains("/sys/fs/cgroup/user.slice") && said.contains("as root"),
            "{said}"
        );
    }

    #[test]
    fn what_nobody_holds_is_swept_and_what_is_held_stays() {
        // The lock is the kernel's for any directory; cgroups are tried by the suite `exec`.
        let directory = tempfile::tempdir().unwrap();
        let (held, left) = (
            directory.path().join("hnp-exec-1-0"),
            directory.path().join("hnp-exec-2-0"),
        );
        let lock = hold(&held).unwrap().unwrap();
        drop(hold(&left).unwrap().unwrap());
        assert!(hold(&held).unwrap().is_none(), "a name is given out once");
        fs::create_dir(directory.path().join("other")).unwrap();
        sweep(directory.path());
        assert!(held.exists() && !left.exists() && directory.path().join("other").exists());
        drop(lock);
        sweep(directory.path());
        assert!(!held.exists());
    }
}
