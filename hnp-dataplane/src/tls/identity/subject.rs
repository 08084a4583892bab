//! A certificate's subject as text.

use std::fmt::Write;

use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The common name; of several the last, which is the most specific.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<Box<str>> {
    name.iter_common_name().last().map(|one| string(one).into())
}

/// As in RFC 4514: the most specific part first, `,` between parts, `+` within one. What is not printable ASCII, and
/// quotes and `\`, stand as `\` and two hexadecimal digits for each byte of their UTF-8, which section 2.4 allows for any character.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        // OpenSSL turns these round as well, and their order says nothing (section 2.2).
        let attributes: Vec<_> = part.iter().collect();
        for (index, attribute) in attributes.into_iter().rev().enumerate() {
            if index > 0 {
                text.push('+');
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(abbreviation) => text.push_str(abbreviation),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            escape(&mut text, &string(attribute));
        }
    }
    text
}

/// The value: the kinds of string that are in use are decoded, anything else is taken as Latin-1.
fn string(attribute: &AttributeTypeAndValue<'_>) -> String {
    const BMP_STRING: u32 = 30;
    let bytes = attribute.as_slice();
    if attribute.attr_value().header.tag().0 == BMP_STRING {
        let units = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        return char::decode_utf16(units)
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, char) in value.chars().enumerate() {
        match char {
            '+' | ',' | ';' | '<' | '>' => {
                text.push('\\');
                text.push(char);
            }
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            ' '..='~' if !['"', '\\'].contains(&char) => text.push(char),
            _ => {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
}
