//! The kernel's side: inotify, read by nobody but the watcher's own thread, and never longer than it can afford.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::directories;
use crate::config::Fingerprint;

/// Buffers of events that are read at once (4 KiB each); what is left then is for the next time.
const READS: usize = 64;

/// What can mean that contents changed. Reading cannot, and our own would wake us for ever.
fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

/// The directories that are watched.
pub(super) struct Directories {
    inotify: Inotify,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
}

impl Directories {
    pub(super) fn new() -> io::Result<Directories> {
        Ok(Directories {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            watched: BTreeMap::new(),
        })
    }

    /// Watches the directories that matter for these files now; links may lead elsewhere than before.
    pub(super) fn follow(&mut self, files: &Fingerprint) {
        // What appears between looking and watching would be missed, so look again until nothing new is found. A path that
        // moves faster than that sends events.
        for _ in 0..8 {
            let wanted = directories::of(files.files());
            let news = wanted
                .iter()
                .any(|directory| !self.watched.contains_key(directory));
            self.watch(&wanted);
            if !news {
                return;
            }
        }
    }

    /// Also adds what is watched already: a directory that was removed and made again has lost its watch.
    fn watch(&mut self, wanted: &BTreeSet<PathBuf>) {
        let mut watched = BTreeMap::new();
        for directory in wanted {
            let flags = changes() | AddWatchFlags::IN_ONLYDIR;
            match self.inotify.add_watch(directory, flags) {
                Ok(watch) => {
                    watched.insert(directory.clone(), watch);
                }
                Err(error) => tracing::warn!(
                    directory = %directory.display(), %error,
                    "a directory of the configuration cannot be watched: reload with SIGHUP after a change"
                ),
            }
        }
        for old in self.watched.values() {
            if !watched.values().any(|watch| watch == old) {
                // Fails when the directory itself is gone, and the watch with it.
                let _ = self.inotify.rm_watch(*old);
            }
        }
        self.watched = watched;
    }

    /// Takes what has happened, as far as it goes at once. Gives whether it was anything.
    pub(super) fn take(&self) -> bool {
        let mut happened = false;
        for _ in 0..READS {
            match self.inotify.read_events() {
                // An overflow is an event, too.
                Ok(_) => happened = true,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        happened
    }

    /// Waits until something happens, which is not taken, or the bell rings. Gives whether something happened.
    pub(super) fn wait(&self, bell: &EventFd) -> bool {
        let mut both = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(bell.as_fd(), PollFlags::POLLIN),
        ];
        // Fails only when it is interrupted, or the kernel is out of memory: the next try tells.
        let _ = poll(&mut both, PollTimeout::NONE);
        both[0].any() == Some(true)
    }
}

/// Waits for the bell. Gives `false` when the time is up.
pub(super) fn rung(bell: &EventFd, until: Instant) -> bool {
    let mut readable = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A part of a millisecond left is a whole one.
        let left = left.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut readable, timeout) {
            Err(Errno::EINTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let mut directories = Directories::new().unwrap();
        directories.watch(&BTreeSet::from([directory.path().to_owned()]));
        std::fs::read(&file).unwrap();
        std::fs::read_dir(directory.path()).unwrap().count();
        assert!(!directories.take(), "reading");
        std::fs::write(&file, "2").unwrap();
        assert!(directories.take(), "writing");
        assert!(!directories.take(), "what was taken");
    }
}
