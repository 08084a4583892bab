//! Certificates, keys and revocation lists, as they are loaded from PEM files.

mod pair;
mod paths;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

pub(crate) use self::pair::Pair;
pub(crate) use self::paths::{End, bundle_beside, candidates};
use super::verify::ClientVerifier;
use super::verify::authority::Authorities;
use super::verify::revocation::Revocation;
use crate::certs::Fault;
use crate::certs::facts::printable;
use crate::certs::file::{self, Block, Kind};

/// From how long before its end something is warned about. Revocation lists are made for days, not for years.
const WARN: Duration = Duration::from_secs(14 * 86_400);
const WARN_LIST: Duration = Duration::from_secs(86_400);

/// What a file is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// HNP shows it to clients.
    Server,
    /// HNP shows it to upstreams.
    Client,
    /// Clients are verified against it.
    ClientCa,
    /// Upstreams are verified against it.
    UpstreamCa,
    /// It says which clients' certificates are revoked.
    RevocationList,
}

impl Role {
    /// As metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
            Role::ClientCa => "client-ca",
            Role::UpstreamCa => "upstream-ca",
            Role::RevocationList => "crl",
        }
    }
}

/// A certificate, or a revocation list, that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it is used for.
    pub role: Role,
    /// In what part of the configuration: `listener`, `endpoint NAME`, `upstream`, `upstream of NAME`, `parent`.
    pub part: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// Whose it is; of a revocation list, who made it.
    pub subject: Box<str>,
    /// When it becomes valid; seconds since 1970.
    pub not_before: i64,
    /// Its end: seconds since 1970. Of a revocation list: the next update.
    pub not_after: i64,
}

impl Loaded {
    /// Seconds that it has left; negative: since when it has none.
    #[must_use]
    pub fn seconds_left(&self, now: UnixTime) -> i64 {
        self.not_after.saturating_sub_unsigned(now.as_secs())
    }

    /// What its user should know of its dates.
    #[must_use]
    pub fn warning(&self, now: UnixTime) -> Option<String> {
        let left = self.seconds_left(now);
        let (what, warn) = match self.role {
            Role::RevocationList => ("the revocation list of", WARN_LIST),
            _ => ("the certificate of", WARN),
        };
        let (path, part, subject) = (self.path.display(), &self.part, &self.subject);
        let begin = format!("{part}: {path}: {what} {subject}");
        if self.not_before.saturating_sub_unsigned(now.as_secs()) > 0 {
            return Some(format!(
                "{begin} is not valid yet: check it, and this machine's clock"
            ));
        }
        match (left, self.role) {
            (..0, Role::RevocationList) => Some(format!(
                "{begin} is past its next update, so the certificates of its authority are refused: put a new one in its place"
            )),
            (..0, _) => Some(format!("{begin} has expired: put a new one in its place")),
            (0.., _) if left <= i64::try_from(warn.as_secs()).unwrap_or(i64::MAX) => Some(format!(
                "{begin} ends in {} hours: put a new one in its place in time",
                left / 3600
            )),
            _ => None,
        }
    }
}

/// What is wrong with a file that the configuration names, and what to do about it.
#[derive(Debug, Clone)]
pub struct TlsConfigError {
    part: Arc<str>,
    fault: Fault,
}

impl Display for TlsConfigError {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.part, self.fault)
    }
}

impl std::error::Error for TlsConfigError {}

impl TlsConfigError {
    /// What is wrong, and what to do about it, apart.
    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// Loads what one part of the configuration names, and keeps account of it.
pub(crate) struct Loader {
    part: Arc<str>,
    loaded: Vec<Loaded>,
    warnings: Vec<String>,
    contents: Context,
}

/// What was loaded for one part of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) warnings: Vec<String>,
}

impl Inventory {
    pub(crate) fn extend(&mut self, other: Self) {
        self.loaded.extend(other.loaded);
        self.warnings.extend(other.warnings);
    }
}

impl Loader {
    pub(crate) fn new(part: impl Into<Arc<str>>) -> Self {
        Self {
            part: part.into(),
            loaded: Vec::new(),
            warnings: Vec::new(),
            contents: Context::new(&SHA256),
        }
    }

    /// A certificate with its key.
    pub(crate) fn pair(
        &mut self,
        role: Role,
        certificate: &Path,
        key: Option<&Path>,
    ) -> Result<Arc<CertifiedKey>, TlsConfigError> {
        let end = match role {
            Role::Server => End::Server,
            _ => End::Client,
        };
        let pair = Pair::load(end, certificate, key).map_err(|fault| self.error(fault))?;
        for certificate in &pair.key.cert {
            self.digest(certificate);
            self.note(role, &pair.path, certificate);
        }
        // The key follows from the certificate: it is the one that matches.
        self.warnings.extend(pair.warnings);
        Ok(pair.key)
    }

    /// The certificates of bundles.
    pub(crate) fn bundles(
        &mut self,
        paths: &[PathBuf],
    ) -> Result<Vec<(PathBuf, Vec<CertificateDer<'static>>)>, TlsConfigError> {
        let mut bundles = Vec::new();
        for path in paths {
            let path = paths::bundle(path);
            let blocks = self.read(&path)?;
            let certificates = self.certificates(&path, blocks)?;
            bundles.push((path, certificates));
        }
        Ok(bundles)
    }

    fn certificates(
        &mut self,
        path: &Path,
        blocks: Vec<Block>,
    ) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
        let certificates: Vec<_> = of_kind(blocks, &Kind::Certificate)
            .map(CertificateDer::from)
            .collect();
        if certificates.is_empty() {
            let remedy = "give a file with lines like `-----BEGIN CERTIFICATE-----`";
            let fault = Fault::new(path, "holds no certificate", remedy);
            return Err(self.error(fault));
        }
        for certificate in &certificates {
            self.digest(certificate);
        }
        Ok(certificates)
    }

    /// The authorities that clients are verified against.
    pub(crate) fn authorities(&mut self, paths: &[PathBuf]) -> Result<Authorities, TlsConfigError> {
        let mut authorities = Authorities::default();
        for (path, certificates) in self.bundles(paths)? {
            self.add_authorities(&mut authorities, &path, certificates)?;
        }
        Ok(authorities)
    }

    /// A certificate that cannot be one is left out, with a warning.
    fn add_authorities(
        &mut self,
        authorities: &mut Authorities,
        path: &Path,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<(), TlsConfigError> {
        let mut refused = None;
        for certificate in certificates {
            match authorities.add(&certificate) {
                Ok(()) => self.note(Role::ClientCa, path, &certificate),
                Err(why) => refused = Some((subject_of(&certificate), why)),
            }
        }
        let Some((subject, why)) = refused else {
            return Ok(());
        };
        let remedy = "give the certificate of the CA that issues clients' certificates";
        let fault = format!("{subject} cannot be a CA: {why}");
        let error = self.error(Fault::new(path, fault, remedy));
        if authorities.is_empty() {
            return Err(error);
        }
        self.warn(error.to_string());
        Ok(())
    }

    /// Revocation lists.
    pub(crate) fn revocation(
        &mut self,
        paths: &[PathBuf],
        authorities: &Authorities,
    ) -> Result<Revocation, TlsConfigError> {
        let mut revocation = Revocation::default();
        for path in paths {
            let blocks = self.read(path)?;
            self.add_lists(&mut revocation, path, blocks, authorities)?;
        }
        Ok(revocation)
    }

    fn add_lists(
        &mut self,
        revocation: &mut Revocation,
        path: &Path,
        blocks: Vec<Block>,
        authorities: &Authorities,
    ) -> Result<(), TlsConfigError> {
        let algorithms = super::provider().signature_verification_algorithms;
        let lists: Vec<_> = of_kind(blocks, &Kind::RevocationList).collect();
        if lists.is_empty() {
            let remedy = "give a file with `-----BEGIN X509 CRL-----`";
            let fault = Fault::new(path, "holds no revocation list", remedy);
            return Err(self.error(fault));
        }
        for list in lists {
            self.digest(&list);
            let added = revocation.add(&list, authorities, &algorithms);
            let known = added.map_err(|error| {
                let fault = format!("the revocation list in it {error}");
                let remedy = "issue it again with the CA that is in client-ca";
                self.error(Fault::new(path, fault, remedy))
            })?;
            self.note_list(path, &list);
            if !known {
                let fault = "the revocation list in it is by none of the authorities in client-ca";
                let remedy = "it counts only for an intermediate of theirs";
                let warning = self.error(Fault::new(path, fault, remedy));
                self.warn(warning.to_string());
            }
        }
        Ok(())
    }

    /// Something else on which the outcome depends.
    pub(crate) fn digest(&mut self, bytes: &[u8]) {
        self.contents.update(&bytes.len().to_be_bytes());
        self.contents.update(bytes);
    }

    /// A digest of everything so far.
    pub(crate) fn digested(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.contents.clone().finish().as_ref());
        digest
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(crate) fn finish(self) -> Inventory {
        Inventory {
            loaded: self.loaded,
            warnings: self.warnings,
        }
    }

    pub(crate) fn error(&self, fault: Fault) -> TlsConfigError {
        TlsConfigError {
            part: Arc::clone(&self.part),
            fault,
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<Block>, TlsConfigError> {
        file::read(path).map_err(|fault| self.error(fault))
    }

    pub(crate) fn note(&mut self, role: Role, path: &Path, certificate: &[u8]) {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return;
        };
        self.loaded.push(Loaded {
            role,
            part: Arc::clone(&self.part),
            path: path.to_owned(),
            subject: printable(certificate.subject()).into(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        });
    }

    fn note_list(&mut self, path: &Path, list: &[u8]) {
        let Ok((_, list)) = CertificateRevocationList::from_der(list) else {
            return;
        };
        // One without a next update never ends.
        let Some(next_update) = list.next_update() else {
            return;
        };
        self.loaded.push(Loaded {
            role: Role::RevocationList,
            part: Arc::clone(&self.part),
            path: path.to_owned(),
            subject: printable(list.issuer()).into(),
            not_before: list.last_update().timestamp(),
            not_after: next_update.timestamp(),
        });
    }
}

/// What verifies clients, from texts in memory. Without revocation lists the second is empty.
///
/// # Errors
/// As if the texts were files.
pub fn client_verifier(
    authorities: &[u8],
    lists: &[u8],
    mandatory: bool,
) -> Result<ClientVerifier, TlsConfigError> {
    let path = Path::new("(memory)");
    let mut loader = Loader::new("verifier");
    let parse = |bytes| file::parse(path, bytes).map_err(|fault| loader.error(fault));
    let blocks = parse(authorities)?;
    let lists = match lists {
        [] => Vec::new(),
        lists => parse(lists)?,
    };
    let certificates = loader.certificates(path, blocks)?;
    let mut authorities = Authorities::default();
    loader.add_authorities(&mut authorities, path, certificates)?;
    let mut revocation = Revocation::default();
    if !lists.is_empty() {
        loader.add_lists(&mut revocation, path, lists, &authorities)?;
    }
    Ok(ClientVerifier::new(authorities, revocation, mandatory))
}

/// A certificate with its key, from a text in memory that holds both.
///
/// # Errors
/// As if the text was a file.
pub fn pair(text: &[u8]) -> Result<Arc<CertifiedKey>, TlsConfigError> {
    let loader = Loader::new("pair");
    let pair = Pair::parse(Path::new("(memory)"), text);
    pair.map(|pair| pair.key)
        .map_err(|fault| loader.error(fault))
}

fn of_kind<'a>(blocks: Vec<Block>, kind: &'a Kind) -> impl Iterator<Item = Vec<u8>> + 'a {
    let blocks = blocks.into_iter();
    blocks.filter_map(move |block| (block.kind == *kind).then_some(block.der))
}

fn subject_of(certificate: &[u8]) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => printable(certificate.subject()),
        Err(_) => "a certificate in it".into(),
    }
}
