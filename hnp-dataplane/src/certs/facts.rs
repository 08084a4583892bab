//! What one certificate says, and in which roles HNP can accept it.

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Extensions that path validation knows; any other one marked critical has to be refused (RFC 5280, section 4.2).
const KNOWN_EXTENSIONS: [&str; 7] = [
    "2.5.29.14", // subject key identifier
    "2.5.29.15", // key usage
    "2.5.29.17", // subject alternative name
    "2.5.29.19", // basic constraints
    "2.5.29.30", // name constraints
    "2.5.29.31", // CRL distribution points
    "2.5.29.37", // extended key usage
];

/// Signatures with MD5 or SHA-1, which no current TLS library accepts.
const WEAK_SIGNATURES: [&str; 4] = [
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.3.14.3.2.29",
    "1.2.840.10045.4.1",
];

/// What a certificate says.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// 1 or 3.
    pub(super) version: u32,
    pub(super) serial: String,
    pub(super) public_key: String,
    /// Subject alternative names.
    pub(super) names: Vec<String>,
    /// Extended key usage; empty: any.
    pub(super) purposes: Vec<String>,
    pub(super) ca: bool,
    pub(super) valid_from: String,
    pub(super) valid_until: String,
    /// Whole days, negative once expired.
    pub(super) days_left: i64,
    pub(super) roles: Roles,
}

/// In which roles HNP can accept a certificate.
#[derive(Debug, Serialize)]
pub(super) struct Roles {
    pub(super) client_certificate: Role,
    pub(super) server_certificate: Role,
    pub(super) ca: Role,
}

#[derive(Debug, Serialize)]
pub(super) struct Role {
    pub(super) accepted: bool,
    pub(super) reason: String,
}

impl Facts {
    pub(super) fn of(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Self {
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
pub(super) fn date(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// What the certificate's dates forbid now.
pub(super) fn out_of_date(
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
    leaf(certificate, now)?;
    if certificate.version() == X509Version::V1 {
        return Ok(
            "X.509 v1 has no extensions; signature, issuer, validity and key are checked".into(),
        );
    }
    purpose(certificate, "clientAuth")
}

fn as_server(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<String, String> {
    leaf(certificate, now)?;
    if certificate.version() == X509Version::V1 {
        return Err("X.509 v1 has no subject alternative name, so clients refuse it".into());
    }
    let why = purpose(certificate, "serverAuth")?;
    let named = |name: &String| name.starts_with("DNS:") || name.starts_with("IP:");
    if !names(certificate).iter().any(named) {
        return Err(
            "no DNS name or address among the subject alternative names, so clients refuse it"
                .into(),
        );
    }
    Ok(why)
}

fn as_ca(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<String, String> {
    if certificate.version() == X509Version::V1 {
        return Err("X.509 v1 cannot say that it is a CA".into());
    }
    usable(certificate, now)?;
    if !certificate.is_ca() {
        return Err("no basic constraint CA:TRUE".into());
    }
    let usage = certificate.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("its key usage does not include signing certificates".into());
    }
    Ok("basic constraint CA:TRUE".into())
}

/// What holds for a certificate that one end of a connection shows.
fn leaf(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Result<(), String> {
    usable(certificate, now)?;
    if certificate.is_ca() {
        return Err("it is a CA's; have it sign another".into());
    }
    let signature = certificate.signature_algorithm.algorithm.to_id_string();
    if WEAK_SIGNATURES.contains(&signature.as_str()) {
        return Err("it is signed with SHA-1 or MD5".into());
    }
    Ok(())
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
    if !matches!(certificate.version(), X509Version::V1 | X509Version::V3) {
        return Err("it is neither X.509 v1 nor v3".into());
    }
    let broken = certificate.basic_constraints().is_err()
        || certificate.key_usage().is_err()
        || certificate.extended_key_usage().is_err()
        || certificate.subject_alternative_name().is_err();
    if broken {
        return Err("an extension is malformed or there twice".into());
    }
    for extension in certificate.extensions() {
        let oid = extension.oid.to_id_string();
        if extension.critical && !KNOWN_EXTENSIONS.contains(&oid.as_str()) {
            return Err(format!("its extension {oid} is critical and not supported"));
        }
    }
    Ok(())
}

fn purpose(certificate: &X509Certificate<'_>, wanted: &str) -> Result<String, String> {
    let purposes = purposes(certificate);
    if purposes.is_empty() {
        return Ok("no extended key usage, so any is allowed".into());
    }
    if purposes.iter().any(|one| one == wanted || one == "any") {
        return Ok(format!("extended key usage {}", purposes.join(", ")));
    }
    Err(format!(
        "its extended key usage is {}, without {wanted}",
        purposes.join(", ")
    ))
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
pub(super) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> (String, bool) {
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
