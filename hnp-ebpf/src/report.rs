//! Events for user space.

use hnp_common::{Address, Counter, Event, EventKind};

use crate::maps;

/// What an event says.
pub(crate) struct Facts {
    pub(crate) time: u64,
    pub(crate) netns: u64,
    pub(crate) source: Address,
    pub(crate) source_port: u16,
    pub(crate) destination: Address,
    pub(crate) destination_port: u16,
    pub(crate) pod: u32,
    pub(crate) rule: u32,
    pub(crate) pid: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) duration: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Puts an event into the ring buffer; a full one loses it, and counts that.
#[inline(always)]
pub(crate) fn submit(kind: EventKind, facts: &Facts) {
    let Some(mut entry) = maps::EVENTS.reserve::<Event>(0) else {
        maps::count(facts.pod, Counter::EventsLost);
        return;
    };
    entry.write(Event {
        time: facts.time,
        duration: facts.duration,
        sent: facts.sent,
        received: facts.received,
        netns: facts.netns,
        source: facts.source,
        destination: facts.destination,
        source_port: facts.source_port,
        destination_port: facts.destination_port,
        pod: facts.pod,
        rule: facts.rule,
        pid: facts.pid,
        kind: kind as u32,
        reserved: 0,
        comm: facts.comm,
    });
    entry.submit(0);
}
