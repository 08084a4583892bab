//! Certificates made for a test: v3 by rcgen, v1 by OpenSSL with the commands that users type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A directory of its own for a test.
pub(super) struct Pki {
    directory: TempDir,
}

/// A v3 authority.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A v3 certificate to be issued.
pub(super) struct Leaf {
    params: CertificateParams,
    key: KeyPair,
    serial: u64,
}

/// A certificate (with what else is shown) and its key, in PEM.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Pki {
    pub(super) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a script here, which has to succeed.
    pub(super) fn shell(&self, script: &str) {
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}\n{error}\n(needs openssl, which `cargo xtask test` installs)"
        );
    }

    /// The mTLS guide's commands, as they stand, in a directory beneath: `ca.crt`, `ca.key`, `client.crt`, `client.key`.
    pub(super) fn guide(&self, directory: &str) -> Shown {
        self.shell(&format!("mkdir -p {directory}; cd {directory}\n{GUIDE}"));
        self.shown(directory, "client")
    }

    /// Another v1 certificate by the guide's authority.
    pub(super) fn v1(&self, directory: &str, name: &str, key: &str, more: &str) -> Shown {
        self.shell(&format!(
            "cd {directory}
             openssl req -new -newkey {key} -nodes -subj '/O=Example ORG/CN={name}' -keyout {name}.key -out {name}.csr
             openssl x509 -req -CAcreateserial -CA ca.crt -CAkey ca.key -in {name}.csr -out {name}.crt {more}"
        ));
        self.shown(directory, name)
    }

    pub(super) fn shown(&self, directory: &str, name: &str) -> Shown {
        Shown {
            chain: self.read(&format!("{directory}/{name}.crt")),
            key: self.read(&format!("{directory}/{name}.key")),
        }
    }

    /// Revokes a certificate of the guide's authority: `crl.pem`. Without further settings OpenSSL makes a v1 list.
    pub(super) fn revoke(&self, directory: &str, name: &str, settings: &str) {
        self.shell(&format!(
            "cd {directory}
             touch index.txt; echo 01 > crlnumber
             printf '[ca]\\ndefault_ca=x\\n[x]\\ndatabase=index.txt\\ndefault_md=sha256\\ndefault_crl_days=30\\n{settings}\\n' > crl.cnf
             openssl ca -config crl.cnf -keyfile ca.key -cert ca.crt -revoke {name}.crt
             openssl ca -config crl.cnf -keyfile ca.key -cert ca.crt -gencrl -out crl.pem"
        ));
    }
}

const GUIDE: &str = r#"openssl req -x509 -sha256 -nodes -days 9999 -newkey rsa:2048 -subj "/O=Example ORG/CN=CA Cert" -keyout ca.key -out ca.crt
cat > client.cnf <<CNF
[req]
default_bits = 2048
prompt = no
default_md = sha256
x509_extensions = v3_req
distinguished_name = dn
[dn]
O = Example ORG
CN = Client
[v3_req]
# empty
CNF
openssl req -new -config client.cnf -nodes -out client.csr -keyout client.key
openssl x509 -req -sha256 -days 9999 -extfile client.cnf -extensions v3_req -CAcreateserial -CA ca.crt -CAkey ca.key -in client.csr -out client.crt
"#;

impl Authority {
    /// Called as the guide's is.
    pub(super) fn new() -> Self {
        Self::named("CA Cert")
    }

    pub(super) fn named(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// One whose certificate does not allow it the lists that it makes.
    pub(super) fn without_lists(name: &str) -> Self {
        let mut params = authority_params(name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(authority_params(name), key),
        }
    }

    /// An authority below this one.
    pub(super) fn intermediate(&self, name: &str) -> Self {
        let params = authority_params(name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority of somebody else's certificate and key, whatever that is.
    pub(super) fn of(shown: &Shown) -> Self {
        let der = CertificateDer::from_pem_slice(shown.chain.as_bytes()).unwrap();
        let key = KeyPair::from_pem(&shown.key).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let mut params = authority_params("");
        params.distinguished_name = DistinguishedName::new();
        for (kind, oid) in [
            (
                DnType::OrganizationName,
                x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME,
            ),
            (
                DnType::CommonName,
                x509_parser::oid_registry::OID_X509_COMMON_NAME,
            ),
        ] {
            if let Some(part) = parsed.subject().iter_by_oid(&oid).next() {
                params.distinguished_name.push(kind, part.as_str().unwrap());
            }
        }
        Self {
            pem: shown.chain.clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn issue(&self, leaf: &Leaf) -> Shown {
        let mut params = leaf.params.clone();
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        Shown {
            chain: params.signed_by(&leaf.key, &self.issuer).unwrap().pem(),
            key: leaf.key.serialize_pem(),
        }
    }

    pub(super) fn client(&self, name: &str) -> Shown {
        self.issue(&Leaf::client(name))
    }

    pub(super) fn server(&self, name: &str) -> Shown {
        self.issue(&Leaf::server(name))
    }

    /// Of its own certificate.
    pub(super) fn serial(&self) -> SerialNumber {
        let der = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        SerialNumber::from_slice(parsed.raw_serial())
    }

    /// A list that revokes serial numbers.
    pub(super) fn revoke(&self, serials: &[u64], next_update: Duration) -> String {
        let serials = serials.iter().copied();
        let serials: Vec<_> = serials.map(SerialNumber::from).collect();
        self.revoke_all(&serials, next_update)
    }

    pub(super) fn revoke_all(&self, serials: &[SerialNumber], next_update: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: now - Duration::days(1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(2),
            next_update: now + next_update,
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example ORG");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Leaf {
    pub(super) fn client(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self {
            params,
            key: KeyPair::generate().unwrap(),
            serial: 2,
        }
    }

    pub(super) fn server(name: &str) -> Self {
        Self::client(name).change(|params| {
            let name = name.to_owned().try_into().unwrap();
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    pub(super) fn key(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.key = KeyPair::generate_for(algorithm).unwrap();
        self
    }

    pub(super) fn with_key(mut self, key: KeyPair) -> Self {
        self.key = key;
        self
    }

    pub(super) fn serial(mut self, serial: u64) -> Self {
        self.serial = serial;
        self
    }

    /// Valid from so many days from now, until so many.
    pub(super) fn days(self, from: i64, until: i64) -> Self {
        let now = OffsetDateTime::now_utc();
        self.change(|params| {
            params.not_before = now + Duration::days(from);
            params.not_after = now + Duration::days(until);
        })
    }
}

impl Shown {
    /// Followed by another certificate.
    pub(super) fn and(mut self, pem: &str) -> Self {
        self.chain.push_str(pem);
        self
    }

    pub(super) fn ders(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap()
    }

    /// As a file with both, for HNP to load.
    pub(super) fn write(&self, pki: &Pki, name: &str) -> PathBuf {
        pki.write(name, &format!("{}{}", self.chain, self.key))
    }
}

/// A link, as Kubernetes makes them.
pub(super) fn link(target: &str, at: &Path) {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(target, at).unwrap();
}
