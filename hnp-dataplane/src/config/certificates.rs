//! The certificates that a configuration names, loaded for no other reason than to see whether they can be.

use rustls::pki_types::UnixTime;

use super::diagnostic::{ConfigError, Diagnostic, Place, Severity};
use super::load::Loaded;
use super::model::Config;
use crate::tls::{Clients, Server};

impl Loaded {
    /// The same, with the warnings of its certificates.
    ///
    /// # Errors
    /// The certificates that cannot be used.
    pub fn with_certificates(mut self) -> Result<Loaded, ConfigError> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let now = UnixTime::now();
        let server = Server::compile(&self.config, None);
        let clients = Clients::compile(&self.config, None);
        match &server {
            Ok(server) => {
                let server = server.iter();
                warnings.extend(server.clone().flat_map(|s| s.warnings()).cloned());
                let loaded = server.flat_map(|server| server.certificates());
                warnings.extend(loaded.filter_map(|loaded| loaded.warning(now)));
            }
            Err(error) => mistakes.push(error.to_string()),
        }
        match &clients {
            Ok(clients) => {
                warnings.extend(clients.warnings().iter().cloned());
                let loaded = clients.certificates().iter();
                warnings.extend(loaded.filter_map(|loaded| loaded.warning(now)));
            }
            Err(error) => mistakes.push(error.to_string()),
        }
        let diagnostic = |severity| {
            let loaded = &self;
            move |message: String| loaded.about_certificate(severity, message)
        };
        let warnings: Vec<_> = warnings
            .into_iter()
            .map(diagnostic(Severity::Warning))
            .collect();
        if !mistakes.is_empty() {
            let mistakes = mistakes.into_iter().map(diagnostic(Severity::Error));
            return Err(ConfigError::Invalid {
                mistakes: mistakes.collect(),
                fingerprint: self.fingerprint,
            });
        }
        self.warnings.extend(warnings);
        Ok(self)
    }

    /// Points at the table whose certificate it is: messages begin with the part of the configuration.
    fn about_certificate(&self, severity: Severity, message: String) -> Diagnostic {
        let key = key_of(&self.config, &message);
        let at = key
            .as_ref()
            .and_then(|key| self.origins.get(&format!("{key}.certificate")));
        let at = at.or_else(|| self.origins.get(key.as_ref()?));
        Diagnostic {
            severity,
            message,
            help: None,
            place: at.cloned().unwrap_or(Place::Default),
            key: key.unwrap_or_default(),
        }
    }
}

/// The dotted key of the table that a message is about.
fn key_of(config: &Config, message: &str) -> Option<String> {
    let (part, _) = message.split_once(": ")?;
    let endpoint = |name: &str| {
        let mut endpoints = config.endpoints.iter();
        let index = endpoints.position(|endpoint| endpoint.server_name == name)?;
        Some(format!("endpoints[{index}]"))
    };
    match part {
        "listener" => Some("listener.tls".to_owned()),
        "upstream" => Some("upstream".to_owned()),
        "parent" => Some("upstream.parent".to_owned()),
        part => part
            .strip_prefix("endpoint ")
            .or_else(|| part.strip_prefix("upstream of "))
            .and_then(endpoint),
    }
}
