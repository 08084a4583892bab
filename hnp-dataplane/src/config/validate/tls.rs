//! Contradictions of what is about TLS, endpoints and modes.

use std::path::Path;

use super::Findings;
use crate::config::model::{ClientAuth, Config, EndpointConfig, ListenerTls, Mode, Upstream};

/// Whether some client is asked for a certificate.
pub(super) fn asks_for_certificates(config: &Config) -> bool {
    let listener = config.listener.tls.as_ref();
    listener.is_some_and(|tls| tls.client_auth.asks())
        || config
            .endpoints
            .iter()
            .any(|endpoint| endpoint.client_auth.asks())
}

pub(super) fn find(config: &Config, findings: &mut Findings) {
    modes(config, findings);
    if let Some(tls) = &config.listener.tls {
        server(tls, "listener.tls", findings);
    }
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let at = format!("endpoints[{index}]");
        server(&endpoint.tls(), &at, findings);
        let keys = Keys::endpoint(&at);
        client(&endpoint.as_upstream(), &keys, findings);
        distinct(&config.endpoints[..index], endpoint, &at, findings);
    }
    if let Some(upstream) = &config.upstream {
        client(upstream, &Keys::table("upstream"), findings);
        if let Some(parent) = &upstream.parent {
            let like = Upstream {
                ca: parent.ca.clone(),
                certificate: parent.certificate.clone(),
                key: parent.key.clone(),
                server_name: parent.server_name.clone(),
                ..Upstream::at(parent.url.clone())
            };
            client(&like, &Keys::table("upstream.parent"), findings);
        }
    }
    if config.reverse_proxy.client_certificate_header && !asks_for_certificates(config) {
        findings.warning(
            "reverse-proxy.client-certificate-header",
            "`reverse-proxy.client-certificate-header` never says anything: no client is asked for a certificate",
            "set `client-auth` in [listener.tls], or remove this",
        );
    }
}

fn modes(config: &Config, findings: &mut Findings) {
    for (index, mode) in config.modes.iter().enumerate() {
        let name = match mode {
            Mode::Tunnel => continue,
            Mode::ReverseProxy => "reverse-proxy",
            Mode::EndToEndMtls => "end-to-end-mtls",
        };
        let key = format!("modes[{index}]");
        if config.upstream.is_none() {
            findings.error(
                &key,
                format!("the mode `{name}` needs an upstream: that is where its requests go"),
                "set `url` in [upstream] or PROXY_URL",
            );
        }
        let asks = |tls: &ListenerTls| tls.client_auth.asks();
        if *mode == Mode::EndToEndMtls && !config.listener.tls.as_ref().is_some_and(asks) {
            findings.error(
                &key,
                "the mode `end-to-end-mtls` needs [listener.tls] with a `client-auth` that is \"loose\" or \"strict\"",
                "set both, or serve the mode `reverse-proxy`, which asks clients for no certificate",
            );
        }
    }
}

/// A certificate of the server's side and what it asks of clients.
fn server(tls: &ListenerTls, at: &str, findings: &mut Findings) {
    pair(
        Some(&tls.certificate),
        tls.key.as_deref(),
        &Keys::table(at),
        findings,
    );
    let auth = tls.client_auth;
    if auth.asks() && tls.client_ca.is_empty() && !tls.certificate.join("ca.crt").exists() {
        findings.error(
            format!("{at}.client-auth"),
            format!(
                "`{at}.client-auth` is \"{}\", and there is no `client-ca` to verify certificates against",
                auth.as_str()
            ),
            "name the PEM file of the clients' authority in `client-ca`",
        );
    }
    if auth == ClientAuth::Off {
        for (name, unused) in [
            ("client-ca", !tls.client_ca.is_empty()),
            ("crl", !tls.crl.is_empty()),
        ] {
            if unused {
                findings.warning(
                    format!("{at}.{name}"),
                    format!("`{at}.{name}` is not used: `client-auth` is \"off\""),
                    "set `client-auth` to \"loose\" or \"strict\", or remove this",
                );
            }
        }
    }
}

/// The keys of a table, or those of an endpoint that are about its upstream.
struct Keys {
    at: String,
    url: String,
}

impl Keys {
    fn table(at: &str) -> Keys {
        Keys {
            at: format!("{at}."),
            url: format!("{at}.url"),
        }
    }

    fn endpoint(at: &str) -> Keys {
        Keys {
            at: format!("{at}.upstream-"),
            url: format!("{at}.upstream"),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }
}

/// What HNP needs as a client.
fn client(upstream: &Upstream, keys: &Keys, findings: &mut Findings) {
    if upstream.url.scheme() == "https" {
        pair(
            upstream.certificate.as_deref(),
            upstream.key.as_deref(),
            keys,
            findings,
        );
        return;
    }
    let of_tls = [
        ("ca", !upstream.ca.is_empty()),
        ("certificate", upstream.certificate.is_some()),
        ("key", upstream.key.is_some()),
        ("server-name", upstream.server_name.is_some()),
    ];
    for (name, _) in of_tls.into_iter().filter(|(_, set)| *set) {
        let key = keys.key(name);
        findings.error(
            &key,
            format!(
                "`{key}` has no meaning: `{}` is http://, and nothing is encrypted",
                keys.url
            ),
            "write https:// in the url, or remove this",
        );
    }
}

/// A certificate and its key: both, one file with both, or a directory with both. Whether they are any good is found out when
/// they are loaded.
fn pair(certificate: Option<&Path>, key: Option<&Path>, keys: &Keys, findings: &mut Findings) {
    let (certificate_key, key_key) = (keys.key("certificate"), keys.key("key"));
    match (certificate, key) {
        (None, Some(_)) => findings.error(
            &key_key,
            format!("`{key_key}` needs `{certificate_key}`"),
            "name the certificate, too",
        ),
        (Some(certificate), None) if certificate.is_file() && !holds_key(certificate) => {
            findings.error(
                &certificate_key,
                format!("`{certificate_key}` needs `{key_key}`: its file holds no private key"),
                "name the key's file; with a directory that holds both, such as a Kubernetes TLS secret's, no key is named",
            );
        }
        (Some(certificate), _) if certificate.is_dir() => {
            let stems = ["tls", "server", "client"];
            let there = |stem: &&str| certificate.join(format!("{stem}.crt")).exists();
            if !stems.iter().any(there) {
                findings.error(
                    &certificate_key,
                    format!(
                        "`{certificate_key}`: the directory {} holds neither `tls.crt` nor `client.crt`",
                        certificate.display()
                    ),
                    "put certificate and key there (`tls.crt` and `tls.key`, or `client.crt` and `client.key`), or name files",
                );
            }
        }
        _ => {}
    }
}

fn holds_key(file: &Path) -> bool {
    // What cannot be read is another finding.
    std::fs::read(file).map_or(true, |text| {
        text.windows(b"PRIVATE KEY-----".len())
            .any(|part| part == b"PRIVATE KEY-----")
    })
}

/// No two endpoints answer to one name, or to one path.
fn distinct(
    earlier: &[EndpointConfig],
    endpoint: &EndpointConfig,
    at: &str,
    findings: &mut Findings,
) {
    for (index, other) in earlier.iter().enumerate() {
        if other.server_name == endpoint.server_name {
            findings.error(
                format!("{at}.server-name"),
                format!(
                    "`{at}` and `endpoints[{index}]` have the same server name `{}`",
                    endpoint.server_name
                ),
                "give each endpoint a name of its own",
            );
        }
        let (mine, theirs) = (&endpoint.prefix, &other.prefix);
        let what = if mine == theirs {
            format!("have the same prefix `{mine}`")
        } else if beneath(mine, theirs) || beneath(theirs, mine) {
            format!(
                "have the prefixes `{mine}` and `{theirs}`, of which one lies beneath the other"
            )
        } else {
            continue;
        };
        findings.error(
            format!("{at}.prefix"),
            format!(
                "`{at}` (`{}`) and `endpoints[{index}]` (`{}`) {what}",
                endpoint.server_name, other.server_name
            ),
            "give each endpoint a prefix of its own, such as \"/\" and its account",
        );
    }
}

fn beneath(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'))
}
