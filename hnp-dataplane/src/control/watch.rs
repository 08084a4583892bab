//! Notices that a file's contents changed, however they were changed: written in place, renamed over, removed and made anew,
//! or, as Kubernetes does with ConfigMaps and Secrets, by swapping the symbolic link `..data` beside it.
//!
//! What is watched are directories, never files: a watch of a file follows its inode, and most changes bring a new one. Events
//! only say when to look; whether something changed is for the contents to say. On file systems that report no events (NFS),
//! a change goes unnoticed until SIGHUP.

mod directories;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;
use tokio::sync::Notify;

use crate::config::Fingerprint;

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
    Inotify(#[from] notify::Error),
    /// No thread.
    #[error("cannot start the thread that watches the configuration files: {0}")]
    Thread(#[from] std::io::Error),
}

/// Watches some files until dropped.
#[derive(Debug)]
pub struct Watcher {
    changed: Arc<Notify>,
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the files of `known`. If they differ from it already, that is the first change.
    ///
    /// # Errors
    /// When the kernel grants no inotify instance or no thread.
    pub fn start(known: Fingerprint) -> Result<Watcher, WatchError> {
        let (messages, inbox) = channel();
        let events = messages.clone();
        let inotify = notify::recommended_watcher(move |event| {
            if is_a_change(&event) {
                // Fails only when the thread has ended, as it does when the watcher is dropped.
                let _ = events.send(Message::Happened);
            }
        })?;
        let changed = Arc::new(Notify::new());
        let mut watch = Watch {
            inotify,
            watched: BTreeSet::new(),
            known,
            changed: Arc::clone(&changed),
        };
        let run = move || watch.run(&inbox);
        let thread = std::thread::Builder::new()
            .name("hnp-watch".to_owned())
            .spawn(run)?;
        // The first look, and the first directories.
        let _ = messages.send(Message::Happened);
        Ok(Watcher {
            changed,
            messages,
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
        let _ = self.messages.send(Message::Watch(known));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
enum Message {
    Happened,
    Watch(Fingerprint),
    Stop,
}

/// Whether an event can mean that contents changed. Reading does not, and our own would wake us for ever.
fn is_a_change(event: &notify::Result<notify::Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
        // Something was lost: look.
        Err(_) => true,
    }
}

/// The thread's side.
struct Watch {
    inotify: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    known: Fingerprint,
    changed: Arc<Notify>,
}

impl Watch {
    fn run(&mut self, inbox: &Receiver<Message>) {
        while let Ok(message) = inbox.recv() {
            match message {
                Message::Stop => return,
                // Nothing to wait for: whoever reloaded is done with reading.
                Message::Watch(known) => self.known = known,
                Message::Happened => match self.settle(inbox, QUIET) {
                    Some(known) => self.known = known,
                    None => return,
                },
            }
            self.follow();
            let mut now = self.known.again();
            if now.tls_differs(&self.known) {
                match self.settle(inbox, PAIR_QUIET) {
                    Some(known) => self.known = known,
                    None => return,
                }
                self.follow();
                now = self.known.again();
            }
            if now != self.known {
                self.known = now;
                self.changed.notify_one();
            }
        }
    }

    /// Waits for quiet. Returns what is known by then, `None` to stop.
    fn settle(&self, inbox: &Receiver<Message>, quiet: Duration) -> Option<Fingerprint> {
        let mut known = self.known.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(quiet.min(left)) {
                Ok(Message::Happened) if !left.is_zero() => {}
                Ok(Message::Happened) | Err(RecvTimeoutError::Timeout) => return Some(known),
                Ok(Message::Watch(newer)) => known = newer,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Watches the directories that matter now; links may lead elsewhere than before.
    fn follow(&mut self) {
        // What appears between looking and watching would be missed, so look again until nothing new is found. A path that
        // moves faster than that sends events.
        for _ in 0..8 {
            let wanted = directories::of(self.known.files());
            for gone in self.watched.difference(&wanted) {
                // Fails when the directory itself is gone, and the watch with it.
                let _ = self.inotify.unwatch(gone);
            }
            let news = wanted.difference(&self.watched).count();
            // Also those that are watched: one that was removed and made again has lost its watch.
            for directory in &wanted {
                if let Err(error) = self.inotify.watch(directory, RecursiveMode::NonRecursive) {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "a directory of the configuration cannot be watched: reload with SIGHUP after a change"
                    );
                }
            }
            self.watched = wanted;
            if news == 0 {
                return;
            }
        }
    }
}
