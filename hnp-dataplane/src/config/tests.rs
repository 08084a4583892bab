//! Files, environments and flags as users write them, and what HNP answers.

mod layers;
mod refused;
mod tls;

use std::ffi::OsString;
use std::fs;

use tempfile::TempDir;

use super::{ConfigError, Environment, Flags, Loaded, Sources, load};

/// A directory with `hnp.toml` in it.
struct Case {
    directory: TempDir,
    sources: Sources,
}

impl Case {
    fn new(toml: &str) -> Case {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hnp.toml");
        fs::write(&file, toml).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Case { directory, sources }
    }

    fn with_file(self, name: &str, contents: &str) -> Case {
        fs::write(self.directory.path().join(name), contents).unwrap();
        self
    }

    fn with_environment(mut self, variables: &[(&str, &str)]) -> Case {
        self.sources.environment = environment(variables);
        self
    }

    fn with_flags(mut self, flags: Flags) -> Case {
        self.sources.flags = flags;
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    /// What is printed for a refused configuration, without the directory's name.
    fn refused(&self) -> String {
        let error = self
            .load()
            .expect_err("this configuration should be refused");
        self.anonymous(&error.to_string())
    }

    fn anonymous(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::read(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    })
}
