//! The report of `hnp certs inspect` as text.

use std::fmt::{self, Display, Formatter};

use super::facts::{Facts, Role};
use super::inspect::{Entry, FileReport, Report};

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (index, file) in self.files.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{file}")?;
        }
        Ok(())
    }
}

impl Display for FileReport {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for entry in &self.holds {
            write!(out, "{}: ", self.file)?;
            match entry {
                Entry::Certificate {
                    facts,
                    keys,
                    self_signed,
                    chain,
                } => {
                    writeln!(out, "certificate")?;
                    certificate(out, facts)?;
                    line(out, "private key", &or(keys, "not among the files"))?;
                    line(out, "signed by", &signers(*self_signed, chain))?;
                    roles(out, facts)?;
                }
                Entry::PrivateKey {
                    format,
                    key,
                    certificates,
                } => {
                    writeln!(out, "private key")?;
                    line(out, "format", format)?;
                    line(out, "key", key.as_deref().unwrap_or("unknown"))?;
                    line(
                        out,
                        "matches",
                        &or(certificates, "no certificate among the files"),
                    )?;
                }
                Entry::Request {
                    subject,
                    public_key,
                } => {
                    writeln!(out, "certificate signing request")?;
                    line(out, "subject", subject)?;
                    line(out, "key", public_key)?;
                }
                Entry::RevocationList {
                    issuer,
                    revoked,
                    updated,
                    next_update,
                } => {
                    writeln!(out, "revocation list")?;
                    line(out, "issuer", issuer)?;
                    line(out, "revoked", &format!("{revoked} certificates"))?;
                    line(out, "updated", updated)?;
                    line(
                        out,
                        "next update",
                        next_update.as_deref().unwrap_or("not said"),
                    )?;
                }
                Entry::Other { label } => writeln!(out, "{label}, which HNP does not use")?,
                Entry::Unreadable => writeln!(out, "unreadable")?,
            }
        }
        Ok(())
    }
}

fn certificate(out: &mut Formatter<'_>, facts: &Facts) -> fmt::Result {
    let version = match facts.version {
        1 => "X.509 v1, without extensions".to_owned(),
        version => format!("X.509 v{version}"),
    };
    line(out, "subject", &facts.subject)?;
    line(out, "issuer", &facts.issuer)?;
    line(out, "version", &version)?;
    line(out, "serial", &facts.serial)?;
    line(out, "key", &facts.public_key)?;
    line(out, "names", &or(&facts.names, "none"))?;
    line(out, "purposes", &or(&facts.purposes, "any"))?;
    line(out, "CA", if facts.ca { "yes" } else { "no" })?;
    let left = match facts.days_left {
        days if days < 0 => "expired".to_owned(),
        days => format!("{days} days left"),
    };
    line(out, "valid from", &facts.valid_from)?;
    line(
        out,
        "valid until",
        &format!("{} ({left})", facts.valid_until),
    )
}

fn roles(out: &mut Formatter<'_>, facts: &Facts) -> fmt::Result {
    let verdict = |role: &Role| {
        let verdict = if role.accepted { "yes" } else { "no" };
        format!("{verdict}: {}", role.reason)
    };
    line(out, "as client", &verdict(&facts.roles.client_certificate))?;
    line(out, "as server", &verdict(&facts.roles.server_certificate))?;
    line(out, "as CA", &verdict(&facts.roles.ca))
}

fn signers(self_signed: bool, chain: &[String]) -> String {
    match chain {
        _ if self_signed => "itself".to_owned(),
        [] => "a CA that is not among the files".to_owned(),
        chain => format!("{} (signature checked)", chain.join(", then ")),
    }
}

fn or(values: &[String], otherwise: &str) -> String {
    match values {
        [] => otherwise.to_owned(),
        values => values.join(", "),
    }
}

fn line(out: &mut Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "  {name:<12} {value}")
}
