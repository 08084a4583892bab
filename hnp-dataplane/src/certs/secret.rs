//! `hnp certs secret`: the Kubernetes manifest of a client certificate.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Fault;
use super::facts::Facts;
use super::file;
use super::inspect::WARN_DAYS;

/// What goes into the secret, and what it is called.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) shape: Shape,
}

/// Under which keys the files stand.
#[derive(Debug)]
pub(crate) enum Shape {
    /// `client.crt` and `client.key`.
    Generic,
    /// `tls.crt`, `tls.key` and perhaps `ca.crt`.
    Tls { ca: Option<PathBuf> },
}

/// A manifest as YAML, and what its reader should know.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) yaml: String,
    pub(crate) warnings: Vec<Fault>,
}

/// The manifest.
///
/// # Errors
/// A file is missing or not what it should be, or the key is not the certificate's.
pub(crate) fn manifest(secret: &Secret) -> Result<Manifest, Fault> {
    let warnings = check_pair(&secret.certificate, &secret.key)?;
    let (kind, certificate, key) = match secret.shape {
        Shape::Generic => ("Opaque", "client.crt", "client.key"),
        Shape::Tls { .. } => ("kubernetes.io/tls", "tls.crt", "tls.key"),
    };
    let mut data = vec![(certificate, &secret.certificate), (key, &secret.key)];
    if let Shape::Tls { ca: Some(ca) } = &secret.shape {
        file::first_certificate(ca)?;
        data.push(("ca.crt", ca));
    }
    // Quoted, since a name may look like a number to YAML.
    let mut yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{}\"\n",
        secret.name
    );
    if let Some(namespace) = &secret.namespace {
        let _ = writeln!(yaml, "  namespace: \"{namespace}\"");
    }
    let _ = writeln!(yaml, "type: {kind}\ndata:");
    for (name, path) in data {
        let bytes = std::fs::read(path).map_err(|error| {
            let remedy = "check the path and who may read it";
            Fault::new(path, format!("cannot be read: {error}"), remedy)
        })?;
        let _ = writeln!(yaml, "  {name}: {}", STANDARD.encode(bytes));
    }
    Ok(Manifest { yaml, warnings })
}

/// A name as Kubernetes allows it (RFC 1123, lower case); `dots` as in a secret's, not in a namespace's.
pub(crate) fn name(text: &str, dots: bool) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| plain(byte) || byte == b'-';
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(|end| plain(*end))) && label.bytes().all(inner)
    };
    let (longest, right) = match dots {
        true => (253, text.split('.').all(label)),
        false => (63, label(text)),
    };
    if right && text.len() <= longest {
        return Ok(text.to_owned());
    }
    Err(format!(
        "Kubernetes wants lower case letters, digits and `-`, at most {longest}"
    ))
}

fn check_pair(certificate_file: &Path, key_file: &Path) -> Result<Vec<Fault>, Fault> {
    let der = file::first_certificate(certificate_file)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| {
        let remedy = "make or copy the file again";
        Fault::new(certificate_file, "holds a malformed certificate", remedy)
    })?;
    let key = file::first_key(key_file)?;
    if file::public_half(key_file, &key)? != certificate.public_key().raw {
        let fault = format!("does not match {}", certificate_file.display());
        let remedy = "give the key that the certificate was issued for";
        return Err(Fault::new(key_file, fault, remedy));
    }
    let facts = Facts::of(&certificate, OffsetDateTime::now_utc());
    let role = &facts.roles.client_certificate;
    if !role.accepted {
        let fault = format!("is no client certificate HNP can use: {}", role.reason);
        let remedy = "make one with `hnp certs client`";
        return Ok(vec![Fault::new(certificate_file, fault, remedy)]);
    }
    if facts.days_left <= WARN_DAYS {
        let fault = format!("expires in {} days", facts.days_left);
        return Ok(vec![Fault::new(certificate_file, fault, "issue a new one")]);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_kubernetes_takes() {
        for right in ["client-certificate", "a.b", "0", "true"] {
            assert_eq!(name(right, true).as_deref(), Ok(right));
        }
        let long = "a".repeat(254);
        for wrong in ["", "A", "a_b", "-a", "a-", "a..b", "a\nb", "a\"b", &long] {
            assert!(name(wrong, true).is_err(), "{wrong}");
        }
        assert!(name("a.b", false).is_err());
        assert!(name(&"a".repeat(64), false).is_err());
    }
}
