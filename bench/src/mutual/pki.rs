//! Keys and certificates of the comparison: a CA, one server certificate (for proxies and manager) and one client certificate (for
//! generator and proxies), all P-256 and signed by the CA itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, version::TLS13,
};

/// The name that the server certificate is for, proxies' and manager's.
pub(super) const NAME: &str = "manager.test";

/// Where the files of the comparison are.
#[derive(Debug, Clone)]
pub(super) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Makes everything anew in a directory.
    pub(super) fn make(directory: &Path) -> anyhow::Result<Pki> {
        let pki = Pki {
            directory: directory.to_owned(),
        };
        let mut params = named("HNP benchmark CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        fs::write(pki.ca(), params.self_signed(&key)?.pem())?;
        let ca = Issuer::new(params, key);
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        pki.leaf("server", NAME, server, vec![NAME.to_owned()], &ca)?;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        pki.leaf("client", "agent", client, Vec::new(), &ca)?;
        Ok(pki)
    }

    /// What [`Pki::make`] put into a directory.
    pub(super) fn at(directory: &Path) -> Pki {
        Pki {
            directory: directory.to_owned(),
        }
    }

    fn leaf(
        &self,
        stem: &str,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        sans: Vec<String>,
        ca: &Issuer<'_, KeyPair>,
    ) -> anyhow::Result<()> {
        let mut params = named(name)?;
        for san in sans {
            params
                .subject_alt_names
                .push(rcgen::SanType::DnsName(san.try_into()?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, ca)?.pem();
        let key = key.serialize_pem();
        fs::write(self.file(stem, "crt"), &certificate)?;
        fs::write(self.file(stem, "key"), &key)?;
        // HAProxy wants both in one file.
        fs::write(self.file(stem, "pem"), certificate + &key)?;
        Ok(())
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The CA's certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.file("ca", "crt")
    }

    /// `server` or `client` with extension `crt`, `key` or `pem` (both).
    pub(super) fn file(&self, stem: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{stem}.{extension}"))
    }

    /// How the generator's connections are made: with the client certificate; with sessions only where there is a store for them.
    ///
    /// It knows the server by its very certificate and checks no signature. A client that did would spend on a handshake what the
    /// server spends, and on a machine of two CPUs it would be the client that is measured.
    pub(super) fn client(
        &self,
        sessions: Option<Arc<dyn ClientSessionStore>>,
    ) -> anyhow::Result<Arc<ClientConfig>> {
        let (chain, key) = self.pair("client")?;
        let expected = self.pair("server")?.0.swap_remove(0);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Known { expected }))
            .with_client_auth_cert(chain, key)?;
        config.resumption = match sessions {
            Some(store) => Resumption::store(store),
            None => Resumption::disabled(),
        };
        config.enable_secret_extraction = true;
        Ok(Arc::new(config))
    }

    /// How the manager's connections are made: a client certificate of the CA is required.
    pub(super) fn manager(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca())?)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        let (chain, key) = self.pair("server")?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.enable_secret_extraction = true;
        Ok(Arc::new(config))
    }

    fn pair(
        &self,
        stem: &str,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let file = self.file(stem, "crt");
        let certificate = CertificateDer::from_pem_file(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Ok((
            vec![certificate],
            PrivateKeyDer::from_pem_file(self.file(stem, "key"))?,
        ))
    }
}

fn named(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// One suite and one group, so that everybody computes the same: TLS_AES_128_GCM_SHA256 and X25519.
fn provider() -> Arc<CryptoProvider> {
    let suite: SupportedCipherSuite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// Takes one certificate and no other, whatever its signatures say.
#[derive(Debug)]
struct Known {
    expected: CertificateDer<'static>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
