//! Handshakes under way on a worker: bounded in number, so that a flood of half-open ones cannot starve others. When there are
//! too many, the oldest of the client address with the most makes room: who does not finish goes first, who does is quick.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use crate::signal::Signal;

/// The handshakes under way.
#[derive(Debug, Default)]
pub struct Handshakes {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// By age.
    pending: BTreeMap<u64, (IpAddr, Rc<Signal>)>,
    by_client: HashMap<IpAddr, usize>,
}

/// One handshake under way, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    state: Rc<RefCell<State>>,
    number: u64,
    evicted: Rc<Signal>,
}

impl Handshakes {
    /// Enters a handshake with `client`. Beyond `limit`, another one is told to give up.
    #[must_use]
    pub fn begin(&self, client: IpAddr, limit: usize) -> Ticket {
        let mut state = self.state.borrow_mut();
        let victim = (state.pending.len() >= limit.max(1))
            .then(|| state.victim())
            .flatten();
        if let Some(victim) = victim {
            state.evict(victim);
        }
        let number = state.next;
        state.next += 1;
        let evicted = Rc::new(Signal::default());
        state.pending.insert(number, (client, Rc::clone(&evicted)));
        *state.by_client.entry(client).or_default() += 1;
        drop(state);
        Ticket {
            state: Rc::clone(&self.state),
            number,
            evicted,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.borrow().pending.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// The oldest of the client with the most. The search is linear, and happens only in a flood.
    fn victim(&self) -> Option<u64> {
        let (most, _) = self.by_client.iter().max_by_key(|(_, count)| **count)?;
        let mut oldest = self.pending.iter();
        oldest
            .find(|(_, (client, _))| client == most)
            .map(|(number, _)| *number)
    }

    fn evict(&mut self, number: u64) {
        if let Some(signal) = self.remove(number) {
            signal.fire();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Rc<Signal>> {
        let (client, signal) = self.pending.remove(&number)?;
        if let Some(count) = self.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
        Some(signal)
    }
}

impl Ticket {
    /// Ends when this handshake has to make room for another.
    pub async fn evicted(&self) {
        self.evicted.wait().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Absent where it was evicted.
        let _ = self.state.borrow_mut().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn the_oldest_of_the_busiest_client_makes_room() {
        let handshakes = Handshakes::default();
        let good = handshakes.begin(GOOD, 3);
        let first = handshakes.begin(FLOOD, 3);
        let second = handshakes.begin(FLOOD, 3);
        let third = handshakes.begin(FLOOD, 3);
        assert!(first.evicted.fired());
        assert!(!good.evicted.fired() && !second.evicted.fired() && !third.evicted.fired());
        assert_eq!(handshakes.len(), 3);
    }

    #[test]
    fn nothing_is_left_of_what_has_ended() {
        let handshakes = Handshakes::default();
        let some: Vec<Ticket> = (0..10).map(|_| handshakes.begin(FLOOD, 5)).collect();
        assert_eq!(handshakes.len(), 5);
        drop(some);
        assert!(handshakes.is_empty());
        assert!(handshakes.state.borrow().by_client.is_empty());
    }
}
