//! What a PEM file holds, block by block.

use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;

use super::Fault;

/// One PEM block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) der: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Certificate,
    Key(KeyFormat),
    EncryptedKey,
    Request,
    RevocationList,
    Other(String),
}

/// How a private key is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFormat {
    /// RFC 5958.
    Pkcs8,
    /// RFC 8017, appendix A.1.2: RSA only.
    Pkcs1,
    /// RFC 5915: elliptic curves only.
    Sec1,
}

impl KeyFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PKCS#8",
            Self::Pkcs1 => "PKCS#1",
            Self::Sec1 => "SEC1",
        }
    }
}

/// The blocks of a file, at least one.
///
/// # Errors
/// The file cannot be read, or is not PEM.
pub(crate) fn read(path: &Path) -> Result<Vec<Block>, Fault> {
    let bytes = std::fs::read(path).map_err(|error| {
        let remedy = "check the path and who may read it";
        Fault::new(path, format!("cannot be read: {error}"), remedy)
    })?;
    parse(path, &bytes)
}

/// The blocks of a text, at least one. The path is for what is said of it.
///
/// # Errors
/// It is not PEM.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Block>, Fault> {
    let damaged = |fault: String| {
        let remedy = "copy the file again: a block is damaged or cut short";
        Fault::new(path, format!("is not valid PEM: {fault}"), remedy)
    };
    let blocks = pem::parse_many(bytes).map_err(|error| damaged(error.to_string()))?;
    if blocks.is_empty() {
        let begin = b"-----BEGIN ";
        if bytes.windows(begin.len()).any(|window| window == begin) {
            return Err(damaged("a block begins in it, but none ends".into()));
        }
        let converted = format!(
            "openssl x509 -inform der -in {0} -out {0}.pem",
            path.display()
        );
        let (fault, remedy) = match bytes.first() {
            // What DER begins with: a SEQUENCE.
            Some(0x30) => (
                "is DER, and HNP reads PEM",
                format!("convert a certificate with `{converted}`"),
            ),
            _ => (
                "holds no PEM block",
                "give a file with lines like `-----BEGIN CERTIFICATE-----`".to_owned(),
            ),
        };
        return Err(Fault::new(path, fault, remedy));
    }
    Ok(blocks.into_iter().map(Block::from).collect())
}

/// The first certificate of a file.
pub(crate) fn first_certificate(path: &Path) -> Result<Vec<u8>, Fault> {
    read(path)?
        .into_iter()
        .find(|block| block.kind == Kind::Certificate)
        .map(|block| block.der)
        .ok_or_else(|| {
            let remedy = "give the file with `-----BEGIN CERTIFICATE-----`";
            Fault::new(path, "holds no certificate", remedy)
        })
}

/// The first private key of a file.
pub(crate) fn first_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    for block in read(path)? {
        match block.kind {
            Kind::Key(format) => return Ok(private_key(format, block.der)),
            Kind::EncryptedKey => return Err(encrypted(path)),
            _ => {}
        }
    }
    let remedy = "give the file with `-----BEGIN PRIVATE KEY-----`";
    Err(Fault::new(path, "holds no private key", remedy))
}

pub(crate) fn encrypted(path: &Path) -> Fault {
    let remedy = format!(
        "HNP asks for no passphrase: write it without one, `openssl pkey -in {} -out {}`",
        path.display(),
        PathBuf::from(path).with_extension("plain.key").display()
    );
    Fault::new(path, "holds an encrypted private key", remedy)
}

pub(crate) fn private_key(format: KeyFormat, der: Vec<u8>) -> PrivateKeyDer<'static> {
    match format {
        KeyFormat::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
        KeyFormat::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
        KeyFormat::Sec1 => PrivateKeyDer::Sec1(der.into()),
    }
}

/// The public half of a key as the `SubjectPublicKeyInfo` of RFC 5280, which is what a certificate holds of it.
pub(crate) fn public_half(path: &Path, key: &PrivateKeyDer<'_>) -> Result<Vec<u8>, Fault> {
    let key = any_supported_type(key).map_err(|_| unusable_key(path))?;
    let public = key.public_key().ok_or_else(|| unusable_key(path))?;
    Ok(public.as_ref().to_vec())
}

pub(crate) fn unusable_key(path: &Path) -> Fault {
    let remedy = "use RSA from 2048 bits, ECDSA P-256, P-384 or P-521, or Ed25519";
    let fault = "holds a private key that is damaged or of a kind HNP cannot use";
    Fault::new(path, fault, remedy)
}

impl From<pem::Pem> for Block {
    fn from(block: pem::Pem) -> Self {
        // The old way to encrypt a key keeps the label and adds a header (RFC 1421).
        let encrypted = block
            .headers()
            .get("Proc-Type")
            .is_some_and(|value| value.contains("ENCRYPTED"));
        let kind = match block.tag() {
            _ if encrypted => Kind::EncryptedKey,
            "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
            "PRIVATE KEY" => Kind::Key(KeyFormat::Pkcs8),
            "RSA PRIVATE KEY" => Kind::Key(KeyFormat::Pkcs1),
            "EC PRIVATE KEY" => Kind::Key(KeyFormat::Sec1),
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::Request,
            "X509 CRL" => Kind::RevocationList,
            other => Kind::Other(other.to_owned()),
        };
        Self {
            kind,
            der: block.into_contents(),
        }
    }
}
