//! Authorities, and the certificates and revocation lists that they issue.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{DEADLINE, process};

/// A certificate authority with an ECDSA P-256 key.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate to be issued.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// The common name.
    pub name: &'a str,
    /// DNS names and addresses.
    pub names: &'a [&'a str],
    /// URIs, such as a SPIFFE id.
    pub uris: &'a [&'a str],
    /// Days from now at which it becomes valid.
    pub from: i64,
    /// Days from now at which it ends.
    pub until: i64,
    /// Ends so soon instead.
    pub ends_in: Option<std::time::Duration>,
    /// For a server instead of a client.
    pub server: bool,
    /// With an RSA key instead of ECDSA P-256.
    pub rsa: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, and what may follow it, in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub key: String,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Leaf {
            name: "client",
            names: &[],
            uris: &[],
            from: -1,
            until: 365,
            ends_in: None,
            server: false,
            rsa: false,
        }
    }
}

impl Authority {
    /// An authority of this name with a key of its own: two of one name are impostors of each other.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority that was made elsewhere.
    ///
    /// # Panics
    /// When the files hold none.
    #[must_use]
    pub fn read(certificate: &Path, key: &Path) -> Authority {
        let pair = Pair::read(certificate, key);
        let key = KeyPair::from_pem(&pair.key).unwrap();
        Authority {
            certificate: pair.chain().remove(0),
            issuer: Issuer::from_ca_cert_pem(&pair.certificate, key).unwrap(),
            pem: pair.certificate,
        }
    }

    /// Its certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a server of these names.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Pair {
        self.issue(&Leaf {
            name: names[0],
            names,
            server: true,
            ..Leaf::default()
        })
    }

    /// A certificate for a client of this common name.
    #[must_use]
    pub fn client(&self, name: &str) -> Pair {
        self.issue(&Leaf {
            name,
            ..Leaf::default()
        })
    }

    /// Issues a certificate.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf<'_>) -> Pair {
        let key = if leaf.rsa {
            rsa_key()
        } else {
            KeyPair::generate().unwrap()
        };
        let names: Vec<String> = leaf.names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        for uri in leaf.uris {
            let uri = (*uri).try_into().unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(uri));
        }
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.name);
        params.not_before = OffsetDateTime::now_utc() + Duration::days(leaf.from);
        params.not_after = OffsetDateTime::now_utc()
            + match leaf.ends_in {
                Some(left) => left.try_into().unwrap(),
                None => Duration::days(leaf.until),
            };
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![if leaf.server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client's certificate of X.509 v1, as `openssl x509 -req` issues it with an empty extension section.
    ///
    /// # Panics
    /// When OpenSSL does not do it.
    #[must_use]
    pub fn v1_client(&self, name: &str) -> Pair {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("ca.crt"), &self.pem).unwrap();
        fs::write(path("ca.key"), self.key_pem()).unwrap();
        fs::write(path("empty.cnf"), "[v3_req]\n").unwrap();
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(arguments).current_dir(directory.path());
            process::run(&mut command, DEADLINE).success();
        };
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            "client.key",
            "-out",
            "client.csr",
        ]);
        let number = format!("0x{}", hex(serial().to_bytes().as_slice()));
        openssl(&[
            "x509",
            "-req",
            "-sha256",
            "-days",
            "365",
            "-extfile",
            "empty.cnf",
            "-extensions",
            "v3_req",
            "-set_serial",
            &number,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-in",
            "client.csr",
            "-out",
            "client.crt",
        ]);
        Pair::read(&path("client.crt"), &path("client.key"))
    }

    /// A list that revokes these.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn crl(&self, revoked: &[&Pair]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked_certs = revoked
            .iter()
            .map(|pair| RevokedCertParams {
                serial_number: SerialNumber::from_slice(
                    &pair.with_x509(|it| it.raw_serial().to_vec()),
                ),
                revocation_time: now - Duration::hours(1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::days(30),
            crl_number: serial(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// Serial numbers that no other certificate of this process has.
fn serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // The first byte keeps it positive, and its length the same in every notation.
    SerialNumber::from_slice(&(number | 0x5a00_0000_0000_0000).to_be_bytes())
}

fn rsa_key() -> KeyPair {
    let mut command = Command::new("openssl");
    command.args([
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]);
    let pem = process::run(&mut command, DEADLINE).success();
    let algorithm: &'static SignatureAlgorithm = &PKCS_RSA_SHA256;
    KeyPair::from_pem_and_sign_algo(&pem, algorithm).unwrap()
}

impl Pair {
    /// Reads both from files.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn read(certificate: &Path, key: &Path) -> Pair {
        let read = |path: &Path| {
            fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        Pair {
            certificate: read(certificate),
            key: read(key),
        }
    }

    /// Writes both as `STEM.crt` and `STEM.key`, each a new file in the place of the old.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, directory: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let certificate = directory.join(format!("{stem}.crt"));
        let key = directory.join(format!("{stem}.key"));
        replace(&certificate, &self.certificate);
        replace(&key, &self.key);
        (certificate, key)
    }

    /// The certificate and what follows it.
    ///
    /// # Panics
    /// When it is not PEM.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap()
    }

    /// As rustls signs with it: any certificate, v1 included, for nothing of it is looked at.
    ///
    /// # Panics
    /// When the key is none that rustls knows.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let key = any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(self.chain(), key))
    }

    /// The serial number in lower-case hexadecimal.
    ///
    /// # Panics
    /// When it is no certificate.
    #[must_use]
    pub fn serial(&self) -> String {
        serial_of(&self.chain()[0])
    }

    /// The common name.
    ///
    /// # Panics
    /// When it is no certificate or has none.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.chain()[0]).unwrap()
    }

    fn with_x509<T>(&self, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = &self.chain()[0];
        look(&X509Certificate::from_der(der).unwrap().1)
    }
}

/// The serial number of a certificate in lower-case hexadecimal.
///
/// # Panics
/// When it is no certificate.
#[must_use]
pub fn serial_of(certificate: &CertificateDer<'_>) -> String {
    hex(X509Certificate::from_der(certificate)
        .unwrap()
        .1
        .raw_serial())
}

/// The common name of a certificate's subject.
///
/// # Panics
/// When it is no certificate.
#[must_use]
pub fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = X509Certificate::from_der(certificate).unwrap().1;
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().unwrap().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    crate::server::hex(bytes)
}

/// Writes a file as an editor would: a new one in the place of the old.
///
/// # Panics
/// When it cannot be written.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}
