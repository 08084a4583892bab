//! Every key that the file may hold: one list that checks files, suggests spellings and writes `docs/configuration.md`.
//!
//! Serde would stop at the first mistake and name no neighbour; this list finds all of them, with places. That it says the
//! same as the types of [`model`](super::model) is what the tests beside it and in `reference` hold.

use super::checks::{self, Check};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// Dotted path; empty for the top level.
    pub(super) path: &'static str,
    /// What it is about.
    pub(super) text: &'static str,
    /// Its keys, in the order of the reference.
    pub(super) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the reference alone is written from `absent` and `text`"
    )
)]
pub(super) struct Key {
    /// As written in the file.
    pub(super) name: &'static str,
    /// What may stand there.
    pub(super) kind: Kind,
    /// What holds when the key is absent and the default configuration has no value for it.
    pub(super) absent: &'static str,
    /// What it does.
    pub(super) text: &'static str,
}

/// What may stand at a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A value.
    Value(&'static Value),
    /// A value without which its table is refused.
    Required(&'static Value),
    /// `[table]`.
    Table(&'static Table),
    /// `[[table]]`, any number of times.
    Tables(&'static Table),
    /// Known, refused by this build: what it is for.
    Later(&'static str),
}

/// A type of value.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the reference alone is written from `name`")
)]
pub(super) struct Value {
    /// As the reference calls it.
    pub(super) name: &'static str,
    /// What an error says it expected: with article and example.
    pub(super) expected: &'static str,
    /// The only texts allowed; empty when anything that `check` accepts is.
    pub(super) choices: &'static [&'static str],
    /// Says what is wrong with a value.
    pub(super) check: Check,
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The dotted path of the key `name` of this table.
    pub(super) fn path_of(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// The keys that take a value or a table in this build.
    pub(super) fn served(&self) -> impl Iterator<Item = &'static Key> {
        let served = |key: &&Key| !matches!(key.kind, Kind::Later(_));
        self.keys.iter().filter(served)
    }

    /// This table and those within, depth first, each before its own.
    pub(super) fn all(&'static self) -> Vec<&'static Table> {
        let within = self.keys.iter().filter_map(|key| match key.kind {
            Kind::Table(table) | Kind::Tables(table) => Some(table.all()),
            _ => None,
        });
        std::iter::once(self).chain(within.flatten()).collect()
    }
}

/// The value's type at a dotted path without indices, such as `upstream.url`.
pub(super) fn value_at(path: &str) -> Option<&'static Value> {
    let mut table = &TOP;
    for name in path.split('.') {
        match table.key(name)?.kind {
            Kind::Value(value) | Kind::Required(value) => return Some(value),
            Kind::Table(within) | Kind::Tables(within) => table = within,
            Kind::Later(_) => return None,
        }
    }
    None
}

const fn key(
    name: &'static str,
    value: &'static Value,
    absent: &'static str,
    text: &'static str,
) -> Key {
    let kind = Kind::Value(value);
    Key {
        name,
        kind,
        absent,
        text,
    }
}

const fn later(name: &'static str, text: &'static str) -> Key {
    let kind = Kind::Later(text);
    Key {
        name,
        kind,
        absent: "",
        text,
    }
}

const fn table(name: &'static str, table: &'static Table) -> Key {
    let kind = Kind::Table(table);
    Key {
        name,
        kind,
        absent: "",
        text: table.text,
    }
}

const fn value(name: &'static str, expected: &'static str, check: Check) -> Value {
    Value {
        name,
        expected,
        choices: &[],
        check,
    }
}

const fn choice(
    name: &'static str,
    expected: &'static str,
    choices: &'static [&'static str],
    check: Check,
) -> Value {
    Value {
        name,
        expected,
        choices,
        check,
    }
}

static FLAG: Value = value("boolean", "`true` or `false`", checks::typed::<bool>);
static COUNT: Value = value(
    "number",
    "a whole number from 1 to 4294967295",
    checks::count,
);
static BACKLOG: Value = value("number", "a whole number from 1 to 65535", checks::backlog);
static WORKERS: Value = value("number", "a whole number from 1 to 1024", checks::workers);
static HEADERS: Value = value("number", "a whole number from 1 to 1000", checks::headers);
static TEXT: Value = value(
    "string",
    "a string without control characters or `\"`",
    checks::quotable,
);
static USER: Value = value(
    "string",
    "a user name: a string without `:` or control characters",
    checks::user,
);
static USERS: Value = value("list of strings", "a list of user names", checks::users);
static FILE: Value = value(
    "path",
    "a path; a relative one starts at the file's directory",
    checks::path,
);
static DURATION: Value = value(
    "duration",
    "a duration such as \"10s\", longer than 0",
    checks::positive_duration,
);
static DURATION_OR_ZERO: Value = value("duration", "a duration such as \"10s\"", checks::duration);
static SIZE: Value = value(
    "size",
    "a size from \"256B\" to \"1MiB\"",
    checks::head_size,
);
static ADDRESS_OR_OFF: Value = value(
    "address or `\"off\"`",
    "an address \"ip:port\", or \"off\"",
    checks::address_or_off,
);
static ADDRESSES: Value = value(
    "list of addresses",
    "a list of addresses \"ip:port\"",
    checks::addresses,
);
static LISTEN: Value = value(
    "address or list of them",
    "an address \"ip:port\" or a list of them",
    checks::listen,
);
static HOSTS: Value = value(
    "list of names",
    "a list of host names, `\"*.example.com\"` or `\"*\"`",
    checks::hosts,
);
static CIDRS: Value = value(
    "list of networks",
    "a list of networks such as \"10.0.0.0/8\"",
    checks::cidrs,
);
static PORTS: Value = value(
    "list of ports",
    "a list of ports such as 443 and ranges such as \"9000-9999\"",
    checks::ports,
);
static NO_PROXY: Value = value(
    "list",
    "a list of host names, addresses and networks",
    checks::no_proxy,
);
static URL: Value = value(
    "url",
    "a url such as \"https://app.harness.io\"",
    checks::upstream_url,
);
static PARENT_URL: Value = value(
    "url",
    "a url such as \"http://proxy.corp:3128\"",
    checks::parent_url,
);

static MODES: Value = choice(
    "list of modes",
    "a list of modes such as [\"tunnel\"]",
    &["tunnel", "reverse-proxy", "end-to-end-mtls"],
    checks::modes,
);
static BACKEND: Value = choice(
    "`\"auto\"`, `\"io_uring\"` or `\"epoll\"`",
    "`\"auto\"`, `\"io_uring\"` or `\"epoll\"`",
    &["auto", "io_uring", "epoll"],
    checks::typed::<super::model::Backend>,
);
static POLICY_MODE: Value = choice(
    "`\"enforce\"` or `\"report\"`",
    "`\"enforce\"` or `\"report\"`",
    &["enforce", "report"],
    checks::typed::<super::model::PolicyMode>,
);
static FORMAT: Value = choice(
    "`\"text\"` or `\"json\"`",
    "`\"text\"` or `\"json\"`",
    &["text", "json"],
    checks::typed::<super::model::LogFormat>,
);
static LEVEL: Value = choice(
    "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`",
    "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`",
    &["error", "warn", "info", "debug", "trace"],
    checks::typed::<String>,
);

/// The whole file.
pub(super) static TOP: Table = Table {
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
