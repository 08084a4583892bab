//! What one certificate says, and in which roles HNP can accept it.

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use crate::tls::verify::authority::may_sign_certificates;
use crate::tls::verify::verdict;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// What a certificate says.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// 1 or 3.
    pub(crate) version: u32,
    pub(crate) serial: String,
    pub(crate) public_key: String,
    /// Subject alternative names.
    pub(crate) names: Vec<String>,
    /// Extended key usage; empty: any.
    pub(crate) purposes: Vec<String>,
    pub(crate) ca: bool,
    pub(crate) valid_from: String,
    pub(crate) valid_until: String,
    /// Whole days, negative once expired.
    pub(crate) days_left: i64,
    pub(crate) roles: Roles,
}

/// In which roles HNP can accept a certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Roles {
    pub(crate) client_certificate: Role,
    pub(crate) server_certificate: Role,
    pub(crate) ca: Role,
}

#[derive(Debug, Serialize)]
pub(crate) struct Role {
    pub(crate) accepted: bool,
    pub(crate) reason: String,
}

impl Facts {
    pub(crate) fn of(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Self {
        let validity = certificate.validity();
        let seconds_left = validity.not_after.timestamp() - now.unix_timestamp();
        Self {
            subject: printable(certificate.subject()),
            issuer: printable(certificate.issuer()),
            version: certificate.version().0 + 1,
            serial: certificate.raw_serial_as_string(),
            public_key: key_kind(certificate.public_key()).0,
            names: names(certificate),
            purposes: purposes(certificate),
            ca: certificate.is_ca(),
            valid_from: date(validity.not_before.to_datetime()),
            valid_until: date(validity.not_after.to_datetime()),
            days_left: seconds_left.div_euclid(DAY),
            roles: Roles {
                client_certificate: Role::from(as_client(certificate, now)),
                server_certificate: Role::from(as_server(certificate, now)),
                ca: Role::from(as_ca(certificate, now)),
            },
        }
    }
}

impl From<Result<String, String>> for Role {
    fn from(result: Result<String, String>) -> Self {
        let accepted = result.is_ok();
        let (Ok(reason) | Err(reason)) = result;
        Self { accepted, reason }
    }
}

/// What somebody else wrote, without what would steer a terminal.
pub(crate) fn printable(text: &impl ToString) -> String {
    text.to_string().replace(char::is_control, "\u{fffd}")
}

/// `2026-11-22T10:00:00Z`
pub(crate) fn date(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// What the certificate's dates forbid now.
pub(crate) fn out_of_date(
    certificate: &X509Certificate<'_>,
    now: OffsetDateTime,
) -> Result<(), String> {
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now.unix_timestamp() {
        let since = date(validity.not_after.to_datetime());
        return Err(format!("it expired at {since}"));
    }
    if validity.not_before.timestamp() > now.unix_timestamp() {
        let from = date(validity.not_before.to_datetime());
        return Err(format!("it is not valid before {from}"));
    }
    Ok(())
}

fn as_client(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<String, String> {
    usable(certificate, now)?;
    verdict::client(certificate.as_raw(), now.unix_timestamp()).map_err(because(certificate))?;
    if certificate.version() == X509Version::V1 {
        return Ok(
            "X.509 v1 has no extensions; signature, issuer, validity and key are checked".into(),
        );
    }
    Ok(purpose(certificate))
}

fn as_server(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<String, String> {
    usable(certificate, now)?;
    verdict::server(certificate.as_raw(), now.unix_timestamp()).map_err(because(certificate))?;
    let named = |name: &String| name.starts_with("DNS:") || name.starts_with("IP:");
    if !names(certificate).iter().any(named) {
        return Err(
            "no DNS name or address among the subject alternative names, so clients refuse it"
                .into(),
        );
    }
    Ok(purpose(certificate))
}

fn as_ca(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<String, String> {
    may_sign_certificates(certificate)?;
    usable(certificate, now)?;
    Ok("basic constraint CA:TRUE".into())
}

/// What holds for every certificate.
fn usable(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<(), String> {
    out_of_date(certificate, now)?;
    let (kind, strong) = key_kind(certificate.public_key());
    if !strong {
        return Err(format!(
            "its key is {kind}, not RSA from 2048 bits, ECDSA P-256, P-384 or P-521, or Ed25519"
        ));
    }
    Ok(())
}

/// Adds what a verifier leaves out: the purposes that are there instead.
fn because(certificate: &X509Certificate<'_>) -> impl FnOnce(String) -> String {
    let purposes = purposes(certificate);
    move |why| match why.contains("extended key usage") && !purposes.is_empty() {
        true => format!("{why}: it is for {}", purposes.join(", ")),
        false => why,
    }
}

fn purpose(certificate: &X509Certificate<'_>) -> String {
    match purposes(certificate) {
        none if none.is_empty() => "no extended key usage, so any is allowed".into(),
        purposes => format!("extended key usage {}", purposes.join(", ")),
    }
}

fn purposes(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let usage = usage.value;
    let known = [
        (usage.any, "any"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = known.into_iter().filter(|(set, _)| *set);
    known
        .map(|(_, name)| name.to_owned())
        .chain(usage.other.iter().map(|oid| oid.to_id_string()))
        .collect()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::IPAddress(bytes) => address(bytes),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(mail) => format!("email:{mail}"),
        other => other.to_string(),
    };
    let names = names.value.general_names.iter();
    names.map(|one| printable(&name(one))).collect()
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(
        |_| "an address of a wrong length".into(),
        |address| format!("IP:{address}"),
    )
}

/// The kind of a public key, and whether HNP can use it.
pub(crate) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> (String, bool) {
    let parameter = || {
        let oid = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
        Some(oid.to_id_string())
    };
    match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => {
            let bits = key.parsed().map_or(0, |key| key.key_size());
            (format!("RSA {bits}"), bits >= 2048)
        }
        "1.2.840.10045.2.1" => match parameter().as_deref() {
            Some("1.2.840.10045.3.1.7") => ("ECDSA P-256".into(), true),
            Some("1.3.132.0.34") => ("ECDSA P-384".into(), true),
            Some("1.3.132.0.35") => ("ECDSA P-521".into(), true),
            _ => ("ECDSA on another curve".into(), false),
        },
        "1.3.101.112" => ("Ed25519".into(), true),
        other => (format!("of kind {other}"), false),
    }
}
