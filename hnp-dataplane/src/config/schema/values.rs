//! The types of values: what each is called, what an error says it expected, and its check.

use super::Value;
use crate::config::checks::{self, Check};
use crate::config::model;

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

pub(super) static FLAG: Value = value("boolean", "`true` or `false`", checks::typed::<bool>);
pub(super) static COUNT: Value = value(
    "number",
    "a whole number from 1 to 4294967295",
    checks::count,
);
pub(super) static BACKLOG: Value =
    value("number", "a whole number from 1 to 65535", checks::backlog);
pub(super) static WORKERS: Value =
    value("number", "a whole number from 1 to 1024", checks::workers);
pub(super) static HEADERS: Value =
    value("number", "a whole number from 1 to 1000", checks::headers);
pub(super) static TEXT: Value = value(
    "string",
    "a string without control characters or `\"`",
    checks::quotable,
);
pub(super) static USER: Value = value(
    "string",
    "a user name: a string without `:` or control characters",
    checks::user,
);
pub(super) static IDENTITIES: Value = value(
    "list of strings",
    "a list of user names and names of certificates",
    checks::identities,
);
pub(super) static FILES: Value = value(
    "path or list of them",
    "a path or a list of them; a relative one starts at the file's directory",
    checks::paths,
);
pub(super) static SERVER_NAME: Value = value(
    "name",
    "a DNS name such as \"acme.agent.example.com\"",
    checks::server_name,
);
pub(super) static PEER_NAME: Value = value(
    "name",
    "a DNS name such as \"app.harness.io\", or an address",
    checks::peer_name,
);
pub(super) static PREFIX: Value = value(
    "path prefix",
    "the start of request paths, such as \"/acme\"",
    checks::prefix,
);
pub(super) static CLIENT_AUTH: Value = choice(
    "`\"off\"`, `\"loose\"` or `\"strict\"`",
    "`\"off\"`, `\"loose\"` or `\"strict\"`",
    &["off", "loose", "strict"],
    checks::typed::<model::ClientAuth>,
);
pub(super) static TLS_VERSION: Value = choice(
    "`\"1.2\"` or `\"1.3\"`",
    "`\"1.2\"` or `\"1.3\"`",
    &["1.2", "1.3"],
    checks::typed::<model::TlsVersion>,
);
pub(super) static PROTOCOL: Value = choice(
    "`\"auto\"`, `\"http1\"` or `\"h2\"`",
    "`\"auto\"`, `\"http1\"` or `\"h2\"`",
    &["auto", "http1", "h2"],
    checks::typed::<model::HttpProtocol>,
);
pub(super) static FILE: Value = value(
    "path",
    "a path; a relative one starts at the file's directory",
    checks::path,
);
pub(super) static DURATION: Value = value(
    "duration",
    "a duration such as \"10s\", longer than 0",
    checks::positive_duration,
);
pub(super) static DURATION_OR_ZERO: Value =
    value("duration", "a duration such as \"10s\"", checks::duration);
pub(super) static SIZE: Value = value(
    "size",
    "a size from \"256B\" to \"1MiB\"",
    checks::head_size,
);
pub(super) static ADDRESS_OR_OFF: Value = value(
    "address or `\"off\"`",
    "an address \"ip:port\", or \"off\"",
    checks::address_or_off,
);
pub(super) static ADDRESSES: Value = value(
    "list of addresses",
    "a list of addresses \"ip:port\"",
    checks::addresses,
);
pub(super) static LISTEN: Value = value(
    "address or list of them",
    "an address \"ip:port\" or a list of them",
    checks::listen,
);
pub(super) static HOSTS: Value = value(
    "list of names",
    "a list of host names, `\"*.example.com\"` or `\"*\"`",
    checks::hosts,
);
pub(super) static CIDRS: Value = value(
    "list of networks",
    "a list of networks such as \"10.0.0.0/8\"",
    checks::cidrs,
);
pub(super) static PORTS: Value = value(
    "list of ports",
    "a list of ports such as 443 and ranges such as \"9000-9999\"",
    checks::ports,
);
pub(super) static NO_PROXY: Value = value(
    "list",
    "a list of host names, addresses and networks",
    checks::no_proxy,
);
pub(super) static URL: Value = value(
    "url",
    "a url such as \"https://app.harness.io\"",
    checks::upstream_url,
);
pub(super) static PARENT_URL: Value = value(
    "url",
    "a url such as \"http://proxy.corp:3128\"",
    checks::parent_url,
);

pub(super) static MODES: Value = choice(
    "list of modes",
    "a list of modes such as [\"tunnel\"]",
    &["tunnel", "reverse-proxy", "end-to-end-mtls"],
    checks::modes,
);
pub(super) static BACKEND: Value = choice(
    "`\"auto\"`, `\"io_uring\"` or `\"epoll\"`",
    "`\"auto\"`, `\"io_uring\"` or `\"epoll\"`",
    &["auto", "io_uring", "epoll"],
    checks::typed::<model::Backend>,
);
pub(super) static KTLS: Value = choice(
    "`\"auto\"` or `\"off\"`",
    "`\"auto\"` or `\"off\"`",
    &["auto", "off"],
    checks::typed::<model::Ktls>,
);
pub(super) static POLICY_MODE: Value = choice(
    "`\"enforce\"` or `\"report\"`",
    "`\"enforce\"` or `\"report\"`",
    &["enforce", "report"],
    checks::typed::<model::PolicyMode>,
);
pub(super) static FORMAT: Value = choice(
    "`\"text\"` or `\"json\"`",
    "`\"text\"` or `\"json\"`",
    &["text", "json"],
    checks::typed::<model::LogFormat>,
);
pub(super) static LEVEL: Value = choice(
    "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`",
    "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`",
    &["error", "warn", "info", "debug", "trace"],
    checks::typed::<String>,
);
pub(super) static FAILURE: Value = choice(
    "`\"open\"` or `\"closed\"`",
    "`\"open\"` or `\"closed\"`",
    &["open", "closed"],
    checks::typed::<model::Failure>,
);
pub(super) static UPSTREAM_NAMESPACE: Value = choice(
    "`\"pod\"` or `\"host\"`",
    "`\"pod\"` or `\"host\"`",
    &["pod", "host"],
    checks::typed::<model::UpstreamNamespace>,
);
pub(super) static INTERCEPT_ACTION: Value = choice(
    "action",
    "`\"relay\"`, `\"tunnel\"`, `\"mtls\"`, `\"direct\"` or `\"deny\"`",
    &["relay", "tunnel", "mtls", "direct", "deny"],
    checks::typed::<model::InterceptAction>,
);
