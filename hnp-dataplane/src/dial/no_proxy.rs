//! Which targets are reached directly although there is a parent proxy.
//!
//! The list means what curl's `NO_PROXY` means: a name stands for itself and for all that ends in it after a dot (with or
//! without a leading `.` or `*.`), an address for itself, a CIDR for the literal addresses within it, `*` for everything.
//! Names are not resolved for the sake of a CIDR.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::target::Host;

/// A compiled no-proxy list.
#[derive(Debug, Clone, Default)]
pub struct NoProxy {
    everything: bool,
    /// Lower case, without a leading dot.
    domains: Vec<Box<str>>,
    networks: Vec<IpNet>,
}

/// An entry that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{entry}` in `upstream.parent.no-proxy` is neither a name, an address, a CIDR nor `*`: write `example.com`, \
     `10.0.0.0/8` or `*`, without scheme and port"
)]
pub struct NoProxyError {
    entry: String,
}

impl NoProxy {
    /// Compiles a list.
    ///
    /// # Errors
    /// The first entry that is of no known form.
    pub fn compile<S: AsRef<str>>(entries: &[S]) -> Result<NoProxy, NoProxyError> {
        let mut list = NoProxy::default();
        for entry in entries {
            let entry = entry.as_ref().trim();
            if entry == "*" {
                list.everything = true;
            } else if let Some(network) = network(entry) {
                list.networks.push(network);
            } else {
                let name = entry
                    .strip_prefix("*.")
                    .or_else(|| entry.strip_prefix('.'))
                    .unwrap_or(entry);
                let name = name.strip_suffix('.').unwrap_or(name);
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                if name.is_empty() || !name.bytes().all(plain) {
                    return Err(NoProxyError {
                        entry: entry.to_owned(),
                    });
                }
                list.domains.push(name.to_ascii_lowercase().into());
            }
        }
        Ok(list)
    }

    /// Whether `host` is reached without the parent.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        self.everything
            || match host {
                Host::Name(name) => self.domains.iter().any(|domain| {
                    name.strip_suffix(&**domain)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }),
                Host::Address(address) => {
                    let address = address.to_canonical();
                    self.networks
                        .iter()
                        .any(|network| network.contains(&address))
                }
            }
    }
}

fn network(entry: &str) -> Option<IpNet> {
    if let Ok(network) = entry.parse::<IpNet>() {
        return Some(network);
    }
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| IpNet::from(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse()
            .map_or_else(|_| Host::Name(text.into()), Host::Address)
    }

    #[test]
    fn entries_mean_what_curl_makes_of_them() {
        let table: &[(&str, &str, bool)] = &[
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            ("example.com", "notexample.com", false),
            ("example.com", "example.com.evil.org", false),
            (".example.com", "example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("Example.COM.", "example.com", true),
            ("local", "db.local", true),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("[::1]", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/8", "ten.example.com", false),
            ("*", "anything", true),
            ("*", "8.8.8.8", true),
        ];
        for (entry, target, expected) in table {
            let list = NoProxy::compile(&[entry]).unwrap();
            assert_eq!(list.matches(&host(target)), *expected, "{entry} {target}");
        }
        assert!(!NoProxy::default().matches(&host("localhost")));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for entry in [
            "",
            "http://example.com",
            "example.com:8080",
            "10.0.0.0/33",
            "a b",
        ] {
            let error = NoProxy::compile(&[entry]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{entry}`")), "{error}");
        }
    }
}
