//! Certificates and keys as `hnp certs` handles them: test material, the Kubernetes secret, and what a file holds.

pub(crate) mod facts;
pub(crate) mod file;
pub(crate) mod inspect;
pub(crate) mod make;
mod report;
pub(crate) mod secret;

use std::path::Path;

use serde::Serialize;

/// What is wrong with a file, and what to do about it.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error("{file}: {fault}; {remedy}")]
pub(crate) struct Fault {
    pub(crate) file: String,
    pub(crate) fault: String,
    pub(crate) remedy: String,
}

impl Fault {
    pub(crate) fn new(file: &Path, fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.display().to_string(),
            fault: fault.into(),
            remedy: remedy.into(),
        }
    }
}
