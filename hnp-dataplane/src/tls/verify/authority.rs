//! The authorities that clients' certificates are verified against.

use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::Span;

/// One authority.
#[derive(Debug)]
pub(super) struct Authority {
    /// Of each certificate for this name and key: an authority may renew its certificate and keep its key.
    spans: Vec<Span>,
    signs_lists: bool,
    key: SubjectPublicKeyInfoDer<'static>,
    name_constraints: bool,
}

/// Authorities, found by name. Several may have one name: an old one and a new one, or any two made with the same commands.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    /// As webpki wants them. Each one's [`Authority`] stands at the same place.
    anchors: Vec<TrustAnchor<'static>>,
    known: Vec<Authority>,
}

impl Authorities {
    /// Adds an authority's certificate.
    ///
    /// # Errors
    /// It cannot be one; the text says why.
    pub(crate) fn add(&mut self, der: &CertificateDer<'_>) -> Result<(), String> {
        let malformed = || "it is malformed".to_owned();
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        may_sign_certificates(&certificate)?;
        let anchor = webpki::anchor_from_trusted_cert(der)
            .map_err(|_| malformed())?
            .to_owned();
        let span = Span::of(der).ok_or_else(malformed)?;
        let usage = certificate.key_usage().ok().flatten();
        let signs_lists = usage.is_none_or(|usage| usage.value.crl_sign());
        if let Some(index) = self.anchors.iter().position(|one| *one == anchor) {
            let known = &mut self.known[index];
            known.spans.push(span);
            known.signs_lists |= signs_lists;
            return Ok(());
        }
        self.known.push(Authority {
            spans: vec![span],
            signs_lists,
            key: webpki::spki_for_anchor(&anchor),
            name_constraints: anchor.name_constraints.is_some(),
        });
        self.anchors.push(anchor);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// What is known of an anchor.
    pub(super) fn of(&self, anchor: &TrustAnchor<'_>) -> Option<&Authority> {
        let mut all = self.anchors.iter().zip(&self.known);
        all.find(|(one, _)| *one == anchor).map(|(_, known)| known)
    }

    /// The authorities with this name (the inside of the sequence).
    pub(super) fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Authority> {
        let all = self.anchors.iter().zip(&self.known);
        all.filter(move |(anchor, _)| anchor.subject.as_ref() == name)
            .map(|(_, known)| known)
    }

    /// The names that the server sends, so that clients know which of their certificates is asked for.
    pub(super) fn hints(&self) -> Vec<DistinguishedName> {
        let mut names: Vec<&[u8]> = Vec::new();
        for anchor in &self.anchors {
            if !names.contains(&anchor.subject.as_ref()) {
                names.push(anchor.subject.as_ref());
            }
        }
        let hints = names.into_iter().map(DistinguishedName::in_sequence);
        hints.collect()
    }
}

impl Authority {
    /// The span of the certificate that is good now for the longest; if none is, of the one with the latest end.
    pub(super) fn span(&self, now: UnixTime) -> Span {
        let spans = self.spans.iter().copied();
        spans
            .max_by_key(|span| (span.check(now).is_ok(), span.until))
            .unwrap_or(Span::ALWAYS)
    }

    pub(super) fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.key.as_ref())
    }

    /// Whether it may sign revocation lists.
    pub(super) fn signs_lists(&self) -> bool {
        self.signs_lists
    }

    /// Whether it may issue for certain names only.
    pub(super) fn restricts_names(&self) -> bool {
        self.name_constraints
    }
}

/// Whether a certificate can be an authority's, dates aside.
///
/// # Errors
/// Why not.
pub(crate) fn may_sign_certificates(certificate: &X509Certificate<'_>) -> Result<(), String> {
    match certificate.version() {
        X509Version::V3 => {}
        X509Version::V1 => return Err("X.509 v1 cannot say that it is a CA".into()),
        _ => return Err("it is neither X.509 v1 nor v3".into()),
    }
    if !certificate.is_ca() {
        return Err("no basic constraint CA:TRUE".into());
    }
    match certificate.key_usage() {
        Err(_) => Err("an extension is malformed or there twice".into()),
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Err("its key usage does not include signing certificates".into())
        }
        Ok(_) => Ok(()),
    }
}
