//! The credentials in `Proxy-Authorization: Basic …` (RFC 7617).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Clients that leave the padding off are understood, too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user name and a password. Neither is printed.
pub(super) struct Credentials {
    /// `user:password`, UTF-8.
    pair: String,
    colon: usize,
}

impl Credentials {
    /// Parses a field value.
    ///
    /// # Errors
    /// What is wrong with it, to be told to the client.
    pub(super) fn parse(value: &[u8]) -> Result<Credentials, &'static str> {
        let space = value
            .iter()
            .position(|b| *b == b' ')
            .ok_or("has no credentials after its scheme")?;
        let (scheme, rest) = value.split_at(space);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return Err("is of a scheme other than Basic");
        }
        let pair = BASE64
            .decode(rest.trim_ascii())
            .map_err(|_| "is not base64")?;
        // `Proxy-Authenticate` says charset="UTF-8" (RFC 7617 section 2.1).
        let pair = String::from_utf8(pair).map_err(|_| "is not UTF-8")?;
        if pair.chars().any(char::is_control) {
            return Err("contains a control character");
        }
        // The first colon ends the user name; the password may have more of them.
        let colon = pair
            .find(':')
            .ok_or("has no colon between user name and password")?;
        Ok(Credentials { pair, colon })
    }

    pub(super) fn user(&self) -> &str {
        &self.pair[..self.colon]
    }

    pub(super) fn password(&self) -> &str {
        &self.pair[self.colon + 1..]
    }

    pub(super) fn pair(&self) -> &str {
        &self.pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<(String, String), &'static str> {
        Credentials::parse(value.as_bytes()).map(|c| (c.user().to_owned(), c.password().to_owned()))
    }

    #[test]
    fn well_formed_credentials() {
        let rows = [
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                "Aladdin",
                "open sesame",
            ),
            (
                "basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                "Aladdin",
                "open sesame",
            ),
            ("BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame"),
            // RFC 7617 section 2.1: 123 and a pound sign.
            ("Basic dGVzdDoxMjPCow==", "test", "123£"),
            ("Basic YTpiOmM=", "a", "b:c"),
            ("Basic YTo=", "a", ""),
            ("Basic OmI=", "", "b"),
        ];
        for (value, user, password) in rows {
            assert_eq!(
                parse(value).unwrap(),
                (user.to_owned(), password.to_owned()),
                "{value}"
            );
        }
    }

    #[test]
    fn malformed_credentials() {
        for (value, expected) in [
            ("", "no credentials"),
            ("Basic", "no credentials"),
            ("Bearer abc", "other than Basic"),
            ("Basic !!!", "base64"),
            ("Basic dGVzdDoxMjOj", "UTF-8"),
            ("Basic YWxvbmU=", "colon"),
            ("Basic ", "colon"),
            ("Basic YTpiCmM=", "control"),
            ("Basic YQA6Yg==", "control"),
        ] {
            assert!(parse(value).unwrap_err().contains(expected), "{value}");
        }
    }
}
