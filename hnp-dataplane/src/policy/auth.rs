//! Proxy credentials.

use std::sync::Arc;

use crate::config::model::Auth;
use crate::http::answer::Answer;
use crate::http::proxy_status::{ErrorType, Side};

/// Checks proxy credentials.
pub struct Authenticator;

impl Authenticator {
    /// From the configuration.
    ///
    /// # Errors
    /// This build cannot check passwords yet.
    pub fn load(config: &Auth) -> anyhow::Result<Option<Authenticator>> {
        anyhow::ensure!(config.htpasswd.is_none(), "auth.htpasswd: this build cannot check passwords yet");
        Ok(None)
    }

    /// Who the credentials belong to.
    ///
    /// # Errors
    /// Always.
    pub async fn check(&self, _credentials: Option<&[u8]>) -> Result<Arc<str>, Answer> {
        Err(Answer::new(407, ErrorType::HttpRequestDenied, Side::Client, "this build cannot check passwords yet"))
    }
}
