//! What the tests need on the machine.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    install::{self, Debian},
    shell::root,
};

/// Clients and tools that the suites start.
const PROGRAMS: [Debian; 9] = [
    Debian {
        package: "iproute2",
        brings: "ip",
        why: "makes the network namespaces of the tests' pods",
    },
    Debian {
        package: "curl",
        brings: "curl",
        why: "a client that the tests try",
    },
    Debian {
        package: "openssl",
        brings: "openssl",
        why: "a client that the tests try",
    },
    Debian {
        package: "openjdk-17-jdk-headless",
        brings: "javac",
        why: "runs the Java client that the tests try",
    },
    Debian {
        package: "golang-go",
        brings: "go",
        why: "builds the Go client that the tests try",
    },
    Debian {
        package: "nginx",
        brings: "nginx",
        why: "plays the manager in the tests",
    },
    Debian {
        package: "nghttp2-client",
        brings: "h2load",
        why: "a client that the tests try",
    },
    Debian {
        package: "nghttp2-server",
        brings: "nghttpd",
        why: "an upstream of HTTP/2 in the tests",
    },
    Debian {
        package: "nodejs",
        brings: "node",
        why: "runs the Node client that the tests try",
    },
];

/// The conformance tests of HTTP/2.
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

pub(crate) fn install() -> Result<()> {
    install::bpf_tools()?;
    install::debian(&PROGRAMS)?;
    install::go_tool(
        "h2spec",
        H2SPEC,
        "tests that HTTP/2 is spoken as it should be",
    )?;
    let python = python_packages()?;
    if !python.is_empty() {
        install::python_venv(&python.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let node = node_packages()?;
    if !node.is_empty() {
        install::npm(&node.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// The lines of `tests/clients/requirements.txt`.
fn python_packages() -> Result<Vec<String>> {
    let text = read("tests/clients/requirements.txt")?;
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// The dependencies in `tests/clients/package.json`.
fn node_packages() -> Result<Vec<String>> {
    let text = read("tests/clients/package.json")?;
    let json: serde_json::Value =
        serde_json::from_str(&text).context("tests/clients/package.json")?;
    let dependencies = json["dependencies"].as_object();
    Ok(dependencies
        .into_iter()
        .flatten()
        .filter_map(|(name, version)| Some(format!("{name}@{}", version.as_str()?)))
        .collect())
}

fn read(file: &str) -> Result<String> {
    let path = root().join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
