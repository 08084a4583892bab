//! `hnp check`: on a host where all is well, and where each single thing is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "check/capabilities.rs"]
mod capabilities;
#[path = "check/certificates.rs"]
mod certificates;
#[path = "check/clock.rs"]
mod clock;
#[path = "check/configuration.rs"]
mod configuration;
#[path = "check/kernel.rs"]
mod kernel;
#[path = "check/limits.rs"]
mod limits;
#[path = "check/report.rs"]
mod report;
#[path = "check/upstream.rs"]
mod upstream;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hnp_tests::material::Material;
use hnp_tests::pki::Pair;
use hnp_tests::{DEADLINE, Port, bin, node, patient, process};
use serde_json::Value;
use tempfile::TempDir;

/// A configuration, and the ports it names.
struct Host {
    directory: TempDir,
    listener: Port,
    admin: Port,
    config: String,
}

/// What `hnp check --json` said.
#[derive(Debug)]
struct Found {
    code: i32,
    items: Vec<Value>,
}

impl Host {
    fn new(config: &str) -> Host {
        Host {
            directory: tempfile::tempdir().unwrap(),
            listener: Port::take(),
            admin: Port::take(),
            config: config.to_owned(),
        }
    }

    /// With an upstream at this url.
    fn with_upstream(url: &str) -> Host {
        Host::new(&format!("[upstream]\nurl = \"{url}\"\n"))
    }

    /// With `upstream` as its manager, whose authority it knows, and to which it shows this.
    fn with_manager(url: &str, pair: Option<&Pair>) -> Host {
        let material = Material::shared();
        let mut host = Host::with_upstream(url);
        host.config += "ca = \"manager-ca.crt\"\n";
        host.file("manager-ca.crt", material.manager.pem());
        if let Some(pair) = pair {
            host.file("client.crt", &pair.certificate);
            host.file("client.key", &pair.key);
            host.config += "certificate = \"client.crt\"\nkey = \"client.key\"\n";
        }
        host
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn config_file(&self) -> PathBuf {
        let (listener, admin) = (self.listener.address(), self.admin.address());
        self.file(
            "hnp.toml",
            &format!(
                "listener.address = \"{listener}\"\nadmin.address = \"{admin}\"\nlimits.connections = 1000\n{}",
                self.config
            ),
        );
        self.directory.path().join("hnp.toml")
    }

    fn check(&self, flags: &[&str]) -> Found {
        let mut command = node::hnp();
        command.args(["check", "--json", "--config"]);
        command.arg(self.config_file()).args(flags);
        Found::of(&mut command)
    }

    /// With a shell's preparations, in namespaces of its own: mounts and network are changed for nobody else.
    fn check_after(&self, namespaces: &str, preparation: &str, flags: &str) -> Found {
        let (hnp, config) = (bin::hnp().display(), self.config_file());
        let line = format!(
            "set -e; {preparation}; exec {hnp} check --json --config {} {flags}",
            config.display()
        );
        let mut command = Command::new("unshare");
        command.arg(namespaces).args(["sh", "-c", &line]);
        Found::of(&mut command)
    }
}

impl Found {
    fn of(command: &mut Command) -> Found {
        let started = Instant::now();
        let outcome = process::run(command, DEADLINE);
        let took = started.elapsed();
        assert!(took < patient(Duration::from_secs(20)), "{took:?}");
        let code = outcome.status.code().unwrap();
        Found::read(code, &outcome.stdout, &outcome.stderr)
    }

    /// Whatever was found, this holds.
    fn read(code: i32, stdout: &[u8], stderr: &str) -> Found {
        let items: Vec<Value> = serde_json::from_slice(stdout).unwrap_or_else(|error| {
            panic!("{error}: {stderr}\n{}", String::from_utf8_lossy(stdout))
        });
        for item in &items {
            let text = |key: &str| item[key].as_str().unwrap_or_default();
            assert!(
                !text("group").is_empty() && !text("name").is_empty(),
                "{item}"
            );
            assert!(!text("detail").is_empty(), "{item}");
            let is_ok = text("status") == "ok";
            assert_eq!(text("remedy").is_empty(), is_ok, "{item}");
        }
        let failed = items.iter().any(|item| item["status"] == "failure");
        match code {
            0 => assert!(!failed, "{items:#?}"),
            _ => assert!(failed, "{code}: {items:#?}\n{stderr}"),
        }
        Found { code, items }
    }

    /// The items of this group and name.
    fn all(&self, id: &str) -> Vec<&Value> {
        let (group, name) = id.split_once('/').unwrap();
        let found = self.items.iter();
        found
            .filter(|item| item["group"] == group && item["name"] == name)
            .collect()
    }

    /// That one of these has this status, and says so in its cause and remedy.
    fn says(&self, id: &str, status: &str, parts: &[&str]) -> &Self {
        let all = self.all(id);
        let found = all.iter().any(|item| {
            let (detail, remedy) = (item["detail"].as_str(), item["remedy"].as_str());
            let text = format!("{} → {}", detail.unwrap(), remedy.unwrap_or_default());
            item["status"] == status && parts.iter().all(|part| text.contains(part))
        });
        assert!(
            found,
            "{id} {status} {parts:?}: {all:#?}\n{:#?}",
            self.items
        );
        self
    }

    fn fails(&self, id: &str, parts: &[&str]) -> &Self {
        assert_eq!(self.code, 1, "{:#?}", self.items);
        self.says(id, "failure", parts)
    }

    fn warns(&self, id: &str, parts: &[&str]) -> &Self {
        self.says(id, "warning", parts)
    }

    fn is_ok(&self, id: &str) -> &Self {
        self.says(id, "ok", &[])
    }
}
