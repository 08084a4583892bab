//! Who a client is, by its certificate.

mod subject;

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::verify::span::Span;

/// Who a certificate says that somebody is. It does not say that the certificate is any good: [`super::verify`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The subject's common name; the last one if there are several.
    pub cn: Option<Box<str>>,
    /// The subject as RFC 4514 writes it, ASCII only.
    pub subject: Box<str>,
    /// DNS names among the subject alternative names.
    pub dns: Vec<Box<str>>,
    /// URIs among the subject alternative names.
    pub uris: Vec<Box<str>>,
    /// The SPIFFE id: the only URI, if it is of that scheme. With further URIs a certificate is no SPIFFE document.
    pub spiffe: Option<Box<str>>,
    /// In lower-case hexadecimal digits.
    pub serial: Box<str>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    name: Box<str>,
}

impl Identity {
    /// Of a certificate in DER, X.509 v1 or v3; nothing if it is malformed.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Identity> {
        let span = Span::of(certificate)?;
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut identity = Identity {
            cn: subject::common_name(parsed.subject()),
            subject: subject::text(parsed.subject()).into(),
            dns: Vec::new(),
            uris: Vec::new(),
            spiffe: None,
            serial: hex(without_zero(parsed.raw_serial())).into(),
            fingerprint: [0; 32],
            not_before: span.from,
            not_after: span.until,
            name: Box::default(),
        };
        if let Some(names) = parsed.subject_alternative_name().ok()? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => identity.dns.push((*name).into()),
                    GeneralName::URI(uri) => identity.uris.push((*uri).into()),
                    _ => {}
                }
            }
        }
        if let [uri] = identity.uris.as_slice()
            && uri.starts_with(SPIFFE)
        {
            identity.spiffe = Some(uri.clone());
        }
        let fingerprint = digest(&SHA256, certificate);
        identity.fingerprint.copy_from_slice(fingerprint.as_ref());
        identity.name = identity.choose_name();
        Some(identity)
    }

    /// What log lines call it and policies match it by: the SPIFFE id, else the common name, else the first DNS name, else
    /// `sha256:` and the fingerprint. Control characters are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the certificate's dates allow it.
    #[must_use]
    pub fn is_valid_at(&self, time: UnixTime) -> bool {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        (self.not_before..=self.not_after).contains(&seconds)
    }

    /// The fingerprint in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&self.fingerprint)
    }

    /// The value of `x-forwarded-client-cert`, as Envoy's documentation of that header has it: the certificate's hash, its subject, and its
    /// names. ASCII without control characters, whatever the certificate holds.
    #[must_use]
    pub fn xfcc(&self) -> String {
        // The subject has neither quotes nor bare control characters: RFC 4514's escapes stand for them.
        let mut text = format!("Hash={};Subject=\"{}\"", self.fingerprint(), self.subject);
        for uri in &self.uris {
            let _ = write!(text, ";URI={}", Value(uri));
        }
        for name in &self.dns {
            let _ = write!(text, ";DNS={}", Value(name));
        }
        text
    }

    /// A name that some other kind of certificate bears by right is not taken from a common name, which authorities often leave to the
    /// applicant.
    fn choose_name(&self) -> Box<str> {
        let plain = |name: &&str| {
            !name.is_empty() && !name.starts_with(SPIFFE) && !name.starts_with(FINGERPRINT)
        };
        let cn = self.cn.as_deref().filter(plain);
        let dns = self.dns.first().map(AsRef::as_ref).filter(plain);
        match self.spiffe.as_deref().or(cn).or(dns) {
            Some(name) => name.replace(char::is_control, "\u{fffd}").into(),
            None => format!("{FINGERPRINT}{}", self.fingerprint()).into(),
        }
    }
}

const SPIFFE: &str = "spiffe://";
const FINGERPRINT: &str = "sha256:";

/// A value of `x-forwarded-client-cert`, between quotes where it has to be. A quote or `\` within would be read in as many ways as there are
/// readers: no URI and no DNS name has them, and they stand as `%` and two hexadecimal digits.
struct Value<'a>(&'a str);

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\",;=\\".contains(&byte);
        if self.0.bytes().all(plain) {
            return out.write_str(self.0);
        }
        out.write_char('"')?;
        for byte in self.0.bytes() {
            match byte {
                b' '..=b'~' if !b"\"\\".contains(&byte) => out.write_char(char::from(byte))?,
                _ => write!(out, "%{byte:02X}")?,
            }
        }
        out.write_char('"')
    }
}

/// A positive number may begin with a zero byte, lest it look negative.
fn without_zero(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        serial => serial,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
