//! Modes: what of the flow a listener serves. What is not listed is refused by naming the mode that would serve it.

use crate::config::model::Mode;
use crate::http::answer::Answer;
use crate::http::head::HeadError;
use crate::http::proxy_status::{ErrorType, Side};

/// The modes of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    tunnel: bool,
    reverse_proxy: bool,
    end_to_end_mtls: bool,
}

/// How a client is connected, as far as modes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// With nothing around HTTP.
    Plaintext,
    /// By TLS.
    Tls {
        /// The client has shown a certificate.
        certificate: bool,
    },
}

impl From<&[Mode]> for Modes {
    fn from(modes: &[Mode]) -> Modes {
        Modes {
            tunnel: modes.contains(&Mode::Tunnel),
            reverse_proxy: modes.contains(&Mode::ReverseProxy),
            end_to_end_mtls: modes.contains(&Mode::EndToEndMtls),
        }
    }
}

impl Modes {
    /// Whether CONNECT and absolute-form requests are served.
    ///
    /// # Errors
    /// The answer that refuses them.
    pub fn tunnel(self) -> Result<(), Answer> {
        if self.tunnel {
            return Ok(());
        }
        Err(refused(
            "this listener serves no tunnels (CONNECT, absolute-form requests): mode `tunnel` would, and is not among HNP's `modes`",
        ))
    }

    /// Whether requests for the manager are served at all.
    #[must_use]
    pub fn any_requests(self) -> bool {
        self.reverse_proxy || self.end_to_end_mtls
    }

    /// The mode that serves requests for the manager (origin-form).
    ///
    /// # Errors
    /// The answer that refuses them.
    pub fn requests(self, access: Access) -> Result<&'static str, Answer> {
        let end_to_end = self.end_to_end_mtls;
        match access {
            Access::Tls { certificate } if end_to_end && (certificate || !self.reverse_proxy) => {
                Ok("end-to-end-mtls")
            }
            _ if self.reverse_proxy => Ok("reverse-proxy"),
            Access::Plaintext if end_to_end => Err(refused(
                "this listener serves requests over TLS (mode `end-to-end-mtls`): use https://; mode `reverse-proxy` would serve plaintext, and is not among HNP's `modes`",
            )),
            Access::Plaintext => Err(HeadError::OriginForm.into()),
            Access::Tls { .. } => Err(refused(
                "this listener serves tunnels only: mode `end-to-end-mtls` or `reverse-proxy` would serve requests over TLS, and neither is among HNP's `modes`",
            )),
        }
    }
}

fn refused(why: &'static str) -> Answer {
    Answer::new(403, ErrorType::HttpRequestDenied, Side::Configuration, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Access = Access::Plaintext;
    const TLS: Access = Access::Tls { certificate: false };
    const MUTUAL: Access = Access::Tls { certificate: true };

    fn modes(listed: &[Mode]) -> Modes {
        Modes::from(listed)
    }

    #[test]
    fn a_certificate_makes_it_end_to_end() {
        let both = modes(&[Mode::ReverseProxy, Mode::EndToEndMtls]);
        assert_eq!(both.requests(MUTUAL).unwrap(), "end-to-end-mtls");
        assert_eq!(both.requests(TLS).unwrap(), "reverse-proxy");
        assert_eq!(both.requests(PLAIN).unwrap(), "reverse-proxy");
        let end_to_end = modes(&[Mode::EndToEndMtls]);
        assert_eq!(end_to_end.requests(TLS).unwrap(), "end-to-end-mtls");
    }

    #[test]
    fn a_refusal_names_the_mode_that_would_serve() {
        let why = |listed: &[Mode], access| modes(listed).requests(access).unwrap_err();
        let answer = why(&[Mode::EndToEndMtls], PLAIN);
        assert!(answer.why().contains("`reverse-proxy`"), "{}", answer.why());
        let answer = why(&[Mode::Tunnel], PLAIN);
        assert!(answer.why().contains("`reverse-proxy`"), "{}", answer.why());
        let answer = why(&[Mode::Tunnel], MUTUAL);
        assert!(
            answer.why().contains("`end-to-end-mtls`"),
            "{}",
            answer.why()
        );
        let answer = modes(&[Mode::ReverseProxy]).tunnel().unwrap_err();
        assert!(answer.why().contains("`tunnel`"), "{}", answer.why());
        assert!(modes(&[Mode::Tunnel]).tunnel().is_ok());
    }
}
