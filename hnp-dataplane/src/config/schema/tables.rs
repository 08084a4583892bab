//! The tables and their keys, in the order of the reference.

use super::values::*;
use super::{Key, Kind, Table, key, later, table};

/// The whole file.
pub(in crate::config) static TOP: Table = Table {
    path: "",
    text: "Top level, above the first table.",
    keys: &[
        key(
            "modes",
            &MODES,
            "",
            "What the listener serves. `tunnel` is HTTP CONNECT and absolute-form `http://` requests; this build serves no other.",
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
        table("listener", &LISTENER),
        table("upstream", &UPSTREAM),
        table("policy", &POLICY),
        table("auth", &AUTH),
        table("limits", &LIMITS),
        table("timeouts", &TIMEOUTS),
        table("dns", &DNS),
        table("admin", &ADMIN),
        table("log", &LOG),
        later(
            "endpoints",
            "dedicated mTLS endpoints of the manager's side",
        ),
        later("intercept", "transparent interception"),
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
        later("tls", "TLS on the listener"),
    ],
};

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
        table("parent", &PARENT),
        later("ca", "TLS towards the manager"),
        later("certificate", "TLS towards the manager"),
        later("key", "TLS towards the manager"),
        later("server-name", "TLS towards the manager"),
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
            text: "`http://host:port`, with `user:password@` before the host for Basic authentication. `https://` comes with a later build.",
        },
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
        &USERS,
        "",
        "Users this rule is for; empty: everyone. Needs `auth.htpasswd`.",
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
            "tunnel-idle",
            &DURATION,
            "",
            "For a tunnel with no byte in either direction.",
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
            "For a forwarded request with no byte in either direction.",
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
