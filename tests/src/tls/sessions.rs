//! Sessions where they do not belong: a store that offers what one server gave to every other, and a certificate that is shown only
//! while it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme};

use crate::pki::Pair;

/// A store that does not care whose sessions it keeps.
#[derive(Debug)]
pub struct SharedSessions {
    sessions: ClientSessionMemoryCache,
    offered: AtomicUsize,
}

impl SharedSessions {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<SharedSessions> {
        Arc::new(SharedSessions {
            sessions: ClientSessionMemoryCache::new(32),
            offered: AtomicUsize::new(0),
        })
    }

    /// How often a session was there to be offered.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.offered.load(Ordering::SeqCst)
    }
}

fn anyone() -> ServerName<'static> {
    "anyone".try_into().unwrap()
}

impl ClientSessionStore for SharedSessions {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(anyone(), group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(&anyone())
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(anyone(), value);
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let found = self.sessions.tls12_session(&anyone());
        self.offered
            .fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
        found
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(&anyone());
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(anyone(), value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let found = self.sessions.take_tls13_ticket(&anyone());
        self.offered
            .fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
        found
    }
}

/// A certificate that is shown, until it is not.
#[derive(Debug)]
pub struct Switch {
    key: Arc<CertifiedKey>,
    on: AtomicBool,
}

impl Switch {
    /// Shows this one.
    #[must_use]
    pub fn on(pair: &Pair) -> Arc<Switch> {
        Arc::new(Switch {
            key: pair.certified_key(),
            on: AtomicBool::new(true),
        })
    }

    /// Shows nothing from now on.
    pub fn off(&self) {
        self.on.store(false, Ordering::SeqCst);
    }
}

impl ResolvesClientCert for Switch {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let on = self.on.load(Ordering::SeqCst);
        on.then(|| Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
