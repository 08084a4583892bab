//! Notices that a file's contents changed, however they were changed: written in place, renamed over, removed and made anew,
//! or, as Kubernetes does with ConfigMaps and Secrets, by swapping the symbolic link `..data` beside it.
//!
//! What is watched are directories, never files: a watch of a file follows its inode, and most changes bring a new one. Events
//! only say when to look; whether something changed is for the contents to say. On file systems that report no events (NFS),
//! a change goes unnoticed until SIGHUP.

mod directories;
mod kernel;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;
use tokio::sync::Notify;

use crate::config::Fingerprint;
use kernel::Directories;

/// A change is looked at once nothing has happened for this long: an editor writes, renames and removes in a burst.
const QUIET: Duration = Duration::from_millis(100);
/// What belongs to TLS is looked at after a longer quiet: a certificate and its key are often written one after the other, and
/// neither does without the other.
const PAIR_QUIET: Duration = Duration::from_millis(500);
/// A change is looked at after this long in any case (and a pair after as long again): beside a busy file it is never quiet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why files cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// inotify refused.
    #[error(
        "cannot watch the configuration files for changes: {0}; raise fs.inotify.max_user_instances, or reload with SIGHUP"
    )]
    Inotify(io::Error),
    /// No thread.
    #[error("cannot start the thread that watches the configuration files: {0}")]
    Thread(io::Error),
}

/// Watches some files until dropped.
#[derive(Debug)]
pub struct Watcher {
    changed: Arc<Notify>,
    messages: Sender<Message>,
    /// Rung after each message: the thread waits for it and for the kernel at once.
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the files of `known`. If they differ from it already, that is the first change.
    ///
    /// # Errors
    /// When the kernel grants no inotify instance or no thread.
    pub fn start(known: Fingerprint) -> Result<Watcher, WatchError> {
        let (messages, inbox) = channel();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_value_and_flags(0, flags);
        let bell = Arc::new(bell.map_err(|error| WatchError::Inotify(error.into()))?);
        let changed = Arc::new(Notify::new());
        let watch = Watch {
            directories: Directories::new().map_err(WatchError::Inotify)?,
            inbox,
            bell: Arc::clone(&bell),
            known,
            changed: Arc::clone(&changed),
        };
        let thread = std::thread::Builder::new()
            .name("hnp-watch".to_owned())
            .spawn(move || watch.run())
            .map_err(WatchError::Thread)?;
        Ok(Watcher {
            changed,
            messages,
            bell,
            thread: Some(thread),
        })
    }

    /// Completes when a file's contents have changed since the last completion, however often. Cancel-safe; runs on any
    /// executor.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches the files of `known` from now on, as after a reload that names other files. If they differ from it already,
    /// that is a change.
    pub fn watch(&self, known: Fingerprint) {
        self.tell(Message::Watch(known));
    }

    fn tell(&self, message: Message) {
        // Fails only when the thread has ended.
        let _ = self.messages.send(message);
        // Fails only when it has been rung 2^64 times.
        let _ = self.bell.write(1);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tell(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
enum Message {
    Watch(Fingerprint),
    Stop,
}

/// It is over.
struct Stopped;

/// The thread's side.
struct Watch {
    directories: Directories,
    inbox: Receiver<Message>,
    bell: Arc<EventFd>,
    known: Fingerprint,
    changed: Arc<Notify>,
}

impl Watch {
    fn run(mut self) {
        // The first look, and the first directories: as if something had happened.
        let mut happened = true;
        loop {
            // After `watch` there is nothing to wait for: whoever reloaded is done with reading.
            let looked = match happened {
                true => self.settle(QUIET).and_then(|()| self.look()),
                false => self.look(),
            };
            let next = looked.and_then(|()| self.next());
            match next {
                Ok(next) => happened = next,
                Err(Stopped) => return,
            }
        }
    }

    /// Looks whether something changed, and tells of it.
    fn look(&mut self) -> Result<(), Stopped> {
        self.directories.follow(&self.known);
        let mut now = self.known.again();
        if now.tls_differs(&self.known) {
            self.settle(PAIR_QUIET)?;
            self.directories.follow(&self.known);
            now = self.known.again();
        }
        if now != self.known {
            self.known = now;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits until there is reason to look: whether something happened, rather than was told.
    fn next(&mut self) -> Result<bool, Stopped> {
        loop {
            let happened = self.directories.wait(&self.bell);
            if self.listen()? {
                return Ok(false);
            }
            if happened {
                return Ok(true);
            }
        }
    }

    /// Waits for quiet: until nothing has happened for a time, or patience ends.
    ///
    /// Events are taken only between such times, never as they come: a log that notes our own reading of them (strace's) would
    /// else keep us reading for ever.
    fn settle(&mut self, quiet: Duration) -> Result<(), Stopped> {
        let deadline = Instant::now() + PATIENCE;
        self.directories.take();
        loop {
            let until = deadline.min(Instant::now() + quiet);
            while kernel::rung(&self.bell, until) {
                self.listen()?;
            }
            if !self.directories.take() || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    /// Takes what was told. Gives whether it was anything.
    fn listen(&mut self) -> Result<bool, Stopped> {
        // Before the messages: what is told after they were taken rings again.
        let _ = self.bell.read();
        let mut told = false;
        loop {
            match self.inbox.try_recv() {
                Ok(Message::Watch(known)) => {
                    self.known = known;
                    told = true;
                }
                Err(TryRecvError::Empty) => return Ok(told),
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return Err(Stopped),
            }
        }
    }
}
