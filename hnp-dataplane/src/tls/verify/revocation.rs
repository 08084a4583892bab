//! Revocation lists (RFC 5280, section 5). Their signatures are checked once, when they are loaded, and not with every handshake.
//!
//! An authority without a list revokes nothing. Of an authority's lists at least one has to be current: when all are past their next
//! update, nobody knows who has been revoked since, and its certificates are refused until a new list is there.

use std::collections::HashSet;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{SubjectPublicKeyInfoDer, UnixTime};
use webpki::OwnedCertRevocationList;

use super::authority::Authorities;
use super::der::{INTEGER, Reader, SEQUENCE};
use super::signature;
use super::{Span, span::time};

/// The lists of one verifier.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    lists: Vec<List>,
}

/// One list.
#[derive(Debug)]
struct List {
    /// The inside of its sequence.
    issuer: Box<[u8]>,
    /// Of what part of the issuer's certificates, as it stands in the list; absent: of all.
    part: Option<Box<[u8]>>,
    next_update: Option<i64>,
    /// Without leading zeros.
    serials: HashSet<Box<[u8]>>,
    signed: Box<[u8]>,
    algorithm: Box<[u8]>,
    signature: Box<[u8]>,
    /// Keys that signed it. More than one only where an authority was given twice.
    signers: Vec<SubjectPublicKeyInfoDer<'static>>,
}

/// Why a list cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    #[error("is malformed")]
    Malformed,
    #[error("is a delta, and HNP wants whole lists")]
    Delta,
    #[error("lists other authorities' certificates, too (indirect), which HNP does not support")]
    Indirect,
    #[error("has an extension that is critical and not supported")]
    Critical,
    #[error("is not signed by the authority whose name it has")]
    Signature,
    #[error("is by an authority whose key usage does not include signing revocation lists")]
    Usage,
}

impl Revocation {
    /// Adds a list. Gives whether it is by one of the authorities; it may be by one of their intermediates.
    pub(crate) fn add(
        &mut self,
        der: &[u8],
        authorities: &Authorities,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<bool, ListError> {
        let mut list = List::read(der)?;
        let mut known = false;
        let mut error = None;
        for authority in authorities.named(&list.issuer) {
            known = true;
            let key = authority.key();
            if !list.is_signed_by(&key, algorithms) {
                error = error.or(Some(ListError::Signature));
            } else if !authority.signs_lists() {
                error = Some(ListError::Usage);
            } else {
                list.signers.push(key.into_owned());
            }
        }
        if let (true, Some(error)) = (list.signers.is_empty(), error) {
            return Err(error);
        }
        self.lists.push(list);
        Ok(known)
    }

    /// Whether there may be a list that matters for what this issuer (the inside of its name) has issued.
    pub(super) fn concerns(&self, issuer: &[u8]) -> bool {
        self.lists.iter().any(|list| *list.issuer == *issuer)
    }

    /// Whether a certificate is revoked by its issuer, which has this name and key. Gives for how long the answer holds.
    pub(super) fn check(
        &self,
        issuer: &[u8],
        key: &SubjectPublicKeyInfoDer<'_>,
        serial: &[u8],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Span, webpki::Error> {
        let mut parts: Vec<(Option<&[u8]>, Option<i64>)> = Vec::new();
        for list in self.lists.iter().filter(|list| *list.issuer == *issuer) {
            let signed = list.signers.iter().any(|signer| signer == key)
                || list.signers.is_empty() && list.is_signed_by(key, algorithms);
            if !signed {
                // By another authority of the same name.
                continue;
            }
            if list.serials.contains(without_zeros(serial)) {
                return Err(webpki::Error::CertRevoked);
            }
            let until = list.next_update;
            match parts
                .iter_mut()
                .find(|(part, _)| *part == list.part.as_deref())
            {
                // The one that is current for longest counts; one that does not say is current for ever.
                Some((_, latest)) => *latest = latest.zip(until).map(|(one, other)| one.max(other)),
                None => parts.push((list.part.as_deref(), until)),
            }
        }
        let mut span = Span::ALWAYS;
        for until in parts.into_iter().filter_map(|(_, until)| until) {
            if super::span::seconds(now) >= until {
                return Err(webpki::Error::CrlExpired {
                    time: now,
                    next_update: super::span::unix(until),
                });
            }
            span.until = span.until.min(until - 1);
        }
        Ok(span)
    }
}

impl List {
    fn read(der: &[u8]) -> Result<Self, ListError> {
        let list = Self::parts(der).ok_or(ListError::Malformed)?;
        let (version, list) = list;
        // A v1 list, which `openssl ca -gencrl` makes without further settings, has no extensions. Those of v2 webpki judges.
        if version == 1 {
            return Ok(list);
        }
        match OwnedCertRevocationList::from_der(der) {
            Ok(parsed) => Ok(Self {
                part: webpki::CertRevocationList::from(parsed)
                    .issuing_distribution_point()
                    .map(Box::from),
                ..list
            }),
            Err(webpki::Error::UnsupportedDeltaCrl) => Err(ListError::Delta),
            Err(webpki::Error::UnsupportedIndirectCrl) => Err(ListError::Indirect),
            Err(
                webpki::Error::UnsupportedCriticalExtension
                | webpki::Error::UnsupportedCrlIssuingDistributionPoint
                | webpki::Error::UnsupportedRevocationReason
                | webpki::Error::UnsupportedRevocationReasonsPartitioning,
            ) => Err(ListError::Critical),
            Err(_) => Err(ListError::Malformed),
        }
    }

    /// Section 5.1. The version with it.
    fn parts(der: &[u8]) -> Option<(u8, Self)> {
        let mut all = Reader::new(der);
        let mut outer = all.sequence()?;
        all.end()?;
        let signed = outer.expect(SEQUENCE)?;
        let algorithm = outer.expect(SEQUENCE)?.contents;
        let signature = outer.bits()?;
        outer.end()?;

        let mut inner = Reader::new(signed.contents);
        let version = match inner.peek()? {
            INTEGER => match inner.next()?.contents {
                [1] => 2,
                _ => return None,
            },
            _ => 1,
        };
        if inner.expect(SEQUENCE)?.contents != algorithm {
            return None;
        }
        let issuer = inner.expect(SEQUENCE)?.contents;
        time(&mut inner)?;
        let next_update = match inner.peek() {
            Some(super::der::UTC_TIME | super::der::GENERALIZED_TIME) => Some(time(&mut inner)?),
            _ => None,
        };
        let mut serials = HashSet::new();
        if inner.peek() == Some(SEQUENCE) {
            let mut entries = inner.sequence()?;
            while entries.peek().is_some() {
                let mut entry = entries.sequence()?;
                let serial = entry.expect(INTEGER)?.contents;
                serials.insert(without_zeros(serial).into());
                if version == 1 {
                    time(&mut entry)?;
                    entry.end()?;
                }
            }
        }
        if version == 1 {
            inner.end()?;
        }
        let list = Self {
            issuer: issuer.into(),
            part: None,
            next_update,
            serials,
            signed: signed.whole.into(),
            algorithm: algorithm.into(),
            signature: signature.into(),
            signers: Vec::new(),
        };
        Some((version, list))
    }

    fn is_signed_by(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        signature::verify(
            key,
            &self.algorithm,
            &self.signed,
            &self.signature,
            algorithms.all,
        )
        .is_ok()
    }
}

fn without_zeros(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial {
        serial = rest;
    }
    serial
}
