//! `hnp config` as users run it: what is printed where, and the exit code.
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs a shell line in `directory` with `hnp` on the path and nothing in the environment.
fn shell(directory: &Path, line: &str) -> Output {
    let binaries = Path::new(env!("CARGO_BIN_EXE_hnp")).parent().unwrap();
    Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(directory)
        .env_clear()
        .env("PATH", binaries)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_first_example_of_each_help_works_as_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["hnp config", "hnp config check", "hnp config show"] {
        let help = shell(directory.path(), &format!("{command} --help"));
        assert_eq!(help.status.code(), Some(0));
        let help = text(&help.stdout);
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let first = examples.lines().next().unwrap();
        let output = shell(directory.path(), first);
        assert_eq!(output.status.code(), Some(0), "{first}: {output:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{first}: {output:?}"
        );
    }
}

#[test]
fn a_right_file_is_ok_and_a_wrong_one_is_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hnp.toml");
    std::fs::write(&file, "[upstream]\nurl = \"https://a\"\n").unwrap();
    let output = shell(directory.path(), "hnp config check --config hnp.toml");
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "hnp.toml: ok\n"),
        "{output:?}"
    );
    let output = shell(directory.path(), "HNP_CONFIG=hnp.toml hnp config check");
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    std::fs::write(&file, "[upstrem]\nurl = \"https://a\"\n").unwrap();
    for command in ["check", "show"] {
        let output = shell(
            directory.path(),
            &format!("hnp config {command} -c hnp.toml"),
        );
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let printed = text(&output.stderr);
        assert!(
            printed.contains("--> hnp.toml:1:2") && printed.contains("did you mean `upstream`?"),
            "{printed}"
        );
    }
    let output = shell(directory.path(), "hnp run -c hnp.toml");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn json_is_one_object_with_the_places() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hnp.toml");
    std::fs::write(&file, "wokers = 2\n[log]\nlevel = 7\n").unwrap();
    let output = shell(directory.path(), "hnp config check --json -c hnp.toml");
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["errors"].as_array().unwrap().len(), 2);
    let first = &report["errors"][0];
    assert_eq!(
        (&first["file"], &first["line"], &first["column"]),
        (&"hnp.toml".into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&first["key"], &first["help"]),
        (&"wokers".into(), &"did you mean `workers`?".into())
    );

    std::fs::write(&file, "[upstream]\nurl = \"https://a\"\n").unwrap();
    let output = shell(
        directory.path(),
        "PROXY_URL=http://b CLIENT_CERT_PATH=/x hnp config check --json -c hnp.toml",
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["warnings"][0]["name"]),
        (&true.into(), &"CLIENT_CERT_PATH".into())
    );

    let output = shell(
        directory.path(),
        "hnp config show --json -c hnp.toml --workers 3",
    );
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&shown["workers"], &shown["timeouts"]["tunnel-idle"]),
        (&3.into(), &"1h".into())
    );
}

#[test]
fn with_nothing_configured_every_command_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["hnp run", "hnp config check", "hnp config show"] {
        let output = shell(directory.path(), command);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(
            text(&output.stderr).contains("set PROXY_URL"),
            "{command}: {output:?}"
        );
    }
    for usage in ["hnp", "hnp rnu", "hnp run --workers many"] {
        assert_eq!(
            shell(directory.path(), usage).status.code(),
            Some(2),
            "{usage}"
        );
    }
}

#[test]
fn check_loads_the_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let make = "hnp certs ca && hnp certs server && hnp certs client && hnp certs ca --dir other && hnp certs server --ca-dir other --dir other --days 3";
    let made = shell(directory.path(), make);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let check = |certificate: &str, key: &str, url: &str| {
        let toml = format!(
            "modes = [\"end-to-end-mtls\"]\n[listener.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             client-auth = \"strict\"\nclient-ca = \"ca.crt\"\n\
             [upstream]\nurl = \"{url}\"\ncertificate = \"client.crt\"\nkey = \"client.key\"\nca = \"ca.crt\"\n"
        );
        std::fs::write(directory.path().join("hnp.toml"), toml).unwrap();
        shell(directory.path(), "hnp config check --config hnp.toml")
    };
    let right = check("server.crt", "server.key", "https://a");
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    assert_eq!(text(&right.stderr), "");

    // Not its key: the message names the place and the file.
    let wrong = check("server.crt", "other/server.key", "https://a");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let stderr = text(&wrong.stderr);
    assert!(
        stderr.contains("hnp.toml:3:15") && stderr.contains("server.key"),
        "{stderr}"
    );

    let garbled = directory.path().join("garbled.crt");
    std::fs::write(
        garbled,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let wrong = check("garbled.crt", "server.key", "https://a");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(text(&wrong.stderr).contains("garbled.crt"), "{wrong:?}");

    let soon = check("other/server.crt", "other/server.key", "https://a");
    assert_eq!(soon.status.code(), Some(0), "{soon:?}");
    let stderr = text(&soon.stderr);
    assert!(
        stderr.starts_with("warning: ") && stderr.contains("hours"),
        "{stderr}"
    );
    let output = shell(
        directory.path(),
        "hnp config check --config hnp.toml --json",
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["warnings"][0]["key"], "listener.tls");
}
