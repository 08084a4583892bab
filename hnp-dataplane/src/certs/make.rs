//! `hnp certs ca`, `client` and `server`: test material.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Fault;
use super::facts::{Facts, date};
use super::file;

/// How far clocks may be apart: a certificate is valid from this long before it is made.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// Where files go.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Replace what is there.
    pub(crate) force: bool,
}

/// What key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum KeyKind {
    #[default]
    P256,
    P384,
    #[value(name = "rsa2048")]
    Rsa2048,
    #[value(name = "rsa3072")]
    Rsa3072,
    #[value(name = "rsa4096")]
    Rsa4096,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
    }
}

/// Which end of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// A certificate to make and have signed.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) end: End,
    pub(crate) name: String,
    pub(crate) sans: Vec<San>,
    pub(crate) days: u32,
    pub(crate) key: KeyKind,
    /// Where `ca.crt` and `ca.key` are.
    pub(crate) ca_directory: PathBuf,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum San {
    Dns(String),
    Ip(IpAddr),
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) valid_until: String,
}

/// Makes `ca.crt` and `ca.key`.
pub(crate) fn authority(name: &str, days: u32, key: KeyKind, place: &Place) -> Result<Made, Fault> {
    let files = Files::at(place, "ca")?;
    let mut params = params(name, &[], days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let failed = |error| files.not_made(error);
    let key = key.generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    files.write(&certificate.pem(), &key, params.not_after)
}

/// Makes `client.crt` and `client.key`, or `server.crt` and `server.key`.
pub(crate) fn leaf(leaf: &Leaf, place: &Place) -> Result<Made, Fault> {
    let (stem, purpose) = match leaf.end {
        End::Client => ("client", ExtendedKeyUsagePurpose::ClientAuth),
        End::Server => ("server", ExtendedKeyUsagePurpose::ServerAuth),
    };
    let files = Files::at(place, stem)?;
    let mut params = params(&leaf.name, &leaf.sans, leaf.days);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let issuer = issuer(&leaf.ca_directory, &params)?;
    let failed = |error| files.not_made(error);
    let key = leaf.key.generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    files.write(&certificate.pem(), &key, params.not_after)
}

impl std::str::FromStr for San {
    type Err = String;

    /// An IP address, or else a DNS name, whose first label may be `*`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.len() > 253 || !name.split('.').all(label) {
            return Err("it is neither a DNS name like `hnp.example.com` nor an IP address".into());
        }
        Ok(Self::Dns(text.to_owned()))
    }
}

fn params(name: &str, sans: &[San], days: u32) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(days.into());
    params.subject_alt_names = sans.iter().filter_map(San::to_rcgen).collect();
    params
}

impl San {
    fn to_rcgen(&self) -> Option<rcgen::SanType> {
        match self {
            // Checked when it was parsed: it is ASCII.
            Self::Dns(name) => name.as_str().try_into().ok().map(rcgen::SanType::DnsName),
            Self::Ip(address) => Some(rcgen::SanType::IpAddress(*address)),
        }
    }
}

/// The CA in a directory, if it can sign what is asked for.
fn issuer(directory: &Path, params: &CertificateParams) -> Result<Issuer<'static, KeyPair>, Fault> {
    let (certificate_file, key_file) = (join(directory, "ca.crt"), join(directory, "ca.key"));
    for file in [&certificate_file, &key_file] {
        if !file.exists() {
            let remedy = "make a CA with `hnp certs ca`, or say where it is with --ca-dir";
            return Err(Fault::new(file, "is not there", remedy));
        }
    }
    let der = file::first_certificate(&certificate_file)?;
    let unusable = |why: String| {
        let remedy = "make a CA with `hnp certs ca`, in another --dir or with --force";
        Fault::new(&certificate_file, why, remedy)
    };
    let (_, certificate) = X509Certificate::from_der(&der)
        .map_err(|_| unusable("holds a malformed certificate".into()))?;
    let facts = Facts::of(&certificate, OffsetDateTime::now_utc());
    if !facts.roles.ca.accepted {
        let why = format!("cannot be a CA: {}", facts.roles.ca.reason);
        return Err(unusable(why));
    }
    let end = certificate.validity().not_after.to_datetime();
    if params.not_after > end {
        let fault = format!("is valid until {} only", facts.valid_until);
        let remedy = format!("use --days {} or less, or a newer CA", facts.days_left);
        return Err(Fault::new(&certificate_file, fault, remedy));
    }
    let key = file::first_key(&key_file)?;
    if file::public_half(&key_file, &key)? != certificate.public_key().raw {
        let fault = format!("does not match {}", certificate_file.display());
        let remedy = "give the pair that was made together, with --ca-dir";
        return Err(Fault::new(&key_file, fault, remedy));
    }
    let key = KeyPair::try_from(&key).map_err(|_| {
        let path = key_file.display();
        let remedy =
            format!("convert it with `openssl pkcs8 -topk8 -nocrypt -in {path} -out {path}.new`");
        Fault::new(&key_file, "is not PKCS#8, which signing needs", remedy)
    })?;
    Issuer::from_ca_cert_der(&CertificateDer::from(der.as_slice()), key)
        .map_err(|error| unusable(format!("cannot sign: {error}")))
}

/// The pair of files to write.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    force: bool,
}

impl Files {
    fn at(place: &Place, stem: &str) -> Result<Self, Fault> {
        let files = Self {
            certificate: join(&place.directory, &format!("{stem}.crt")),
            key: join(&place.directory, &format!("{stem}.key")),
            force: place.force,
        };
        // Said before anything is made, so that never half a pair is replaced.
        for file in [&files.certificate, &files.key] {
            if !place.force && file.symlink_metadata().is_ok() {
                return Err(exists(file));
            }
        }
        Ok(files)
    }

    fn write(&self, certificate: &str, key: &KeyPair, end: OffsetDateTime) -> Result<Made, Fault> {
        if let Some(directory) = self.key.parent() {
            let remedy = "give a --dir that can be made";
            fs::create_dir_all(directory).map_err(|error| {
                Fault::new(directory, format!("cannot be made: {error}"), remedy)
            })?;
        }
        self.create(&self.key, &key.serialize_pem(), 0o600)?;
        self.create(&self.certificate, certificate, 0o644)?;
        Ok(Made {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            valid_until: date(end),
        })
    }

    /// Writes a new file. With force the old one is removed first, not written to: its mode may let others read a key, and it
    /// may be a link to elsewhere.
    fn create(&self, path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
        if self.force {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let remedy = "check who may write there";
                    return Err(Fault::new(
                        path,
                        format!("cannot be replaced: {error}"),
                        remedy,
                    ));
                }
                _ => {}
            }
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => {
                let remedy = "check who may write there, or give another --dir";
                Fault::new(path, format!("cannot be written: {error}"), remedy)
            }
        })
    }

    fn not_made(&self, error: rcgen::Error) -> Fault {
        let remedy = "check --name and --san";
        Fault::new(
            &self.certificate,
            format!("cannot be made: {error}"),
            remedy,
        )
    }
}

fn exists(path: &Path) -> Fault {
    let remedy = "give another --dir, or --force to replace it";
    Fault::new(path, "is there already", remedy)
}

/// `client.crt` rather than `./client.crt`.
fn join(directory: &Path, name: &str) -> PathBuf {
    match directory {
        here if here == Path::new(".") => PathBuf::from(name),
        directory => directory.join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_alternative_name_is_a_name_or_an_address() {
        let dns = |name: &str| Ok(San::Dns(name.to_owned()));
        assert_eq!("hnp.example.com".parse(), dns("hnp.example.com"));
        assert_eq!("*.example.com".parse(), dns("*.example.com"));
        assert_eq!("localhost".parse(), dns("localhost"));
        assert_eq!("::1".parse(), Ok(San::Ip("::1".parse().unwrap())));
        for wrong in [
            "",
            "*",
            "a..b",
            "a b",
            "-a",
            "a-",
            "bücher.example",
            "a.*.b",
            "https://a",
        ] {
            assert!(wrong.parse::<San>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_named_as_users_would() {
        assert_eq!(join(Path::new("."), "ca.crt"), Path::new("ca.crt"));
        assert_eq!(join(Path::new("pki"), "ca.crt"), Path::new("pki/ca.crt"));
    }
}
