//! What verification found lately, under a key that gives no credentials away, and who is waiting for what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// SHA-256 of a random salt of this process and the credentials.
pub(super) type Key = [u8; 32];

/// The user, or `None`: not the right credentials.
pub(super) type Found = Option<Arc<str>>;

/// Credentials remembered of each kind, right and wrong.
const MOST: usize = 4096;

/// How long right credentials are not verified again.
const RIGHT_FOR: Duration = Duration::from_secs(600);

/// How long wrong ones are not: a misconfigured client tries again and again.
const WRONG_FOR: Duration = Duration::from_secs(10);

/// Right and wrong credentials are kept apart, so that a flood of wrong ones does not drive out the right ones.
#[derive(Default)]
pub(super) struct Cache {
    right: HashMap<Key, (Arc<str>, Instant)>,
    wrong: HashMap<Key, Instant>,
    /// Under verification, with those who wait for it.
    running: HashMap<Key, Vec<oneshot::Sender<Found>>>,
}

/// What is to be done about credentials.
pub(super) enum Step {
    /// Nothing: this is known.
    Known(Found),
    /// Wait: they are being verified.
    Wait(oneshot::Receiver<Found>),
    /// Have them verified, and wait.
    Verify(oneshot::Receiver<Found>),
    /// Give up: too many are being verified.
    Busy,
}

impl Cache {
    pub(super) fn step(&mut self, key: &Key, most_running: usize, now: Instant) -> Step {
        if let Some((user, until)) = self.right.get(key)
            && *until > now
        {
            return Step::Known(Some(Arc::clone(user)));
        }
        if self.wrong.get(key).is_some_and(|until| *until > now) {
            return Step::Known(None);
        }
        if !self.running.contains_key(key) && self.running.len() >= most_running {
            return Step::Busy;
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = self.running.entry(*key).or_default();
        waiting.push(sender);
        if waiting.len() == 1 {
            Step::Verify(receiver)
        } else {
            Step::Wait(receiver)
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends a verification and tells those who wait. `None`: it failed, and they are told by the closed channel.
    pub(super) fn finish(&mut self, key: &Key, found: Option<Found>, now: Instant) {
        match &found {
            Some(Some(user)) => insert(
                &mut self.right,
                *key,
                (Arc::clone(user), now + RIGHT_FOR),
                |(_, until)| *until > now,
            ),
            Some(None) => insert(&mut self.wrong, *key, now + WRONG_FOR, |until| *until > now),
            None => {}
        }
        for waiting in self.running.remove(key).unwrap_or_default() {
            if let Some(found) = &found {
                // Whoever does not wait any more need not be told.
                let _ = waiting.send(found.clone());
            }
        }
    }
}

/// Inserts within bounds: what has expired goes first, then any one.
fn insert<V>(map: &mut HashMap<Key, V>, key: Key, value: V, current: impl Fn(&V) -> bool) {
    if map.len() >= MOST {
        map.retain(|_, value| current(value));
        if map.len() >= MOST
            && let Some(any) = map.keys().next().copied()
        {
            map.remove(&any);
        }
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn both_kinds_expire_and_wrong_ones_sooner() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.finish(&key(1), Some(Some("ann".into())), now);
        cache.finish(&key(2), Some(None), now);
        assert!(matches!(cache.step(&key(1), 9, now), Step::Known(Some(user)) if &*user == "ann"));
        assert!(matches!(cache.step(&key(2), 9, now), Step::Known(None)));
        let later = now + Duration::from_secs(60);
        assert!(matches!(
            cache.step(&key(1), 9, later),
            Step::Known(Some(_))
        ));
        assert!(matches!(cache.step(&key(2), 9, later), Step::Verify(_)));
        assert!(matches!(
            cache.step(&key(1), 9, now + RIGHT_FOR),
            Step::Verify(_)
        ));
    }

    #[test]
    fn a_flood_of_wrong_credentials_is_bounded_and_leaves_the_right_ones() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.finish(&key(0), Some(Some("ann".into())), now);
        for n in 1..3 * 4096 {
            cache.finish(&key(n), Some(None), now);
        }
        assert_eq!(cache.wrong.len(), MOST);
        assert!(matches!(cache.step(&key(0), 9, now), Step::Known(Some(_))));
    }
}
