//! What no single value shows: values that contradict each other, and files that cannot be read.

use std::net::{IpAddr, SocketAddr};

mod intercept;
mod tls;

use super::diagnostic::{Diagnostic, Place, Severity};
use super::model::{Config, PolicyMode, Rule, Upstream};
use crate::policy::Engine;

/// A contradiction: severity, the dotted key to point at, what is wrong, what to do.
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: String,
}

impl Finding {
    /// With its place.
    pub(super) fn at(self, place: Place) -> Diagnostic {
        Diagnostic {
            severity: self.severity,
            key: self.key,
            message: self.message,
            help: Some(self.help),
            place,
        }
    }
}

/// All contradictions in a configuration whose single values are right.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    findings.addresses(config);
    findings.rules(config);
    findings.reach(config);
    findings.upstream(config);
    tls::find(config, &mut findings);
    intercept::find(config, &mut findings);
    findings.bounds(config);
    findings.files(config);
    if !findings
        .0
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        findings.policy(config);
    }
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn error(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Error, key, message, help);
    }

    fn warning(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Warning, key, message, help);
    }

    fn add(
        &mut self,
        severity: Severity,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (key, message, help) = (key.into(), message.into(), help.into());
        self.0.push(Finding {
            severity,
            key,
            message,
            help,
        });
    }

    fn addresses(&mut self, config: &Config) {
        let listeners = &config.listener.address;
        for (index, address) in listeners.iter().enumerate() {
            if let Some(earlier) = listeners[..index]
                .iter()
                .find(|earlier| overlap(**earlier, *address))
            {
                self.error(
                    format!("listener.address[{index}]"),
                    format!("`{address}` and `{earlier}` cannot both be listened on"),
                    "remove one of them",
                );
            }
        }
        let Some(admin) = config.admin.address else {
            return;
        };
        if let Some(listener) = listeners.iter().find(|listener| overlap(**listener, admin)) {
            self.error(
                "admin.address",
                format!("the admin address `{admin}` is the listener's, `{listener}`"),
                "give it a port of its own, or \"off\"",
            );
        }
    }

    fn rules(&mut self, config: &Config) {
        let with_identities = config.auth.htpasswd.is_some() || tls::asks_for_certificates(config);
        for (list, rules) in [
            ("allow", &config.policy.allow),
            ("deny", &config.policy.deny),
        ] {
            for (index, rule) in rules.iter().enumerate() {
                let key = format!("policy.{list}[{index}]");
                self.rule(&key, rule, with_identities);
            }
        }
    }

    fn rule(&mut self, key: &str, rule: &Rule, with_identities: bool) {
        if rule.hosts.is_empty() && rule.cidrs.is_empty() {
            self.error(
                key,
                format!("the rule `{key}` names no target: it has neither `hosts` nor `cidrs`"),
                "name some; `hosts = [\"*\"]` is every name",
            );
        }
        if !rule.identities.is_empty() && !with_identities {
            self.error(
                format!("{key}.identities"),
                format!(
                    "`{key}.identities` needs `auth.htpasswd` or a `client-auth`: without them no client has an identity"
                ),
                "set `htpasswd` in [auth] or `client-auth` in [listener.tls], or remove `identities`",
            );
        }
    }

    /// What the policy itself cannot make sense of.
    fn policy(&mut self, config: &Config) {
        if let Err(error) = Engine::compile(config) {
            self.error(
                error.key(),
                error.to_string(),
                "change or remove what it names",
            );
        }
    }

    fn reach(&mut self, config: &Config) {
        if config.upstream.is_none()
            && config.policy.allow.is_empty()
            && config.policy.mode == PolicyMode::Enforce
            && config.intercept.is_none()
        {
            self.warning(
                "policy",
                "nothing can be reached: there is neither an upstream nor a rule in `policy.allow`",
                "set `url` in [upstream] or PROXY_URL, or add [[policy.allow]]",
            );
        }
        if config.policy.mode == PolicyMode::Report {
            self.warning(
                "policy.mode",
                "the policy refuses nothing: its mode is `report`",
                "set it to \"enforce\" once the log shows no refusal that is not meant",
            );
        }
    }

    fn upstream(&mut self, config: &Config) {
        let Some(Upstream {
            parent: Some(parent),
            ..
        }) = &config.upstream
        else {
            return;
        };
        let in_url = !parent.url.username().is_empty() || parent.url.password().is_some();
        match (&parent.username, &parent.password_file) {
            (Some(_), None) => self.error(
                "upstream.parent.username",
                "`upstream.parent.username` needs `password-file`",
                "name a file whose first line is the password",
            ),
            (None, Some(_)) => self.error(
                "upstream.parent.password-file",
                "`upstream.parent.password-file` needs `username`",
                "name the user whose password it is",
            ),
            (Some(_), Some(_)) if in_url => self.error(
                "upstream.parent.username",
                "the parent's credentials are given twice: in `url` and by `username`",
                "remove those in the url",
            ),
            _ => {}
        }
    }

    fn bounds(&mut self, config: &Config) {
        let limits = &config.limits;
        if limits.request_line_size > limits.head_size {
            self.error(
                "limits.request-line-size",
                format!(
                    "`limits.request-line-size` ({}) is more than `limits.head-size` ({}), which contains it",
                    limits.request_line_size, limits.head_size
                ),
                "raise `head-size` or lower this",
            );
        }
        if config.dns.min_ttl > config.dns.max_ttl {
            self.error(
                "dns.min-ttl",
                format!(
                    "`dns.min-ttl` ({}) is more than `dns.max-ttl` ({})",
                    config.dns.min_ttl, config.dns.max_ttl
                ),
                "raise `max-ttl` or lower this",
            );
        }
    }

    fn files(&mut self, config: &Config) {
        for file in config.named_files() {
            if let Some(why) = file.wrong() {
                let key = &file.key;
                self.error(
                    key,
                    format!("`{key}`: cannot read {}: {why}", file.path.display()),
                    "name a file that exists and that this user may read; a relative path starts at the configuration file's directory",
                );
            }
        }
    }
}

/// Whether the kernel would refuse the second of two listeners: the same port on the same address, or on any.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    // `[::]` takes IPv4 connections, too, unless the host says otherwise.
    let both_families = |ip: IpAddr| ip.is_ipv6() && any(ip);
    let same_family = a.is_ipv4() == b.is_ipv4();
    let one_is_any = any(a.ip()) || any(b.ip());
    a.port() == b.port()
        && (a.ip() == b.ip()
            || (same_family && one_is_any)
            || both_families(a.ip())
            || both_families(b.ip()))
}
