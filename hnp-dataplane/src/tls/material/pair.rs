//! A certificate with its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::paths::{self, End};
use crate::certs::Fault;
use crate::certs::file::{self, Block, Kind};

/// How often a pair that does not fit is read again: it may have been exchanged between the reading of the one file and the other.
const ATTEMPTS: usize = 3;

/// A pair that fits.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Where the certificate is.
    pub(crate) path: PathBuf,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) warnings: Vec<String>,
}

impl Pair {
    /// Loads the pair that two paths, or a directory, stand for. What the certificate is good for is not looked at: it may be of any
    /// version, and expired.
    pub(crate) fn load(end: End, certificate: &Path, key: Option<&Path>) -> Result<Self, Fault> {
        let mut attempt = 1;
        loop {
            let (certificate_file, key_file) = paths::pair(end, certificate, key)?;
            let before = file::read(&certificate_file)?;
            let keys = file::read(&key_file)?;
            let result = Self::of(&certificate_file, &before, &key_file, keys);
            if result.is_ok() || attempt == ATTEMPTS {
                return result;
            }
            // Only what has changed in the meantime is worth a second look.
            let same = file::read(&certificate_file).is_ok_and(|after| after == before);
            if same {
                return result;
            }
            attempt += 1;
        }
    }

    /// The pair in one text. The path is for what is said of it.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, Fault> {
        let blocks = file::parse(path, text)?;
        Self::of(path, &blocks, path, file::parse(path, text)?)
    }

    fn of(
        certificate_file: &Path,
        blocks: &[Block],
        key_file: &Path,
        keys: Vec<Block>,
    ) -> Result<Self, Fault> {
        let chain = certificates(certificate_file, blocks)?;
        let keys = private_keys(key_file, certificate_file, keys)?;
        let Some((index, key)) = matching(&chain, keys) else {
            let same = certificate_file == key_file;
            let fault = match same {
                true => {
                    "holds a certificate and a private key that do not belong together".to_owned()
                }
                false => format!("does not match {}", certificate_file.display()),
            };
            let remedy = "give the key that the certificate was issued for";
            return Err(Fault::new(key_file, fault, remedy));
        };
        let mut warnings = Vec::new();
        let mut chain: Vec<_> = chain.into_iter().map(|(der, _)| der).collect();
        if index > 0 {
            // Clients want it first (RFC 8446, section 4.4.2).
            let leaf = chain.remove(index);
            chain.insert(0, leaf);
            warnings.push(format!(
                "{}: the certificate of the key is number {} in it; it is used as if it were the first",
                certificate_file.display(),
                index + 1
            ));
        }
        Ok(Self {
            path: certificate_file.to_owned(),
            key: Arc::new(CertifiedKey::new(chain, key)),
            warnings,
        })
    }
}

/// The certificates of a file, each with its public key.
type Chain = Vec<(CertificateDer<'static>, Vec<u8>)>;

fn certificates(path: &Path, blocks: &[Block]) -> Result<Chain, Fault> {
    let mut chain = Vec::new();
    for block in blocks
        .iter()
        .filter(|block| block.kind == Kind::Certificate)
    {
        let Ok(([], certificate)) = X509Certificate::from_der(&block.der) else {
            let fault = format!("certificate number {} in it is malformed", chain.len() + 1);
            return Err(Fault::new(path, fault, "make or copy the file again"));
        };
        let key = certificate.public_key().raw.to_vec();
        chain.push((CertificateDer::from(block.der.clone()), key));
    }
    if chain.is_empty() {
        let remedy = "give the file with `-----BEGIN CERTIFICATE-----`";
        return Err(Fault::new(path, "holds no certificate", remedy));
    }
    Ok(chain)
}

/// The private keys of a file: as a rule one.
fn private_keys(
    path: &Path,
    certificate_file: &Path,
    blocks: Vec<Block>,
) -> Result<Vec<Arc<dyn SigningKey>>, Fault> {
    let mut keys = Vec::new();
    for block in blocks {
        match block.kind {
            Kind::Key(format) => {
                let key = any_supported_type(&file::private_key(format, block.der));
                keys.push(key.map_err(|_| file::unusable_key(path))?);
            }
            Kind::EncryptedKey => return Err(file::encrypted(path)),
            _ => {}
        }
    }
    if keys.is_empty() {
        let remedy = match path == certificate_file {
            true => "name the key's file with `key`, or put the key into this one",
            false => "give the file with `-----BEGIN PRIVATE KEY-----`",
        };
        return Err(Fault::new(path, "holds no private key", remedy));
    }
    Ok(keys)
}

/// The first certificate that one of the keys belongs to. rustls would compare them too, but it reads no X.509 v1.
fn matching(chain: &Chain, keys: Vec<Arc<dyn SigningKey>>) -> Option<(usize, Arc<dyn SigningKey>)> {
    for (index, (_, public)) in chain.iter().enumerate() {
        let fits =
            |key: &&Arc<dyn SigningKey>| key.public_key().is_some_and(|own| own.as_ref() == public);
        if let Some(key) = keys.iter().find(fits) {
            return Some((index, Arc::clone(key)));
        }
    }
    None
}
