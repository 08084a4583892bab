//! The tables and their keys, in the order of the reference.

use super::intercept::INTERCEPT;
use super::values::*;
use super::{Key, Kind, Table, key, table};

/// The whole file.
pub(in crate::config) static TOP: Table = Table {
    path: "",
    text: "Top level, above the first table.",
    keys: &[
        key(
            "modes",
            &MODES,
            "`[\"tunnel\"]`; with an upstream and no [auth]: `[\"tunnel\", \"reverse-proxy\"]`",
            "What the listener serves; the first bytes of a connection choose among them. `tunnel`: HTTP CONNECT and absolute-form `http://` requests. `reverse-proxy`: origin-form requests (`GET /path`), which go to the upstream. `end-to-end-mtls`: the same over TLS from clients that are asked for a certificate; needs `client-auth` in [listener.tls]. Each is served over TLS, too, where [listener.tls] is there.",
        ),
        key(
            "workers",
            &WORKERS,
            "one per available core",
            "Worker threads, each with a reactor and a listener of its own.",
        ),
        key(
            "backend",
            &BACKEND,
            "",
            "What the workers wait with. `auto`: io_uring where the kernel allows it, else epoll with a log line that says why.",
        ),
        key(
            "ktls",
            &KTLS,
            "",
            "Who encrypts and decrypts TLS streams once their handshake is over, towards clients and upstreams. `auto`: the kernel, where its module `tls` is loaded when HNP starts; they can be spliced then. `off`: HNP itself.",
        ),
        table("listener", &LISTENER),
        Key {
            name: "endpoints",
            kind: Kind::Tables(&ENDPOINTS),
            absent: "",
            text: ENDPOINTS.text,
        },
        table("upstream", &UPSTREAM),
        table("reverse-proxy", &REVERSE_PROXY),
        table("policy", &POLICY),
        table("auth", &AUTH),
        table("limits", &LIMITS),
        table("timeouts", &TIMEOUTS),
        table("dns", &DNS),
        table("admin", &ADMIN),
        table("log", &LOG),
        table("intercept", &INTERCEPT),
    ],
};

static LISTENER: Table = Table {
    path: "listener",
    text: "Where clients connect to.",
    keys: &[
        key(
            "address",
            &LISTEN,
            "",
            "Where to listen. Every worker listens there with `SO_REUSEPORT`.",
        ),
        key(
            "backlog",
            &BACKLOG,
            "",
            "Length of the kernel's queue of connections not yet accepted (it may cap it: `net.core.somaxconn`).",
        ),
        table("tls", &LISTENER_TLS),
    ],
};

static LISTENER_TLS: Table = Table {
    path: "listener.tls",
    text: "TLS on the listener, beside plaintext and on the same port. Absent: plaintext only. A reload may change, add and remove it.",
    keys: &[
        CERTIFICATE,
        KEY,
        CLIENT_AUTH_KEY,
        CLIENT_CA,
        CRL,
        MIN_VERSION,
    ],
};

static ENDPOINTS: Table = Table {
    path: "endpoints",
    text: "A dedicated mTLS endpoint of the manager's side: one table an endpoint, chosen by the server name (SNI) that a client asks for. It serves origin-form requests beneath its prefix, whatever `modes` says; a request whose `Host` is not the server name gets 421.",
    keys: &[
        Key {
            name: "server-name",
            kind: Kind::Required(&SERVER_NAME),
            absent: "required",
            text: "The DNS name. No two endpoints share one.",
        },
        CERTIFICATE,
        KEY,
        CLIENT_AUTH_KEY,
        CLIENT_CA,
        CRL,
        MIN_VERSION,
        Key {
            name: "prefix",
            kind: Kind::Required(&PREFIX),
            absent: "required",
            text: "What the paths of its requests start with; taken off on the way. A request elsewhere gets 404. No prefix of an endpoint lies beneath another's.",
        },
        Key {
            name: "upstream",
            kind: Kind::Required(&URL),
            absent: "required",
            text: "Where its requests go; a path is put before theirs, credentials are not allowed.",
        },
        key(
            "upstream-ca",
            &FILES,
            "the system's alone",
            "As `ca` in [upstream], for an `https://` upstream.",
        ),
        key(
            "upstream-certificate",
            &FILE,
            "none is shown",
            "As `certificate` in [upstream], for an `https://` upstream.",
        ),
        key(
            "upstream-key",
            &FILE,
            "that of the directory",
            "As `key` in [upstream], for an `https://` upstream.",
        ),
        key(
            "upstream-server-name",
            &PEER_NAME,
            "the url's host",
            "As `server-name` in [upstream], for an `https://` upstream.",
        ),
        key(
            "upstream-protocol",
            &PROTOCOL,
            "`\"auto\"`",
            "As `protocol` in [upstream].",
        ),
    ],
};

const CERTIFICATE: Key = Key {
    name: "certificate",
    kind: Kind::Required(&FILE),
    absent: "required",
    text: "PEM file of the certificate and its intermediates; or a directory that holds `tls.crt` and `tls.key` (as a Kubernetes TLS secret does, `ca.crt` beside them), or `client.crt` and `client.key`. Read again when it changes, as all files of this table.",
};

const KEY: Key = key(
    "key",
    &FILE,
    "that of the directory",
    "PEM file of its key: PKCS#8, PKCS#1 or SEC1. Needed unless `certificate` is a directory.",
);

const CLIENT_AUTH_KEY: Key = key(
    "client-auth",
    &CLIENT_AUTH,
    "`\"off\"`",
    "`loose`: clients are asked for a certificate, and served without one. `strict`: a client without one is refused. A certificate that is shown and does not verify is refused in both. `off`: none is asked for.",
);

const CLIENT_CA: Key = key(
    "client-ca",
    &FILES,
    "`ca.crt` of the directory",
    "PEM bundles of the authorities that clients' certificates are verified against. Needed with `loose` and `strict`, unless `certificate` is a directory with a `ca.crt`.",
);

const CRL: Key = key(
    "crl",
    &FILES,
    "no certificate is revoked",
    "PEM files of revocation lists of these authorities.",
);

const MIN_VERSION: Key = key(
    "min-version",
    &TLS_VERSION,
    "`\"1.2\"`",
    "Least version of TLS.",
);

static UPSTREAM: Table = Table {
    path: "upstream",
    text: "The manager. It can be reached without a rule in `policy.allow`; with no such rule, nothing else can.",
    keys: &[
        Key {
            name: "url",
            kind: Kind::Required(&URL),
            absent: "required",
            text: "The manager's address; a path is allowed, credentials are not. Environment: `PROXY_URL`.",
        },
        CA,
        CLIENT_CERTIFICATE,
        CLIENT_KEY,
        PEER_NAME_KEY,
        MIN_VERSION,
        key(
            "protocol",
            &PROTOCOL,
            "`\"auto\"`",
            "What is spoken to the manager. `auto`: over TLS what it chooses by ALPN, HTTP/1.1 in plaintext. `h2` in plaintext is with prior knowledge.",
        ),
        table("parent", &PARENT),
    ],
};

const CA: Key = key(
    "ca",
    &FILES,
    "the system's alone",
    "PEM bundles of authorities to trust besides the system's.",
);

const CLIENT_CERTIFICATE: Key = key(
    "certificate",
    &FILE,
    "none is shown",
    "HNP's client certificate: a PEM file with its intermediates; or a directory that holds `client.crt` and `client.key`, or `tls.crt` and `tls.key`. Read again when it changes. Environment, in [upstream]: `CLIENT_CERT_PATH`, `PROXY_CLIENT_CERT_PATH`.",
);

const CLIENT_KEY: Key = key(
    "key",
    &FILE,
    "that of the directory",
    "PEM file of its key: PKCS#8, PKCS#1 or SEC1. Needed unless `certificate` is a directory. Environment, in [upstream]: `CLIENT_KEY_PATH`, `PROXY_CLIENT_KEY_PATH`.",
);

const PEER_NAME_KEY: Key = key(
    "server-name",
    &PEER_NAME,
    "the url's host",
    "The name that is asked for (SNI) and that the certificate there is verified against.",
);

static REVERSE_PROXY: Table = Table {
    path: "reverse-proxy",
    text: "How origin-form requests reach the manager, in the modes `reverse-proxy` and `end-to-end-mtls`.",
    keys: &[
        key(
            "prefix",
            &PREFIX,
            "everything is served",
            "Only requests beneath it are served, and it is taken off on the way. A request elsewhere gets 404.",
        ),
        key(
            "forwarded-headers",
            &FLAG,
            "",
            "Whether `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` say who asked for what; those of a client are replaced.",
        ),
        key(
            "client-certificate-header",
            &FLAG,
            "",
            "Whether `x-forwarded-client-cert` is set from the client's verified certificate. A client's own is removed in any case.",
        ),
    ],
};

static PARENT: Table = Table {
    path: "upstream.parent",
    text: "A corporate proxy on the way: HNP asks it with CONNECT for every target, but for those of `no-proxy`.",
    keys: &[
        Key {
            name: "url",
            kind: Kind::Required(&PARENT_URL),
            absent: "required",
            text: "`http://host:port` or `https://host:port`, with `user:password@` before the host for Basic authentication.",
        },
        CA,
        CLIENT_CERTIFICATE,
        CLIENT_KEY,
        PEER_NAME_KEY,
        key(
            "username",
            &USER,
            "those of the url",
            "User name for the parent, instead of one in the url. Needs `password-file`.",
        ),
        key(
            "password-file",
            &FILE,
            "that of the url",
            "File whose first line is the password for `username`.",
        ),
        key(
            "no-proxy",
            &NO_PROXY,
            "`[]`",
            "Targets reached directly, as in `NO_PROXY`: names (`example.com`, `.example.com` and `*.example.com` alike mean it and what ends in `.example.com`), addresses, networks (of literal addresses: names are not resolved for this), or `*`.",
        ),
    ],
};

static POLICY: Table = Table {
    path: "policy",
    text: "Who may reach what. It fails closed: with no rule, only the upstream can be reached.",
    keys: &[
        key(
            "mode",
            &POLICY_MODE,
            "",
            "`report` lets pass what it would refuse, and logs and counts it. For finding the rules, not for keeping.",
        ),
        Key {
            name: "allow",
            kind: Kind::Tables(&ALLOW),
            absent: "",
            text: "What may be reached.",
        },
        Key {
            name: "deny",
            kind: Kind::Tables(&DENY),
            absent: "",
            text: "What may not be reached.",
        },
    ],
};

static ALLOW: Table = Table {
    path: "policy.allow",
    text: "What may be reached: one table a rule. A rule needs `hosts`, `cidrs` or both, and matches a target that either names.",
    keys: RULE,
};

static DENY: Table = Table {
    path: "policy.deny",
    text: "What may not be reached, whatever `policy.allow` says. The same keys.",
    keys: RULE,
};

static RULE: &[Key] = &[
    key(
        "hosts",
        &HOSTS,
        "",
        "Names, or literal addresses as clients ask for them. `*.example.com` is every name that ends in `.example.com`, at any depth; `*` is every name.",
    ),
    key(
        "cidrs",
        &CIDRS,
        "",
        "Networks. The address that is dialled is what counts. In `allow`, naming a private, loopback or link-local range here is what allows it.",
    ),
    key("ports", &PORTS, "", "Ports this rule is about; empty: all."),
    key(
        "identities",
        &IDENTITIES,
        "",
        "Who this rule is for: users of `auth.htpasswd`, and names of client certificates as the log shows them; empty: everyone. Needs `auth.htpasswd` or a `client-auth` that is not `off`.",
    ),
];

static AUTH: Table = Table {
    path: "auth",
    text: "Who clients are, by proxy credentials.",
    keys: &[
        key(
            "htpasswd",
            &FILE,
            "no credentials asked for",
            "File of `user:hash` lines, bcrypt or argon2 (`htpasswd -B`). With it, a client without valid credentials gets 407. Read again when it changes.",
        ),
        key(
            "realm",
            &TEXT,
            "`hnp`",
            "The realm of `Proxy-Authenticate`.",
        ),
    ],
};

static LIMITS: Table = Table {
    path: "limits",
    text: "How much of everything, all workers together.",
    keys: &[
        key(
            "connections",
            &COUNT,
            "",
            "Client connections at once. Beyond: 503 with `Retry-After`.",
        ),
        key(
            "connections-per-client",
            &COUNT,
            "no limit",
            "Client connections at once from one client address. Beyond: 429.",
        ),
        key(
            "connections-per-second",
            &COUNT,
            "no limit",
            "New connections a second. Beyond: 503.",
        ),
        key(
            "connections-per-second-per-client",
            &COUNT,
            "no limit",
            "New connections a second from one client address. Beyond: 429.",
        ),
        key(
            "handshakes",
            &COUNT,
            "",
            "TLS handshakes of clients at once, all workers together. Beyond: the oldest one of the client address with the most is closed to make room.",
        ),
        key(
            "head-size",
            &SIZE,
            "",
            "Bytes of a request head. Beyond: 431.",
        ),
        key(
            "request-line-size",
            &SIZE,
            "",
            "Bytes of a request line, at most `head-size`. Beyond: 414.",
        ),
        key(
            "headers",
            &HEADERS,
            "",
            "Header fields of a request. Beyond: 431.",
        ),
    ],
};

static TIMEOUTS: Table = Table {
    path: "timeouts",
    text: "How long for everything.",
    keys: &[
        key(
            "head",
            &DURATION,
            "",
            "From accept, or the end of the last exchange, to a whole request head. Beyond: 408.",
        ),
        key(
            "resolve",
            &DURATION,
            "",
            "For name resolution. Beyond: 504.",
        ),
        key(
            "connect",
            &DURATION,
            "",
            "For the connection to the target, all its addresses together. Beyond: 504.",
        ),
        key(
            "handshake",
            &DURATION,
            "",
            "For a whole TLS handshake, with a client as well as with an upstream. Beyond: closed, or 504.",
        ),
        key(
            "tunnel-idle",
            &DURATION,
            "",
            "For a tunnel, or a request over HTTP/2, with no byte in either direction.",
        ),
        key(
            "tunnel-lifetime",
            &DURATION,
            "no limit",
            "For the whole life of a tunnel.",
        ),
        key(
            "http-idle",
            &DURATION,
            "",
            "For a request of HTTP/1.1 with no byte in either direction, and for a connection of HTTP/2 with no request.",
        ),
        key(
            "upstream-idle",
            &DURATION,
            "",
            "How long an idle connection to an upstream is kept for the next request.",
        ),
        key(
            "drain",
            &DURATION_OR_ZERO,
            "",
            "From SIGTERM to the end by force; `\"0s\"` ends at once.",
        ),
    ],
};

static DNS: Table = Table {
    path: "dns",
    text: "Name resolution.",
    keys: &[
        key(
            "servers",
            &ADDRESSES,
            "",
            "Name servers; empty: those of `/etc/resolv.conf`.",
        ),
        key(
            "min-ttl",
            &DURATION_OR_ZERO,
            "",
            "Shortest time an answer is kept, whatever its TTL.",
        ),
        key(
            "max-ttl",
            &DURATION,
            "",
            "Longest time an answer is kept, whatever its TTL.",
        ),
        key("cache-size", &COUNT, "", "Answers kept."),
    ],
};

static ADMIN: Table = Table {
    path: "admin",
    text: "Metrics, health and the effective configuration, on an address of their own.",
    keys: &[key(
        "address",
        &ADDRESS_OR_OFF,
        "",
        "Serves `/metrics`, `/healthz`, `/readyz` and `/config`, to whoever can reach it; `\"off\"`: nowhere.",
    )],
};

static LOG: Table = Table {
    path: "log",
    text: "The log, on standard error.",
    keys: &[
        key(
            "format",
            &FORMAT,
            "",
            "Lines for people, or one JSON object a line.",
        ),
        key("level", &LEVEL, "", "Least level of operational lines."),
        key(
            "access",
            &FLAG,
            "",
            "Whether each connection gets its line.",
        ),
    ],
};
