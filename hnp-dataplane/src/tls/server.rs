//! TLS towards clients: the listener's own endpoint, and those that are chosen by name.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, Error, ServerConfig};

use super::client::{self, Client, SystemRoots};
use super::identity::Identity;
use super::material::{
    End, Inventory, Loaded, Loader, Role, TlsConfigError, bundle_beside, candidates,
};
use super::verify::ClientVerifier;
use super::{Hello, Session, provider, versions};
use crate::certs::Fault;
use crate::config::model::{ClientAuth, Config, ListenerTls, Mode, TlsVersion};

/// What is offered by ALPN (RFC 7301), the preferred first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// What is served over TLS.
#[derive(Debug, Default)]
pub struct Server {
    /// What is served without a name, or under one that nobody has.
    default: Option<Arc<Endpoint>>,
    /// By name, in lower case.
    named: HashMap<Box<str>, Arc<Endpoint>>,
    inventory: Inventory,
}

/// One endpoint: the listener itself, or one of its own with a name.
#[derive(Debug)]
pub struct Endpoint {
    /// The name that clients ask for, in lower case; nothing: the listener itself.
    pub name: Option<Box<str>>,
    /// Its place in the configuration's `endpoints`.
    pub index: Option<usize>,
    /// What handshakes are made with.
    pub config: Arc<ServerConfig>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// What paths of requests begin with: empty, or `/` and more.
    pub prefix: Box<str>,
    /// How TLS to its own upstream is made. Nothing: in plaintext; or it is the listener itself, which has the manager.
    pub upstream: Option<Arc<Client>>,
    verifier: Option<Arc<ClientVerifier>>,
    /// Of everything in `config`.
    digest: [u8; 32],
    /// Of what decides who is let in.
    admission: [u8; 32],
}

impl Server {
    /// Loads what the configuration names; nothing if that is no TLS at all. What has not changed is taken over from `old`: sessions go
    /// on being resumed across a reload, unless it changed who is let in.
    ///
    /// # Errors
    /// A file is not what it should be. Nothing is half exchanged then: go on with `old`.
    pub fn compile(
        config: &Config,
        old: Option<&Server>,
    ) -> Result<Option<Arc<Server>>, TlsConfigError> {
        let system = SystemRoots::default();
        let mut server = Server::default();
        if let Some(tls) = &config.listener.tls {
            let old = old.and_then(|old| old.default.as_deref());
            let protocols = match config.modes.as_slice() {
                // Tunnels alone are asked for by HTTP/1.1.
                [] | [Mode::Tunnel] => &PROTOCOLS[1..],
                _ => &PROTOCOLS,
            };
            let (endpoint, inventory) = Endpoint::compile("listener".into(), tls, protocols, old)?;
            server.inventory.extend(inventory);
            server.default = Some(Arc::new(endpoint));
        }
        for (index, wanted) in config.endpoints.iter().enumerate() {
            let name: Box<str> = wanted.server_name.to_ascii_lowercase().into();
            let old = old.and_then(|old| old.named.get(&name)).map(Arc::as_ref);
            let part = format!("endpoint {name}");
            let (endpoint, inventory) = Endpoint::compile(part, &wanted.tls(), &PROTOCOLS, old)?;
            server.inventory.extend(inventory);
            let old = old.and_then(|old| old.upstream.as_ref());
            let upstream = Client::for_endpoint(&name, &wanted.as_upstream(), &system, old)?;
            let upstream = upstream.map(|(client, inventory)| {
                server.inventory.extend(inventory);
                client
            });
            let endpoint = Endpoint {
                name: Some(name.clone()),
                index: Some(index),
                prefix: wanted.prefix.trim_end_matches('/').into(),
                upstream,
                ..endpoint
            };
            server.named.insert(name, Arc::new(endpoint));
        }
        let any = server.default.is_some() || !server.named.is_empty();
        Ok(any.then(|| Arc::new(server)))
    }

    /// The endpoint for what a client asks for.
    ///
    /// # Errors
    /// `unrecognized_name`: there is none under this name (RFC 6066, section 3), and the listener has no certificate of its own.
    pub fn choose(&self, hello: &Hello) -> Result<&Arc<Endpoint>, AlertDescription> {
        self.endpoint(hello.server_name.as_deref())
            .ok_or(AlertDescription::UnrecognisedName)
    }

    /// Who the client of a session is; nothing: it showed no certificate. Of a resumed session everything is looked at again as of now,
    /// since the certificate may have expired in the meantime.
    ///
    /// # Errors
    /// The certificate is no longer good.
    pub fn verify_identity(&self, session: &Session) -> Result<Option<Arc<Identity>>, Error> {
        let Some((leaf, intermediates)) = session.peer.split_first() else {
            return Ok(None);
        };
        let endpoint = self.endpoint(session.server_name.as_deref());
        let verifier = endpoint.and_then(|endpoint| endpoint.verifier.as_ref());
        let verifier = verifier.ok_or(Error::General(
            "a certificate was shown that nobody asked for".into(),
        ))?;
        let now = UnixTime::now();
        verifier.verify(leaf, intermediates, now).map(Some)
    }

    /// The endpoints, the listener's own first.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let mut named: Vec<_> = self.named.values().collect();
        named.sort_by_key(|endpoint| endpoint.index);
        self.default.iter().chain(named)
    }

    /// The certificates and revocation lists in use, for metrics and warnings of their ends.
    #[must_use]
    pub fn certificates(&self) -> &[Loaded] {
        &self.inventory.loaded
    }

    /// What was odd about the files, though usable.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inventory.warnings
    }

    fn endpoint(&self, name: Option<&str>) -> Option<&Arc<Endpoint>> {
        name.and_then(|name| match self.named.get(name) {
            None if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.named.get(name.to_ascii_lowercase().as_str())
            }
            found => found,
        })
        .or(self.default.as_ref())
    }
}

impl Endpoint {
    fn compile(
        part: String,
        tls: &ListenerTls,
        protocols: &[&str],
        old: Option<&Endpoint>,
    ) -> Result<(Endpoint, Inventory), TlsConfigError> {
        let mut loader = Loader::new(part);
        loader.digest(tls.client_auth.as_str().as_bytes());
        let new_verifier = match tls.client_auth {
            ClientAuth::Off => None,
            asked => Some(verifier(&mut loader, tls, asked)?),
        };
        let admission = loader.digested();
        let key = tls.key.as_deref();
        let pair = loader.pair(Role::Server, &tls.certificate, key)?;
        loader.digest(&[u8::from(tls.min_version == TlsVersion::Tls13)]);
        loader.digest(protocols.concat().as_bytes());
        let digest = loader.digested();

        let kept = old.filter(|old| old.admission == admission);
        // Its memory of what was verified is kept with it.
        let verifier = match kept {
            Some(old) => old.verifier.clone(),
            None => new_verifier.map(Arc::new),
        };
        let config = match kept {
            Some(old) if old.digest == digest => Arc::clone(&old.config),
            _ => {
                let asks: Arc<dyn ClientCertVerifier> = match &verifier {
                    Some(verifier) => Arc::clone(verifier) as _,
                    None => WebPkiClientVerifier::no_client_auth(),
                };
                let failed = |error: Error| {
                    let remedy = "report this";
                    loader.error(Fault::new(&tls.certificate, error.to_string(), remedy))
                };
                let mut config = ServerConfig::builder_with_provider(provider())
                    .with_protocol_versions(versions(tls.min_version))
                    .map_err(failed)?
                    .with_client_cert_verifier(asks)
                    .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
                config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().into()).collect();
                config.enable_secret_extraction = true;
                // Sessions are remembered by the clients alone, in tickets that every worker can open.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 1;
                config.ticketer = ticketer(kept).map_err(failed)?;
                Arc::new(config)
            }
        };
        let endpoint = Endpoint {
            name: None,
            index: None,
            config,
            client_auth: tls.client_auth,
            prefix: Box::default(),
            upstream: None,
            verifier,
            digest,
            admission,
        };
        Ok((endpoint, loader.finish()))
    }
}

/// The keys of an endpoint's tickets, changed every six hours. A ticket carries the client's certificate from one connection to the next:
/// another endpoint must not open it, nor must this one after a change of who is let in. So keys are of one endpoint, and they are kept
/// across reloads for as long as admission is the same.
fn ticketer(kept: Option<&Endpoint>) -> Result<Arc<dyn ProducesTickets>, Error> {
    match kept {
        Some(old) => Ok(Arc::clone(&old.config.ticketer)),
        None => Ticketer::new(),
    }
}

fn verifier(
    loader: &mut Loader,
    tls: &ListenerTls,
    asked: ClientAuth,
) -> Result<ClientVerifier, TlsConfigError> {
    let beside = bundle_beside(&tls.certificate);
    let bundles: &[PathBuf] = match tls.client_ca.as_slice() {
        [] => beside.as_slice(),
        named => named,
    };
    if bundles.is_empty() {
        let fault = format!(
            "client-auth is {}, and no authority is named",
            asked.as_str()
        );
        let remedy = "set client-ca, or put ca.crt beside tls.crt";
        return Err(loader.error(Fault::new(&tls.certificate, fault, remedy)));
    }
    let authorities = loader.authorities(bundles)?;
    let revocation = loader.revocation(&tls.crl, &authorities)?;
    let mandatory = asked == ClientAuth::Strict;
    Ok(ClientVerifier::new(authorities, revocation, mandatory))
}

/// Every file that TLS depends on, on either side and whether or not it is there: what to watch for changes.
#[must_use]
pub fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = client::files(config);
    let listener = config.listener.tls.iter().cloned();
    let endpoints = config.endpoints.iter().map(|endpoint| endpoint.tls());
    for tls in listener.chain(endpoints) {
        let paths = [&tls.certificate].into_iter().chain(&tls.key);
        let paths = paths.chain(&tls.client_ca).chain(&tls.crl);
        files.extend(paths.flat_map(|path| candidates(End::Server, path)));
    }
    files.sort();
    files.dedup();
    files
}
