//! Who comes to an endpoint with and without a certificate, so that its owner sees whom STRICT would lock out.
//!
//! Touched once a TLS connection, never for a byte. What is remembered is bounded: endpoints are the configuration's, and of
//! each the latest [`MOST_CLIENTS`] client addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use serde::Serialize;

use super::{WorkerMetrics, unix_seconds};
use crate::config::model::{ClientAuth, Config};

/// Client addresses without a certificate that are remembered of an endpoint; the one not seen for the longest time goes
/// first.
pub const MOST_CLIENTS: usize = 1000;
/// Longest part of a client's `User-Agent` that is kept, in bytes.
const AGENT_LIMIT: usize = 200;

/// The endpoints that serve TLS.
#[derive(Debug, Default)]
pub struct Endpoints {
    by_name: RwLock<BTreeMap<Box<str>, Arc<Endpoint>>>,
}

#[derive(Debug)]
struct Endpoint {
    client_auth: ClientAuth,
    with: Arc<AtomicU64>,
    without: Arc<AtomicU64>,
    clients: Arc<Mutex<HashMap<IpAddr, Seen>>>,
}

/// A client that came without a certificate.
#[derive(Debug, Clone)]
struct Seen {
    first: u64,
    last: u64,
    connections: u64,
    user_agent: Option<Box<str>>,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    /// Its server name; `listener` for the listener's own certificate.
    pub endpoint: String,
    /// What it asks of clients.
    pub client_auth: &'static str,
    /// Connections since the start of the process by clients that showed a certificate.
    pub connections_with_certificate: u64,
    /// Connections since the start of the process by clients that showed none.
    pub connections_without_certificate: u64,
    /// Who showed none where one is asked for, the latest first.
    pub clients_without_certificate: Vec<Client>,
}

/// A client that showed no certificate where one is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Unix time in seconds.
    pub first_seen: u64,
    /// Unix time in seconds.
    pub last_seen: u64,
    /// How many.
    pub connections: u64,
    /// The last one that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// The name of the listener's own certificate, where endpoints are named.
const LISTENER: &str = "listener";

impl Endpoints {
    /// Takes over the endpoints of a configuration. What is known of those that stay is kept.
    pub fn configure(&self, config: &Config) {
        let own = config.listener.tls.as_ref();
        let own = own.map(|tls| (LISTENER, tls.client_auth));
        let dedicated = config.endpoints.iter();
        let dedicated = dedicated.map(|one| (one.server_name.as_str(), one.client_auth));
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let entry = |(name, auth): (&str, ClientAuth)| {
            let old = by_name.get(name).map(Arc::as_ref);
            (name.into(), Arc::new(Endpoint::new(auth, old)))
        };
        let next = own.into_iter().chain(dedicated).map(entry).collect();
        *by_name = next;
    }

    /// A client has completed its handshake with an endpoint (`None`: with the listener's own certificate).
    pub fn connected(&self, endpoint: Option<&str>, client: IpAddr, certificate: bool) {
        let Some(endpoint) = self.find(endpoint) else {
            return;
        };
        match certificate {
            true => endpoint.with.fetch_add(1, Relaxed),
            false => endpoint.without.fetch_add(1, Relaxed),
        };
        if !certificate && endpoint.client_auth.asks() {
            endpoint.remember(client.to_canonical(), unix_seconds(SystemTime::now()));
        }
    }

    /// What a client that came without a certificate calls itself.
    pub fn user_agent(&self, endpoint: Option<&str>, client: IpAddr, user_agent: &str) {
        let Some(endpoint) = self.find(endpoint) else {
            return;
        };
        let mut clients = endpoint.clients();
        if let Some(seen) = clients.get_mut(&client.to_canonical())
            && seen.user_agent.as_deref() != Some(user_agent)
        {
            let end = user_agent.floor_char_boundary(AGENT_LIMIT.min(user_agent.len()));
            let printable = user_agent[..end].replace(char::is_control, "\u{fffd}");
            seen.user_agent = Some(printable.into());
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn report(&self) -> Vec<EndpointReport> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name
            .iter()
            .map(|(name, endpoint)| endpoint.report(name))
            .collect()
    }

    /// Name, connections with and without a certificate, and how many addresses are remembered.
    pub(super) fn counts(&self) -> Vec<(String, [u64; 2], u64)> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name
            .iter()
            .map(|(name, endpoint)| {
                let connections = [endpoint.with.load(Relaxed), endpoint.without.load(Relaxed)];
                let remembered = endpoint.clients().len() as u64;
                (name.to_string(), connections, remembered)
            })
            .collect()
    }

    fn find(&self, endpoint: Option<&str>) -> Option<Arc<Endpoint>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.get(endpoint.unwrap_or(LISTENER)).cloned()
    }
}

impl Endpoint {
    fn new(client_auth: ClientAuth, old: Option<&Endpoint>) -> Endpoint {
        match old {
            None => Endpoint {
                client_auth,
                with: Arc::default(),
                without: Arc::default(),
                clients: Arc::default(),
            },
            Some(old) => Endpoint {
                client_auth,
                with: Arc::clone(&old.with),
                without: Arc::clone(&old.without),
                clients: Arc::clone(&old.clients),
            },
        }
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Seen>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, client: IpAddr, now: u64) {
        let mut clients = self.clients();
        if let Some(seen) = clients.get_mut(&client) {
            seen.last = now;
            seen.connections += 1;
            return;
        }
        if clients.len() >= MOST_CLIENTS {
            // A search through all, and only for an address that is new to a full table.
            let oldest = clients.iter().min_by_key(|(_, seen)| seen.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                clients.remove(&oldest);
            }
        }
        let seen = Seen {
            first: now,
            last: now,
            connections: 1,
            user_agent: None,
        };
        clients.insert(client, seen);
    }

    fn report(&self, name: &str) -> EndpointReport {
        let clients = self.clients();
        let mut without: Vec<Client> = clients
            .iter()
            .map(|(address, seen)| Client {
                address: *address,
                first_seen: seen.first,
                last_seen: seen.last,
                connections: seen.connections,
                user_agent: seen.user_agent.as_deref().map(str::to_owned),
            })
            .collect();
        without.sort_by_key(|client| (std::cmp::Reverse(client.last_seen), client.address));
        EndpointReport {
            endpoint: name.to_owned(),
            client_auth: self.client_auth.as_str(),
            connections_with_certificate: self.with.load(Relaxed),
            connections_without_certificate: self.without.load(Relaxed),
            clients_without_certificate: without,
        }
    }
}

impl WorkerMetrics {
    /// Who comes to which endpoint with and without a certificate; shared by all workers.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn configured(toml: &str) -> Endpoints {
        let endpoints = Endpoints::default();
        endpoints.configure(&toml::from_str(toml).unwrap());
        endpoints
    }

    fn with_auth(auth: &str) -> String {
        format!(
            "[listener.tls]\ncertificate = \"c\"\n[[endpoints]]\nserver-name = \"a.io\"\ncertificate = \"c\"\n\
             prefix = \"/a\"\nupstream = \"http://u\"\nclient-auth = \"{auth}\""
        )
    }

    fn address(last: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    #[test]
    fn whom_strict_would_lock_out_is_named() {
        let endpoints = configured(&with_auth("loose"));
        let name = Some("a.io");
        endpoints.connected(name, address(1), true);
        endpoints.connected(name, address(2), false);
        endpoints.connected(name, "::ffff:10.0.0.2".parse().unwrap(), false);
        endpoints.user_agent(name, address(2), "curl/8\n");
        endpoints.user_agent(name, address(1), "not remembered");
        // Where no certificate is asked for, nobody is locked out; what is not configured is not counted.
        endpoints.connected(None, address(3), false);
        endpoints.connected(Some("b.io"), address(4), false);
        let [own, listener] = endpoints.report().try_into().unwrap();
        assert_eq!((own.endpoint.as_str(), own.client_auth), ("a.io", "loose"));
        assert_eq!(own.connections_with_certificate, 1);
        assert_eq!(own.connections_without_certificate, 2);
        let [client] = own.clients_without_certificate.try_into().unwrap();
        assert_eq!((client.address, client.connections), (address(2), 2));
        assert!(client.first_seen > 1_700_000_000 && client.last_seen >= client.first_seen);
        assert_eq!(client.user_agent.as_deref(), Some("curl/8\u{fffd}"));
        assert_eq!(listener.endpoint, "listener");
        assert_eq!(listener.connections_without_certificate, 1);
        assert_eq!(listener.clients_without_certificate, []);
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let endpoints = configured(&with_auth("loose"));
        endpoints.connected(Some("a.io"), address(1), false);
        endpoints.configure(&toml::from_str(&with_auth("strict")).unwrap());
        let report = &endpoints.report()[0];
        assert_eq!(report.client_auth, "strict");
        assert_eq!(report.clients_without_certificate.len(), 1);
        endpoints.configure(&toml::from_str("").unwrap());
        assert_eq!(endpoints.report(), []);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let endpoints = configured(&with_auth("loose"));
        let endpoint = endpoints.find(Some("a.io")).unwrap();
        for number in 0..3000_u32 {
            endpoint.remember(address(number), 1000 + u64::from(number));
            // Seen again and again: it stays.
            endpoint.remember(address(0), 1000 + u64::from(number));
        }
        let clients = endpoint.report("a.io").clients_without_certificate;
        assert_eq!(clients.len(), MOST_CLIENTS);
        assert!(clients.iter().any(|client| client.address == address(0)));
        assert!(!clients.iter().any(|client| client.address == address(1)));
        assert!(clients.iter().any(|client| client.address == address(2999)));
    }
}
