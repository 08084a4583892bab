//! What is measured.

use super::load::Load;
use crate::placement::Placement;

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line and in JSON; the parts before each `/` name its groups.
    pub key: &'static str,
    /// Its heading in tables.
    pub title: &'static str,
    pub(super) load: Load,
    pub(super) door: Door,
    /// Connections at once.
    pub(super) connections: u32,
    /// Which CPUs the processes use.
    pub(super) placement: Placement,
}

/// How the generator comes to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// In plaintext; the proxy goes on with mTLS.
    Plain,
    /// With mTLS; the proxy goes on with mTLS.
    Mutual,
    /// With mTLS to what comes nearest to a tunnel.
    Tunnel,
}

impl Scenario {
    /// Whether connections are opened and held while memory is looked at; such a scenario starts with a fresh proxy.
    pub(super) fn holds(&self) -> bool {
        self.load == Load::Hold
    }

    /// Whether bytes are what counts.
    pub(super) fn is_bulk(&self) -> bool {
        self.key.starts_with("bulk")
    }

    /// Whether the relay without TLS, the machine's limit, can be measured beside.
    pub(super) fn has_relay(&self) -> bool {
        matches!(self.load, Load::Requests { .. })
    }

    /// Whether a name given on the command line (`bulk`, `bulk/out`, `bulk/out/down`) means this one.
    pub fn is_named(&self, name: &str) -> bool {
        self.key
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Bytes of a small body and of a large one.
const SMALL: u64 = 1 << 10;
const LARGE: u64 = 1 << 20;
/// Connections held: two descriptors of the proxy each, and the machines that this runs on give 20,000.
const HELD: u32 = 4000;

const FULL: Load = Load::Handshakes { resume: false };
const RESUMED: Load = Load::Handshakes { resume: true };
const GET: Load = Load::Requests { up: 0, down: SMALL };
const POST: Load = Load::Requests {
    up: SMALL,
    down: SMALL,
};
const DOWNLOAD: Load = Load::Requests { up: 0, down: LARGE };
const UPLOAD: Load = Load::Requests { up: LARGE, down: 0 };

/// All of them, in the order of the report.
#[rustfmt::skip]
pub const ALL: [Scenario; 12] = [
    handshakes("handshake/full", "full handshakes (connect, mTLS handshake, one small GET, close), 32 at a time", FULL),
    handshakes("handshake/resumed", "the same, every one resumed by a ticket", RESUMED),
    requests("requests/out/get", "keep-alive, plain in, mTLS out: GET, 1 KiB answered; 32 connections", GET, Door::Plain),
    requests("requests/out/post", "keep-alive, plain in, mTLS out: POST of 1 KiB, 1 KiB answered; 32 connections", POST, Door::Plain),
    requests("requests/both/get", "keep-alive, mTLS in and out: GET, 1 KiB answered; 32 connections", GET, Door::Mutual),
    requests("requests/both/post", "keep-alive, mTLS in and out: POST of 1 KiB, 1 KiB answered; 32 connections", POST, Door::Mutual),
    bulk("bulk/out/down", "1 MiB bodies, plain in, mTLS out, download; 8 connections", DOWNLOAD, Door::Plain),
    bulk("bulk/out/up", "1 MiB bodies, plain in, mTLS out, upload; 8 connections", UPLOAD, Door::Plain),
    bulk("bulk/both/down", "1 MiB bodies, mTLS in and out, download; 8 connections", DOWNLOAD, Door::Mutual),
    bulk("bulk/both/up", "1 MiB bodies, mTLS in and out, upload; 8 connections", UPLOAD, Door::Mutual),
    held("idle/tunnel", "4,000 idle tunnels over mTLS, each used once", Door::Tunnel),
    held("idle/keep-alive", "4,000 idle keep-alive connections over mTLS, each after one request", Door::Mutual),
];

const fn handshakes(key: &'static str, title: &'static str, load: Load) -> Scenario {
    Scenario {
        key,
        title,
        load,
        door: Door::Mutual,
        connections: 32,
        placement: Placement::Apart,
    }
}

const fn requests(key: &'static str, title: &'static str, load: Load, door: Door) -> Scenario {
    Scenario {
        key,
        title,
        load,
        door,
        connections: 32,
        placement: Placement::Apart,
    }
}

const fn bulk(key: &'static str, title: &'static str, load: Load, door: Door) -> Scenario {
    Scenario {
        key,
        title,
        load,
        door,
        connections: 8,
        placement: Placement::Apart,
    }
}

const fn held(key: &'static str, title: &'static str, door: Door) -> Scenario {
    Scenario {
        key,
        title,
        load: Load::Hold,
        door,
        connections: HELD,
        placement: Placement::Free,
    }
}
