//! `hnp certs inspect`: what files hold, each for itself and against the others.

use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::Fault;
use super::facts::{Facts, date, key_kind, out_of_date, printable};
use super::file::{self, Block, Kind};

/// From how many days before the end a certificate is warned about.
pub(super) const WARN_DAYS: i64 = 14;
/// Longer chains than this no verifier follows.
const MAX_CHAIN: usize = 8;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) files: Vec<FileReport>,
    pub(crate) warnings: Vec<Fault>,
    pub(crate) errors: Vec<Fault>,
}

#[derive(Debug, Serialize)]
pub(super) struct FileReport {
    pub(super) file: String,
    pub(super) holds: Vec<Entry>,
}

/// What one PEM block is.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Entry {
    Certificate {
        #[serde(flatten)]
        facts: Box<Facts>,
        /// The files with its private key.
        keys: Vec<String>,
        self_signed: bool,
        /// Who signed it, who signed that one, and so on, as far as the files go; each signature was checked.
        chain: Vec<String>,
    },
    PrivateKey {
        format: &'static str,
        key: Option<String>,
        /// The certificates it belongs to.
        certificates: Vec<String>,
    },
    Request {
        subject: String,
        public_key: String,
    },
    RevocationList {
        issuer: String,
        revoked: usize,
        updated: String,
        next_update: Option<String>,
    },
    Other {
        label: String,
    },
    Unreadable,
}

/// Everything about the files as of `now`.
pub(crate) fn inspect(paths: &[PathBuf], now: OffsetDateTime) -> Report {
    let mut inspection = Inspection {
        now,
        warnings: Vec::new(),
        errors: Vec::new(),
    };
    let mut blocks = Vec::new();
    for path in paths {
        match file::read(path) {
            Ok(read) => blocks.push((path, read)),
            Err(fault) => inspection.errors.push(fault),
        }
    }
    let items: Vec<Item<'_>> = blocks.iter().flat_map(|(path, b)| items(path, b)).collect();
    let entries: Vec<Entry> = items
        .iter()
        .map(|item| inspection.entry(item, &items))
        .collect();
    let mut entries = entries.into_iter();
    let files = blocks
        .iter()
        .map(|(path, blocks)| FileReport {
            file: path.display().to_string(),
            holds: entries.by_ref().take(blocks.len()).collect(),
        })
        .collect();
    Report {
        files,
        warnings: inspection.warnings,
        errors: inspection.errors,
    }
}

/// One block, read.
struct Item<'a> {
    path: &'a Path,
    /// The file's name, with the place in the file if there are several.
    label: String,
    content: Content<'a>,
}

/// A block and the certificate in it.
type Certified<'i, 'd> = (&'i Item<'d>, &'i X509Certificate<'d>);

enum Content<'a> {
    Certificate(Box<X509Certificate<'a>>),
    /// With its public half.
    Key(&'static str, Result<Vec<u8>, Fault>),
    EncryptedKey,
    Request(Box<X509CertificationRequest<'a>>),
    RevocationList(Box<CertificateRevocationList<'a>>),
    Other(&'a str),
    Malformed(&'static str),
}

fn items<'a>(path: &'a Path, blocks: &'a [Block]) -> impl Iterator<Item = Item<'a>> {
    blocks.iter().enumerate().map(move |(index, block)| {
        let label = match blocks.len() {
            1 => path.display().to_string(),
            _ => format!("{} #{}", path.display(), index + 1),
        };
        Item {
            path,
            label,
            content: content(path, block),
        }
    })
}

fn content<'a>(path: &Path, block: &'a Block) -> Content<'a> {
    let der = block.der.as_slice();
    match &block.kind {
        Kind::Certificate => match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Content::Certificate(Box::new(certificate)),
            _ => Content::Malformed("certificate"),
        },
        Kind::Request => match X509CertificationRequest::from_der(der) {
            Ok(([], request)) => Content::Request(Box::new(request)),
            _ => Content::Malformed("certificate signing request"),
        },
        Kind::RevocationList => match CertificateRevocationList::from_der(der) {
            Ok(([], list)) => Content::RevocationList(Box::new(list)),
            _ => Content::Malformed("revocation list"),
        },
        Kind::Key(format) => {
            let key = file::private_key(*format, block.der.clone());
            Content::Key(format.name(), file::public_half(path, &key))
        }
        Kind::EncryptedKey => Content::EncryptedKey,
        Kind::Other(label) => Content::Other(label),
    }
}

struct Inspection {
    now: OffsetDateTime,
    warnings: Vec<Fault>,
    errors: Vec<Fault>,
}

impl Inspection {
    fn entry(&mut self, item: &Item<'_>, all: &[Item<'_>]) -> Entry {
        match &item.content {
            Content::Certificate(certificate) => self.certificate(item, certificate, all),
            Content::Key(format, public) => self.key(item, format, public, all),
            Content::EncryptedKey => {
                self.errors.push(file::encrypted(item.path));
                Entry::Unreadable
            }
            Content::Request(request) => self.request(item, request),
            Content::RevocationList(list) => self.revocation_list(item, list, all),
            Content::Other(label) => Entry::Other {
                label: (*label).to_owned(),
            },
            Content::Malformed(what) => {
                let fault = format!("the {what} in it is malformed");
                self.error(item, fault, "make or copy the file again");
                Entry::Unreadable
            }
        }
    }

    fn certificate(
        &mut self,
        item: &Item<'_>,
        certificate: &X509Certificate<'_>,
        all: &[Item<'_>],
    ) -> Entry {
        let facts = Facts::of(certificate, self.now);
        if let Err(why) = out_of_date(certificate, self.now) {
            let fault = format!("the certificate of {} cannot be used: {why}", facts.subject);
            self.error(
                item,
                fault,
                "issue a new one, or correct this machine's clock",
            );
        } else if facts.days_left <= WARN_DAYS {
            let fault = format!(
                "the certificate of {} expires in {} days, at {}",
                facts.subject, facts.days_left, facts.valid_until
            );
            self.warn(item, fault, "issue a new one");
        }
        let keys = keys(all).filter(|(_, key)| *key == certificate.public_key().raw);
        let keys = keys.map(|(item, _)| item.label.clone()).collect();
        let mut chain = Vec::new();
        let mut last = certificate;
        while chain.len() < MAX_CHAIN && !self_signed(last) {
            let signer = match self.signer(last, all) {
                Ok(Some(signer)) => signer,
                Ok(None) => break,
                Err((fault, remedy)) => {
                    // What is wrong further up is said of the certificate it is wrong with.
                    if chain.is_empty() {
                        self.error(item, fault, remedy);
                    }
                    break;
                }
            };
            chain.push(signer.0.label.clone());
            last = signer.1;
        }
        Entry::Certificate {
            facts: Box::new(facts),
            keys,
            self_signed: self_signed(certificate),
            chain,
        }
    }

    /// The CA among the files that signed a certificate.
    fn signer<'i, 'd>(
        &self,
        certificate: &X509Certificate<'_>,
        all: &'i [Item<'d>],
    ) -> Result<Option<Certified<'i, 'd>>, (String, &'static str)> {
        let mut namesakes = Vec::new();
        for (item, issuer) in certificates(all) {
            if issuer.subject().as_raw() != certificate.issuer().as_raw() {
                continue;
            }
            match certificate.verify_signature(Some(issuer.public_key())) {
                Ok(()) => {
                    let role = Facts::of(issuer, self.now).roles.ca;
                    if role.accepted {
                        return Ok(Some((item, issuer)));
                    }
                    let fault = format!(
                        "it is signed by {}, which cannot be a CA: {}",
                        item.label, role.reason
                    );
                    return Err((fault, "sign it with a CA certificate"));
                }
                Err(X509Error::SignatureUnsupportedAlgorithm) => {
                    let remedy =
                        "check it with `openssl verify`; HNP itself takes SHA-256 or better";
                    let fault = "its signature is of a kind that this command cannot check";
                    return Err((fault.into(), remedy));
                }
                Err(_) => namesakes.push(item.label.as_str()),
            }
        }
        if namesakes.is_empty() {
            return Ok(None);
        }
        let fault = format!(
            "its issuer has the name of {}, but was signed by another key",
            namesakes.join(", ")
        );
        Err((
            fault,
            "sign it with that CA's key, or give the CA that signed it",
        ))
    }

    fn key(
        &mut self,
        item: &Item<'_>,
        format: &'static str,
        public: &Result<Vec<u8>, Fault>,
        all: &[Item<'_>],
    ) -> Entry {
        let public = match public {
            Ok(public) => public.as_slice(),
            Err(fault) => {
                self.errors.push(fault.clone());
                return Entry::PrivateKey {
                    format,
                    key: None,
                    certificates: Vec::new(),
                };
            }
        };
        let matching = certificates(all).filter(|(_, one)| one.public_key().raw == public);
        let matching: Vec<String> = matching.map(|(item, _)| item.label.clone()).collect();
        if matching.is_empty() && certificates(all).next().is_some() {
            let others: Vec<&str> = certificates(all).map(|(i, _)| i.label.as_str()).collect();
            let fault = format!(
                "the private key in it does not match {}",
                others.join(" or ")
            );
            self.error(
                item,
                fault,
                "give the key that the certificate was issued for",
            );
        }
        Entry::PrivateKey {
            format,
            key: x509_parser::x509::SubjectPublicKeyInfo::from_der(public)
                .ok()
                .map(|(_, key)| key_kind(&key).0),
            certificates: matching,
        }
    }

    fn request(&mut self, item: &Item<'_>, request: &X509CertificationRequest<'_>) -> Entry {
        let info = &request.certification_request_info;
        if matches!(
            request.verify_signature(),
            Err(X509Error::SignatureVerificationError)
        ) {
            let fault = "the request's signature is not by its own key";
            self.error(item, fault, "make the request again");
        }
        Entry::Request {
            subject: printable(&info.subject),
            public_key: key_kind(&info.subject_pki).0,
        }
    }

    fn revocation_list(
        &mut self,
        item: &Item<'_>,
        list: &CertificateRevocationList<'_>,
        all: &[Item<'_>],
    ) -> Entry {
        let next = list.next_update();
        if next.is_some_and(|next| next.timestamp() < self.now.unix_timestamp()) {
            let fault = "the revocation list is past its next update";
            self.error(item, fault, "fetch or issue a new one");
        }
        let issuers: Vec<_> = certificates(all)
            .filter(|(_, one)| one.subject().as_raw() == list.issuer().as_raw())
            .collect();
        let signed = |(_, issuer): &(_, &X509Certificate<'_>)| {
            list.verify_signature(issuer.public_key()).is_ok()
        };
        if !issuers.is_empty() && !issuers.iter().any(signed) {
            let fault = "the revocation list is not signed by the CA of its issuer's name";
            self.error(item, fault, "give the list and the CA that belong together");
        }
        Entry::RevocationList {
            issuer: printable(list.issuer()),
            revoked: list.iter_revoked_certificates().count(),
            updated: date(list.last_update().to_datetime()),
            next_update: next.map(|next| date(next.to_datetime())),
        }
    }

    fn warn(&mut self, item: &Item<'_>, fault: impl Into<String>, remedy: &str) {
        self.warnings
            .push(Fault::new(Path::new(&item.label), fault, remedy));
    }

    fn error(&mut self, item: &Item<'_>, fault: impl Into<String>, remedy: &str) {
        self.errors
            .push(Fault::new(Path::new(&item.label), fault, remedy));
    }
}

fn self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
        && certificate.verify_signature(None).is_ok()
}

fn certificates<'i, 'd>(all: &'i [Item<'d>]) -> impl Iterator<Item = Certified<'i, 'd>> {
    all.iter().filter_map(|item| match &item.content {
        Content::Certificate(certificate) => Some((item, certificate.as_ref())),
        _ => None,
    })
}

/// The keys, each with its public half.
fn keys<'i, 'd>(all: &'i [Item<'d>]) -> impl Iterator<Item = (&'i Item<'d>, &'i [u8])> {
    all.iter().filter_map(|item| match &item.content {
        Content::Key(_, Ok(public)) => Some((item, public.as_slice())),
        _ => None,
    })
}
