//! TLS towards upstreams and parent proxies.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use url::Url;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::material::{End, Inventory, Loaded, Loader, Role, TlsConfigError, candidates};
use super::verify::authority::may_sign_certificates;
use super::{HandshakeError, provider, versions};
use crate::certs::Fault;
use crate::config::model::{Config, Parent, TlsVersion, Upstream};
use crate::stream::Stream;

/// Servers whose sessions are remembered, of one client: it talks to one name, so this is ample.
const REMEMBERED_SERVERS: usize = 8;

/// Which application protocols are offered (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// The extension is left out.
    Nothing,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, or else HTTP/1.1.
    Any,
    /// HTTP/2 alone.
    H2,
}

impl Alpn {
    const ALL: [Self; 4] = [Self::Nothing, Self::Http1, Self::Any, Self::H2];

    fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Nothing => &[],
            Self::Http1 => &[b"http/1.1"],
            Self::Any => &[b"h2", b"http/1.1"],
            Self::H2 => &[b"h2"],
        }
    }
}

/// How TLS to one upstream is made.
#[derive(Debug)]
pub struct Client {
    id: u64,
    digest: [u8; 32],
    /// Whom its certificate has to be for.
    pub name: ServerName<'static>,
    /// One for each of [`Alpn::ALL`]. They share verifier, certificate and remembered sessions.
    configs: [Arc<ClientConfig>; 4],
}

impl Client {
    /// Unique in the process. A reload that finds every file as it was keeps the client, and with it the id: connections that idle in
    /// pools are good for as long as the id is the same.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What a handshake is made with.
    #[must_use]
    pub fn config_for(&self, alpn: Alpn) -> &Arc<ClientConfig> {
        let [nothing, http1, any, h2] = &self.configs;
        match alpn {
            Alpn::Nothing => nothing,
            Alpn::Http1 => http1,
            Alpn::Any => any,
            Alpn::H2 => h2,
        }
    }

    /// Makes the stream a TLS one. The caller bounds the time.
    ///
    /// # Errors
    /// The server broke TLS, its certificate does not do, ours does not do for it, or it left.
    pub async fn connect(&self, lower: Stream, alpn: Alpn) -> Result<Stream, HandshakeError> {
        let config = Arc::clone(self.config_for(alpn));
        let stream = super::connect(lower, config, self.name.clone()).await?;
        Ok(stream.into())
    }

    fn compile(
        wanted: &Wanted<'_>,
        system: &SystemRoots,
        old: Option<&Arc<Client>>,
    ) -> Result<(Arc<Client>, Inventory), TlsConfigError> {
        let mut loader = Loader::new(wanted.part.as_str());
        let name = wanted.name(&loader)?;
        loader.digest(name.to_str().as_bytes());
        loader.digest(&[u8::from(wanted.min_version == TlsVersion::Tls13)]);
        let roots = roots(&mut loader, wanted.ca, system)?;
        let pair = match wanted.certificate {
            Some(certificate) => {
                let key = wanted.key.map(PathBuf::as_path);
                Some(loader.pair(Role::Client, certificate, key)?)
            }
            None => None,
        };
        let digest = loader.digested();
        if let Some(old) = old.filter(|old| old.digest == digest) {
            return Ok((Arc::clone(old), loader.finish()));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .map_err(|error| loader.error(wanted.fault(&error.to_string())))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(wanted.min_version))
            .map_err(|error| loader.error(wanted.fault(&error.to_string())))?
            .with_webpki_verifier(verifier);
        let mut config = match pair {
            // Shown whatever authorities the server names, and whatever version of X.509 it is of: rustls itself reads v3 alone.
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(REMEMBERED_SERVERS);
        config.enable_secret_extraction = true;
        let configs = Alpn::ALL.map(|alpn| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.protocols().iter().map(|one| one.to_vec()).collect();
            Arc::new(config)
        });
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let client = Client {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            digest,
            name,
            configs,
        };
        Ok((Arc::new(client), loader.finish()))
    }

    /// For an endpoint's upstream; nothing if it is plaintext.
    pub(super) fn for_endpoint(
        name: &str,
        upstream: &Upstream,
        system: &SystemRoots,
        old: Option<&Arc<Client>>,
    ) -> Result<Option<(Arc<Client>, Inventory)>, TlsConfigError> {
        match Wanted::of_upstream(format!("upstream of {name}"), upstream) {
            Some(wanted) => Self::compile(&wanted, system, old).map(Some),
            None => Ok(None),
        }
    }
}

/// The clients that every mode shares.
#[derive(Debug, Default)]
pub struct Clients {
    /// To the manager; absent: plaintext, or no upstream at all.
    pub upstream: Option<Arc<Client>>,
    /// To the parent proxy; absent: plaintext, or none.
    pub parent: Option<Arc<Client>>,
    inventory: Inventory,
}

impl Clients {
    /// Loads what the configuration names. What has not changed is taken over from `old`.
    ///
    /// # Errors
    /// A file is not what it should be. Nothing is half exchanged then: go on with `old`.
    pub fn compile(config: &Config, old: Option<&Clients>) -> Result<Clients, TlsConfigError> {
        let system = SystemRoots::default();
        let mut clients = Clients::default();
        let upstream = config.upstream.as_ref();
        let wanted = upstream.and_then(|upstream| Wanted::of_upstream("upstream".into(), upstream));
        if let Some(wanted) = wanted {
            let old = old.and_then(|old| old.upstream.as_ref());
            clients.upstream = Some(clients.add(Client::compile(&wanted, &system, old)?));
        }
        let parent = upstream.and_then(|upstream| upstream.parent.as_ref());
        if let Some(wanted) = parent.and_then(Wanted::of_parent) {
            let old = old.and_then(|old| old.parent.as_ref());
            clients.parent = Some(clients.add(Client::compile(&wanted, &system, old)?));
        }
        Ok(clients)
    }

    /// The certificates in use, for metrics and warnings of their ends.
    #[must_use]
    pub fn certificates(&self) -> &[Loaded] {
        &self.inventory.loaded
    }

    /// What was odd about the files, though usable.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inventory.warnings
    }

    fn add(&mut self, (client, inventory): (Arc<Client>, Inventory)) -> Arc<Client> {
        self.inventory.extend(inventory);
        client
    }
}

/// Every file that a client depends on, whether or not it is there: what to watch.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut add = |wanted: Option<Wanted<'_>>| {
        let Some(wanted) = wanted else { return };
        let paths = wanted.ca.iter().chain(wanted.certificate).chain(wanted.key);
        files.extend(paths.flat_map(|path| candidates(End::Client, path)));
    };
    if let Some(upstream) = &config.upstream {
        add(Wanted::of_upstream(String::new(), upstream));
        add(upstream.parent.as_ref().and_then(Wanted::of_parent));
    }
    for endpoint in &config.endpoints {
        add(Wanted::of_upstream(String::new(), &endpoint.as_upstream()));
    }
    files
}

/// What the configuration wants of one client.
struct Wanted<'a> {
    part: String,
    url: &'a Url,
    ca: &'a [PathBuf],
    certificate: Option<&'a PathBuf>,
    key: Option<&'a PathBuf>,
    server_name: Option<&'a str>,
    min_version: TlsVersion,
}

impl<'a> Wanted<'a> {
    fn of_upstream(part: String, upstream: &'a Upstream) -> Option<Self> {
        let wanted = Self {
            part,
            url: &upstream.url,
            ca: &upstream.ca,
            certificate: upstream.certificate.as_ref(),
            key: upstream.key.as_ref(),
            server_name: upstream.server_name.as_deref(),
            min_version: upstream.min_version,
        };
        (upstream.url.scheme() == "https").then_some(wanted)
    }

    fn of_parent(parent: &'a Parent) -> Option<Self> {
        let wanted = Self {
            part: "parent".into(),
            url: &parent.url,
            ca: &parent.ca,
            certificate: parent.certificate.as_ref(),
            key: parent.key.as_ref(),
            server_name: parent.server_name.as_deref(),
            min_version: TlsVersion::default(),
        };
        (parent.url.scheme() == "https").then_some(wanted)
    }

    fn name(&self, loader: &Loader) -> Result<ServerName<'static>, TlsConfigError> {
        let host = self.server_name.or(self.url.host_str()).unwrap_or_default();
        // A url has an IPv6 address in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host.to_owned()).map_err(|_| {
            loader.error(self.fault("its host is no name that a certificate can have"))
        })
    }

    fn fault(&self, fault: &str) -> Fault {
        let remedy = "set `server-name` to a name of the server's certificate";
        Fault::new(self.url.as_str().as_ref(), fault, remedy)
    }
}

/// The system's authorities. They are loaded once for a configuration, when first needed.
#[derive(Default)]
pub(super) struct SystemRoots(OnceCell<(Vec<CertificateDer<'static>>, Option<String>)>);

impl SystemRoots {
    fn get(&self) -> &(Vec<CertificateDer<'static>>, Option<String>) {
        self.0.get_or_init(|| {
            let loaded = rustls_native_certs::load_native_certs();
            let error = loaded.errors.first().map(ToString::to_string);
            (loaded.certs, error)
        })
    }
}

/// The system's authorities and the configured ones.
fn roots(
    loader: &mut Loader,
    ca: &[PathBuf],
    system: &SystemRoots,
) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for (path, certificates) in loader.bundles(ca)? {
        let before = roots.len();
        let mut refused = None;
        for certificate in certificates {
            let role = match X509Certificate::from_der(&certificate) {
                Ok((_, parsed)) => may_sign_certificates(&parsed),
                Err(_) => Err("it is malformed".to_owned()),
            };
            match role {
                Ok(()) if roots.add(certificate.clone()).is_ok() => {
                    loader.note(Role::UpstreamCa, &path, &certificate);
                }
                Ok(()) => refused = Some("it is malformed".to_owned()),
                Err(why) => refused = Some(why),
            }
        }
        let Some(why) = refused else { continue };
        let remedy = "give the certificate of the CA that signed the server's";
        let fault = format!("a certificate in it cannot be a CA: {why}");
        let error = loader.error(Fault::new(&path, fault, remedy));
        if roots.len() == before {
            return Err(error);
        }
        loader.warn(error.to_string());
    }
    let (certificates, error) = system.get();
    for certificate in certificates {
        loader.digest(certificate);
    }
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        let fault = match error {
            Some(error) => format!("cannot be read: {error}"),
            None => "holds no authority".into(),
        };
        let remedy =
            "install the package ca-certificates, or name the upstream's authority with `ca`";
        let system = "the system's certificate store".as_ref();
        return Err(loader.error(Fault::new(system, fault, remedy)));
    }
    Ok(roots)
}
