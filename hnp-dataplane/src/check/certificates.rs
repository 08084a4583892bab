//! The certificates, keys, authorities and revocation lists that the configuration names: loaded as `hnp run` loads them, judged as
//! `hnp certs inspect` judges them.

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;
use url::Url;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::Subject;
use super::report::{Group, Item};
use crate::certs::facts::{self, Facts, date};
use crate::certs::file::{self, Kind};
use crate::config::Config;
use crate::config::model::Upstream;
use crate::tls::{Clients, Loaded, Role, Server, TlsConfigError};

pub(super) fn look(subject: &Subject) -> Vec<Item> {
    let mut group = Group::new("certificates");
    let mut none = true;
    for (part, config) in parts(subject.config()) {
        match load(&config) {
            Err(error) => {
                none = false;
                let fault = error.fault();
                let detail = format!("{part}: {}: {}", fault.file, fault.fault);
                group.fail("loads", detail, fault.remedy.clone());
            }
            Ok((loaded, warnings)) => {
                none &= loaded.is_empty();
                for warning in warnings {
                    group.warn(
                        "odd",
                        warning,
                        "put the files in order, so that it is clear what they are for",
                    );
                }
                judge(&mut group, &loaded);
            }
        }
    }
    if none {
        group.ok("loads", "none are configured");
    }
    group.items
}

/// Each part of the configuration that names certificates as a configuration of its own, so that one's fault does not hide another's.
fn parts(config: &Config) -> Vec<(String, Config)> {
    let alone = Config::default();
    let mut parts = Vec::new();
    if config.listener.tls.is_some() {
        let listener = config.listener.clone();
        let modes = config.modes.clone();
        let part = Config {
            listener,
            modes,
            ..alone.clone()
        };
        parts.push(("listener".to_owned(), part));
    }
    for endpoint in &config.endpoints {
        let part = Config {
            endpoints: vec![endpoint.clone()],
            ..alone.clone()
        };
        parts.push((format!("endpoint {}", endpoint.server_name), part));
    }
    if let Some(upstream) = &config.upstream {
        let upstream = Upstream {
            parent: None,
            ..upstream.clone()
        };
        let part = Config {
            upstream: Some(upstream),
            ..alone.clone()
        };
        parts.push(("upstream".to_owned(), part));
    }
    let parent = config.upstream.as_ref().and_then(|it| it.parent.clone());
    if let (Some(parent), Ok(plain)) = (parent, Url::parse("http://upstream.invalid")) {
        let upstream = Upstream {
            parent: Some(parent),
            ..Upstream::at(plain)
        };
        let part = Config {
            upstream: Some(upstream),
            ..alone
        };
        parts.push(("parent".to_owned(), part));
    }
    parts
}

fn load(config: &Config) -> Result<(Vec<Loaded>, Vec<String>), TlsConfigError> {
    let mut loaded = Vec::new();
    let mut warnings = Vec::new();
    if let Some(server) = Server::compile(config, None)? {
        loaded.extend_from_slice(server.certificates());
        warnings.extend_from_slice(server.warnings());
    }
    let clients = Clients::compile(config, None)?;
    loaded.extend_from_slice(clients.certificates());
    warnings.extend_from_slice(clients.warnings());
    Ok((loaded, warnings))
}

fn judge(group: &mut Group, loaded: &[Loaded]) {
    let now = UnixTime::now();
    for (index, one) in loaded.iter().enumerate() {
        let name = match one.role {
            Role::Server => "server-certificate",
            Role::Client => "client-certificate",
            Role::ClientCa => "client-ca",
            Role::UpstreamCa => "upstream-ca",
            Role::RevocationList => "revocation-list",
        };
        let (part, path, subject) = (&one.part, one.path.display(), &one.subject);
        let about = format!("{part}: {path}: {subject}");
        // Another that does may stand beside it in the bundle.
        let alone = !loaded
            .iter()
            .any(|other| other.role == one.role && other.part == one.part && valid(other, now));
        let vital = matches!(one.role, Role::Server | Role::Client | Role::RevocationList) || alone;
        if !valid(one, now) {
            let (why, remedy) = match one.not_before > seconds(now) {
                true => (
                    format!("not valid before {}", day(one.not_before)),
                    "correct this machine's clock, or issue it again",
                ),
                false => (
                    format!("expired at {}", day(one.not_after)),
                    "put a new one in its place; hnp takes it up without a restart",
                ),
            };
            match vital {
                true => group.fail(name, format!("{about}: {why}"), remedy),
                false => group.warn(name, format!("{about}: {why}"), remedy),
            }
            continue;
        }
        let until = format!("{about}, valid until {}", day(one.not_after));
        if one.warning(now).is_some() {
            let left = one.seconds_left(now) / 3600;
            let detail = format!("{until}: that is in {left} hours");
            group.warn(name, detail, "put a new one in its place in time");
            continue;
        }
        // What follows a certificate in its file is there to lead to the authority.
        let first = index == 0 || loaded[index - 1].path != one.path;
        match first.then(|| unfit(one)).flatten() {
            Some(why) => group.warn(
                name,
                format!("{about}: {why}"),
                "issue it anew for what it is used for; `hnp certs inspect` says more of it",
            ),
            None => group.ok(name, until),
        }
    }
}

/// Why a peer is likely to refuse it.
fn unfit(one: &Loaded) -> Option<String> {
    if !matches!(one.role, Role::Server | Role::Client) {
        return None;
    }
    let blocks = file::read(&one.path).ok()?;
    let mut certificates = blocks.iter().filter(|it| it.kind == Kind::Certificate);
    let roles = certificates.find_map(|block| {
        let (_, certificate) = X509Certificate::from_der(&block.der).ok()?;
        let is_it = facts::printable(certificate.subject()) == *one.subject;
        is_it.then(|| Facts::of(&certificate, OffsetDateTime::now_utc()).roles)
    })?;
    let role = match one.role {
        Role::Server => roles.server_certificate,
        _ => roles.client_certificate,
    };
    (!role.accepted).then_some(role.reason)
}

fn valid(one: &Loaded, now: UnixTime) -> bool {
    one.not_before <= seconds(now) && one.seconds_left(now) >= 0
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn day(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "never".to_owned(), date)
}
