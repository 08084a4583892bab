//! What has been verified lately. A client that comes again with the same chain, be it resumed or not, costs a digest instead of the
//! signatures of its chain; dates and the lists' next updates are still looked at.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;

use super::span::Span;
use crate::tls::identity::Identity;

/// Chains in one generation. There are two, of some 2 KiB each chain.
const GENERATION: usize = 1024;

/// A chain that was good, and for how long it is.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) span: Span,
    pub(super) identity: Arc<Identity>,
}

/// SHA-256 over a chain.
pub(super) type Digest = [u8; 32];

/// Of one verifier: what counts changes with its authorities and lists. Only what was good is remembered, so nobody without a
/// certificate can fill it.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    new: HashMap<Digest, Arc<Verified>>,
    old: HashMap<Digest, Arc<Verified>>,
}

impl Memory {
    pub(super) fn digest(
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Digest {
        let mut context = Context::new(&SHA256);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Verified>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.new.get(digest) {
            return Some(Arc::clone(found));
        }
        let found = generations.old.remove(digest)?;
        generations.insert(*digest, Arc::clone(&found));
        Some(found)
    }

    pub(super) fn insert(&self, digest: Digest, verified: Verified) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.insert(digest, Arc::new(verified));
    }
}

impl Generations {
    /// What has not been asked for during a whole generation is forgotten.
    fn insert(&mut self, digest: Digest, verified: Arc<Verified>) {
        if self.new.len() >= GENERATION {
            self.old = mem::take(&mut self.new);
        }
        self.new.insert(digest, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who comes again stays, and what does not is forgotten, so that it never holds more than two generations.
    #[test]
    fn forgets_what_nobody_asks_for() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default();
        let certificate = certificate.self_signed(&key).unwrap();
        let identity = Arc::new(Identity::of(certificate.der()).unwrap());
        let memory = Memory::default();
        let digest = |number: usize| {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        for number in 0..3 * GENERATION {
            let verified = Verified {
                span: Span::ALWAYS,
                identity: Arc::clone(&identity),
            };
            memory.insert(digest(number), verified);
            assert!(memory.find(&digest(0)).is_some(), "{number}");
        }
        let generations = memory.0.lock().unwrap();
        assert!(generations.new.len() + generations.old.len() <= 2 * GENERATION);
        drop(generations);
        assert!(memory.find(&digest(1)).is_none());
        let chain = |parts: &[&[u8]]| {
            let parts: Vec<_> = parts.iter().copied().map(CertificateDer::from).collect();
            Memory::digest(&parts[0], &parts[1..])
        };
        assert_ne!(chain(&[b"ab", b"c"]), chain(&[b"a", b"bc"]));
        assert_ne!(chain(&[b"ab"]), chain(&[b"ab", b""]));
    }
}
