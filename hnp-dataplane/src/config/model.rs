//! What a configuration says once it has been read and checked: plain data, no layers left.
//!
//! Every type is `Deserialize` with unknown keys refused, so that a misspelt key is an error and never a default.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::units::{HumanDuration, PortRange, Size};

mod intercept;
mod tls;

pub use intercept::{Failure, Intercept, InterceptAction, InterceptRule, UpstreamNamespace};
pub use tls::{ClientAuth, EndpointConfig, HttpProtocol, ListenerTls, ReverseProxy, TlsVersion};

/// The whole configuration of one `hnp run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// What the listener serves; the first bytes of a connection choose among them.
    pub modes: Vec<Mode>,
    /// Worker threads, each with a reactor and a listener of its own. Default: one per available core.
    pub workers: Option<NonZeroUsize>,
    /// What the workers wait with.
    pub backend: Backend,
    /// Who makes the records of TLS streams.
    pub ktls: Ktls,
    /// Where clients connect to.
    pub listener: Listener,
    /// Dedicated mTLS endpoints of the manager's side, each chosen by its server name.
    pub endpoints: Vec<EndpointConfig>,
    /// The manager. Absent: only what `policy.allow` names can be reached.
    pub upstream: Option<Upstream>,
    /// How origin-form requests reach it.
    pub reverse_proxy: ReverseProxy,
    /// Who may reach what.
    pub policy: Policy,
    /// Who clients are, by proxy credentials.
    pub auth: Auth,
    /// How much of everything.
    pub limits: Limits,
    /// How long for everything.
    pub timeouts: Timeouts,
    /// Name resolution.
    pub dns: Dns,
    /// Metrics, health and the effective configuration.
    pub admin: Admin,
    /// The log lines.
    pub log: Log,
    /// Transparent interception. Absent: nothing is intercepted.
    pub intercept: Option<Intercept>,
}

/// A mode of the seed; see `docs/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// HTTP CONNECT and absolute-form requests.
    Tunnel,
    /// Origin-form requests to the manager, in plaintext or over TLS.
    ReverseProxy,
    /// Origin-form requests to the manager over TLS, from clients that are asked for a certificate.
    EndToEndMtls,
}

/// What a worker waits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// io_uring where the kernel allows it, else epoll with a log line that says why.
    #[default]
    Auto,
    /// io_uring or a failure at start.
    IoUring,
    /// epoll.
    Epoll,
}

/// Who makes the records of TLS streams, towards clients and upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ktls {
    /// The kernel where it can (module `tls`), else HNP.
    #[default]
    Auto,
    /// HNP.
    Off,
}

/// Where clients connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Listener {
    /// One address or a list.
    #[serde(with = "super::units::one_or_many")]
    pub address: Vec<SocketAddr>,
    /// Length of the kernel's queue of connections not yet accepted.
    pub backlog: u32,
    /// TLS beside plaintext, on the same port.
    pub tls: Option<ListenerTls>,
}

/// The manager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Upstream {
    /// `http://` or `https://`, host, optional port and path. Environment: `PROXY_URL`.
    pub url: url::Url,
    /// PEM bundles of authorities to trust besides the system's.
    #[serde(default, with = "super::units::one_or_many")]
    pub ca: Vec<PathBuf>,
    /// HNP's client certificate: a PEM file with its intermediates, or a directory that holds `client.crt` and `client.key`, or
    /// `tls.crt` and `tls.key`. Environment: `CLIENT_CERT_PATH`, `PROXY_CLIENT_CERT_PATH`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key. Absent only where `certificate` is absent or a directory. Environment: `CLIENT_KEY_PATH`,
    /// `PROXY_CLIENT_KEY_PATH`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The name (or address) that the manager is asked for and its certificate verified against. Absent: the url's host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Least version of TLS.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// What is spoken.
    #[serde(default)]
    pub protocol: HttpProtocol,
    /// A corporate proxy on the way.
    #[serde(default)]
    pub parent: Option<Parent>,
}

/// A corporate proxy on the way: HNP sends it CONNECT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Parent {
    /// `http://[user:password@]host:port` or `https://…`.
    pub url: url::Url,
    /// As [`Upstream::ca`], of an `https://` parent.
    #[serde(default, with = "super::units::one_or_many")]
    pub ca: Vec<PathBuf>,
    /// As [`Upstream::certificate`], of an `https://` parent.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// As [`Upstream::key`], of an `https://` parent.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// As [`Upstream::server_name`], of an `https://` parent.
    #[serde(default)]
    pub server_name: Option<String>,
    /// User name for the parent's Basic authentication (instead of one in the url).
    #[serde(default)]
    pub username: Option<String>,
    /// File whose first line is the parent's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Targets reached directly: host names (`example.com` and what ends in `.example.com`, `*.example.com`), addresses, CIDRs.
    #[serde(default)]
    pub no_proxy: Vec<String>,
}

/// Who may reach what. Fails closed: with no rule only the upstream can be reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// Whether a refusal refuses or is only reported.
    pub mode: PolicyMode,
    /// What may be reached.
    pub allow: Vec<Rule>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<Rule>,
}

/// Whether a refusal refuses or is only reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyMode {
    /// Refuse.
    #[default]
    Enforce,
    /// Let pass, log and count what would have been refused.
    Report,
}

/// One line of policy. Matches a target that `hosts` or `cidrs` name, on one of `ports` (all when empty), asked for by one of
/// `identities` (anyone when empty).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Rule {
    /// Names; a leading `*.` matches one or more labels, `*` alone every name.
    pub hosts: Vec<String>,
    /// Networks. In `allow`, naming a private range here allows it.
    pub cidrs: Vec<IpNet>,
    /// Ports and `"from-to"` ranges.
    pub ports: Vec<PortRange>,
    /// Identities this rule is for: proxy user names, or names of client certificates.
    pub identities: Vec<String>,
}

/// Who clients are, by proxy credentials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Auth {
    /// File of `user:hash` lines (bcrypt or argon2). Present: clients without valid credentials get 407.
    pub htpasswd: Option<PathBuf>,
    /// The realm in `Proxy-Authenticate`.
    pub realm: Option<String>,
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Client connections at once, all workers together. Beyond: 503.
    pub connections: usize,
    /// Client connections at once from one client address. Beyond: 429. Absent: no limit.
    pub connections_per_client: Option<usize>,
    /// New connections a second, all workers together. Beyond: 503. Absent: no limit.
    pub connections_per_second: Option<u32>,
    /// New connections a second from one client address. Beyond: 429. Absent: no limit.
    pub connections_per_second_per_client: Option<u32>,
    /// TLS handshakes of clients at once, all workers together. Beyond: one makes room.
    pub handshakes: usize,
    /// Bytes of a request head. Beyond: 431.
    pub head_size: Size,
    /// Bytes of a request line. Beyond: 414.
    pub request_line_size: Size,
    /// Header fields of a request. Beyond: 431.
    pub headers: usize,
}

/// How long for everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Timeouts {
    /// From accept (or the end of the last exchange) to a whole request head. Beyond: 408.
    pub head: HumanDuration,
    /// For name resolution. Beyond: 504.
    pub resolve: HumanDuration,
    /// For the connection to the target, all addresses together. Beyond: 504.
    pub connect: HumanDuration,
    /// For a whole TLS handshake, with clients as well as with upstreams.
    pub handshake: HumanDuration,
    /// With no byte in either direction of a tunnel.
    pub tunnel_idle: HumanDuration,
    /// Whole life of a tunnel. Absent: no limit.
    pub tunnel_lifetime: Option<HumanDuration>,
    /// With no byte of a forwarded request's exchange in either direction.
    pub http_idle: HumanDuration,
    /// How long an idle connection to an upstream is kept for the next request.
    pub upstream_idle: HumanDuration,
    /// From SIGTERM to the end by force.
    pub drain: HumanDuration,
}

/// Name resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Dns {
    /// Name servers (`"ip:port"`). Default: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Shortest time an answer is kept, whatever its TTL.
    pub min_ttl: HumanDuration,
    /// Longest time an answer is kept, whatever its TTL.
    pub max_ttl: HumanDuration,
    /// Answers kept.
    pub cache_size: usize,
}

/// Metrics, health and the effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Admin {
    /// `/metrics`, `/healthz`, `/readyz`, `/config`. `"off"` in the file: no admin listener.
    #[serde(with = "super::units::address_or_off")]
    pub address: Option<SocketAddr>,
}

/// The log lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// Least level of operational lines: error, warn, info, debug, trace.
    pub level: String,
    /// Whether each connection gets its line.
    pub access: bool,
}

/// Text for people or JSON for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `key=value` words.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Brings what may be written in several ways into one: names in lower case.
    pub(super) fn normalize(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.server_name.make_ascii_lowercase();
        }
    }
}

impl Upstream {
    /// An upstream of which nothing but the url is said.
    #[must_use]
    pub fn at(url: url::Url) -> Upstream {
        Upstream {
            url,
            ca: Vec::new(),
            certificate: None,
            key: None,
            server_name: None,
            min_version: TlsVersion::default(),
            protocol: HttpProtocol::default(),
            parent: None,
        }
    }
}

impl Parent {
    /// A parent of which nothing but the url is said.
    #[must_use]
    pub fn at(url: url::Url) -> Parent {
        Parent {
            url,
            ca: Vec::new(),
            certificate: None,
            key: None,
            server_name: None,
            username: None,
            password_file: None,
            no_proxy: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            modes: vec![Mode::Tunnel],
            workers: None,
            backend: Backend::default(),
            ktls: Ktls::default(),
            listener: Listener::default(),
            endpoints: Vec::new(),
            upstream: None,
            reverse_proxy: ReverseProxy::default(),
            policy: Policy::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            dns: Dns::default(),
            admin: Admin::default(),
            log: Log::default(),
            intercept: None,
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Listener {
            address: vec![SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 7777)],
            backlog: 4096,
            tls: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 100_000,
            connections_per_client: None,
            connections_per_second: None,
            connections_per_second_per_client: None,
            handshakes: 1000,
            head_size: Size(32 << 10),
            request_line_size: Size(8 << 10),
            headers: 100,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |s| HumanDuration(Duration::from_secs(s));
        Timeouts {
            head: seconds(10),
            resolve: seconds(5),
            connect: seconds(10),
            handshake: seconds(10),
            tunnel_idle: seconds(3600),
            tunnel_lifetime: None,
            http_idle: seconds(60),
            upstream_idle: seconds(60),
            drain: seconds(30),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            servers: Vec::new(),
            min_ttl: HumanDuration(Duration::from_secs(1)),
            max_ttl: HumanDuration(Duration::from_secs(300)),
            cache_size: 4096,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            address: Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 9777)),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            format: LogFormat::default(),
            level: "info".to_owned(),
            access: true,
        }
    }
}
