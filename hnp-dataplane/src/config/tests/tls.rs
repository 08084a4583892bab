//! TLS, endpoints and what the environment says of certificates: what is accepted, and what is watched.

use std::path::PathBuf;

use super::{Case, environment, load};
use crate::config::model::{ClientAuth, HttpProtocol, TlsVersion};
use crate::config::{Config, Place, Severity, Sources};

const ALL: &str = r#"
modes = ["tunnel", "reverse-proxy", "end-to-end-mtls"]
[listener.tls]
certificate = "server.crt"
key = "server.key"
client-auth = "strict"
client-ca = "ca.crt"
crl = ["one.pem", "/two.pem"]
min-version = "1.3"
[[endpoints]]
server-name = "Acme.Agent.example.com"
certificate = "acme"
client-auth = "loose"
client-ca = ["ca.crt", "ca2.crt"]
prefix = "/acme"
upstream = "https://10.0.0.5:8443/base"
upstream-ca = "ca.crt"
upstream-certificate = "acme"
upstream-server-name = "inner.example.com"
upstream-protocol = "h2"
[upstream]
url = "https://app.harness.io"
ca = "ca.crt"
certificate = "client.crt"
key = "client.key"
server-name = "10.1.2.3"
min-version = "1.3"
protocol = "http1"
[upstream.parent]
url = "https://proxy.corp:3128"
ca = "ca.crt"
certificate = "client.crt"
key = "client.key"
server-name = "proxy.corp"
[reverse-proxy]
prefix = "/x"
forwarded-headers = false
client-certificate-header = true
[[policy.deny]]
hosts = ["*"]
identities = ["spiffe://example.org/ns/a"]
"#;

/// The case with all keys, its files empty. `/two.pem` stands within the directory.
fn all() -> Case {
    let toml = |two: &str| ALL.replace("/two.pem", two);
    let case = Case::new("");
    let two = case.directory.path().join("two.pem");
    std::fs::create_dir(case.directory.path().join("acme")).unwrap();
    let case = case
        .with_file("hnp.toml", &toml(two.to_str().unwrap()))
        .with_file("acme/client.crt", "")
        .with_file("acme/client.key", "");
    let files = [
        "server.crt",
        "server.key",
        "ca.crt",
        "ca2.crt",
        "one.pem",
        "two.pem",
        "client.crt",
        "client.key",
    ];
    files
        .iter()
        .fold(case, |case, name| case.with_file(name, ""))
}

#[test]
fn every_key_is_read() {
    let case = all();
    let loaded = case.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let path = |name| case.directory.path().join(name);
    let config = &loaded.config;
    assert_eq!(config.modes.len(), 3);
    let tls = config.listener.tls.as_ref().unwrap();
    assert_eq!(tls.certificate, path("server.crt"));
    assert_eq!(tls.key, Some(path("server.key")));
    assert_eq!(tls.client_auth, ClientAuth::Strict);
    assert_eq!(tls.client_ca, [path("ca.crt")]);
    assert_eq!(tls.crl, [path("one.pem"), path("two.pem")]);
    assert_eq!(tls.min_version, TlsVersion::Tls13);
    let [endpoint] = config.endpoints.as_slice() else {
        panic!("{:?}", config.endpoints);
    };
    assert_eq!(endpoint.server_name, "acme.agent.example.com");
    assert_eq!(endpoint.tls().client_auth, ClientAuth::Loose);
    assert_eq!(endpoint.tls().client_ca, [path("ca.crt"), path("ca2.crt")]);
    assert_eq!(endpoint.prefix, "/acme");
    let upstream = endpoint.as_upstream();
    assert_eq!(upstream.url.as_str(), "https://10.0.0.5:8443/base");
    assert_eq!(upstream.ca, [path("ca.crt")]);
    assert_eq!(upstream.certificate, Some(path("acme")));
    assert_eq!(upstream.server_name.as_deref(), Some("inner.example.com"));
    assert_eq!(upstream.protocol, HttpProtocol::H2);
    let upstream = config.upstream.as_ref().unwrap();
    assert_eq!(upstream.min_version, TlsVersion::Tls13);
    assert_eq!(upstream.protocol, HttpProtocol::Http1);
    let parent = upstream.parent.as_ref().unwrap();
    assert_eq!(parent.key, Some(path("client.key")));
    assert_eq!(config.reverse_proxy.prefix.as_deref(), Some("/x"));
    assert!(!config.reverse_proxy.forwarded_headers);
    assert!(config.reverse_proxy.client_certificate_header);

    let shown = loaded.to_toml().unwrap();
    assert_eq!(Case::new(&shown).load().unwrap().config, *config, "{shown}");
}

#[test]
fn the_documents_example_loads() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (_, from) = document
        .split_once("<!-- example: tls -->\n```toml\n")
        .unwrap();
    let (toml, _) = from.split_once("```").unwrap();
    let case = Case::new(&toml.replace("/etc/mtls/", ""));
    std::fs::create_dir(case.directory.path().join("server")).unwrap();
    let files = [
        "server/tls.crt",
        "server/tls.key",
        "clients-ca.crt",
        "revoked.pem",
        "acme.crt",
        "acme.key",
        "acme-ca.crt",
        "umbrella.crt",
        "umbrella.key",
        "umbrella-ca.crt",
        "umbrella-ca-new.crt",
        "inner-ca.crt",
        "manager-ca.crt",
        "client.crt",
        "client.key",
    ];
    let add = |case: Case, name: &&str| case.with_file(name, "");
    let loaded = files.iter().fold(case, add).load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.modes.len(), 3);
    assert_eq!(loaded.config.endpoints.len(), 2);
}

#[test]
fn every_file_is_watched_and_a_directory_for_what_it_may_come_to_hold() {
    let case = all();
    let names = [
        "acme/ca.crt",
        "acme/client.crt",
        "acme/client.key",
        "acme/server.crt",
        "acme/server.key",
        "acme/tls.crt",
        "acme/tls.key",
        "ca.crt",
        "ca2.crt",
        "client.crt",
        "client.key",
        "hnp.toml",
        "one.pem",
        "server.crt",
        "server.key",
        "two.pem",
    ];
    let expected: Vec<PathBuf> = names
        .iter()
        .map(|name| case.directory.path().join(name))
        .collect();
    let fingerprint = case.load().unwrap().fingerprint;
    assert_eq!(fingerprint.files().collect::<Vec<_>>(), expected);
    assert!(!fingerprint.tls_differs(&fingerprint.again()));
    for path in expected {
        let before = std::fs::read(&path).ok();
        std::fs::write(&path, "# changed").unwrap();
        let again = fingerprint.again();
        assert_ne!(fingerprint, again, "{}", path.display());
        let tls = !path.ends_with("hnp.toml");
        assert_eq!(again.tls_differs(&fingerprint), tls, "{}", path.display());
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn a_directory_stands_for_certificate_key_and_authority() {
    let toml = "modes = [\"end-to-end-mtls\"]\n[listener.tls]\ncertificate = \".\"\nclient-auth = \"strict\"\n[upstream]\nurl = \"http://a\"\n";
    let case = Case::new(toml)
        .with_file("tls.crt", "")
        .with_file("tls.key", "");
    let text = case.refused();
    assert!(text.contains("there is no `client-ca`"), "{text}");
    let loaded = case.with_file("ca.crt", "").load().unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn one_file_may_hold_certificate_and_key() {
    let toml = "[listener.tls]\ncertificate = \"both.pem\"\n[upstream]\nurl = \"http://a\"\n";
    let pem = "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n";
    let loaded = Case::new(toml).with_file("both.pem", pem).load().unwrap();
    assert_eq!(loaded.config.listener.tls.unwrap().key, None);
}

#[test]
fn what_is_set_and_never_used_is_warned_about() {
    let toml = "[listener.tls]\ncertificate = \"pem\"\nkey = \"pem\"\nclient-ca = \"pem\"\ncrl = \"pem\"\n[reverse-proxy]\nclient-certificate-header = true\n[upstream]\nurl = \"https://a\"";
    let loaded = Case::new(toml).with_file("pem", "").load().unwrap();
    let keys: Vec<&str> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "listener.tls.client-ca",
            "listener.tls.crl",
            "reverse-proxy.client-certificate-header"
        ]
    );
}

#[test]
fn endpoints_beside_each_other_are_fine() {
    let endpoint = |name: &str, prefix: &str| {
        format!(
            "[[endpoints]]\nserver-name = \"{name}\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"{prefix}\"\nupstream = \"http://u\"\n"
        )
    };
    let toml = endpoint("a.io", "/a") + &endpoint("b.a.io", "/ab") + &endpoint("c.io", "/b/a");
    Case::new(&toml).with_file("pem", "").load().unwrap();
}

/// The certificate and key in effect, and the warnings.
fn with_variables(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let environment = environment(variables);
    let loaded = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    let warnings = loaded.warnings.iter();
    let warnings = warnings.inspect(|warning| assert_eq!(warning.severity, Severity::Warning));
    (
        loaded.config.clone(),
        warnings.map(|warning| warning.message.clone()).collect(),
    )
}

#[test]
fn the_environment_names_certificate_and_key() {
    let case = Case::new("")
        .with_file("a.crt", "")
        .with_file("a.key", "")
        .with_file("b.crt", "")
        .with_file("b.key", "");
    let path = |name: &str| case.directory.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let (crt, key) = (text("a.crt"), text("a.key"));
    let (other_crt, other_key) = (text("b.crt"), text("b.key"));
    let https = ("PROXY_URL", "https://a");
    for (crt_name, key_name) in [
        ("CLIENT_CERT_PATH", "CLIENT_KEY_PATH"),
        ("PROXY_CLIENT_CERT_PATH", "PROXY_CLIENT_KEY_PATH"),
    ] {
        let (config, warnings) = with_variables(&[https, (crt_name, &crt), (key_name, &key)]);
        let upstream = config.upstream.unwrap();
        assert_eq!(upstream.certificate, Some(path("a.crt")));
        assert_eq!(upstream.key, Some(path("a.key")));
        assert_eq!(warnings, Vec::<String>::new());
    }
    // Both pairs.
    let variables = |other_crt, other_key| {
        with_variables(&[
            https,
            ("CLIENT_CERT_PATH", &crt),
            ("CLIENT_KEY_PATH", &key),
            ("PROXY_CLIENT_CERT_PATH", other_crt),
            ("PROXY_CLIENT_KEY_PATH", other_key),
        ])
    };
    let (config, warnings) = variables(&other_crt, &other_key);
    let upstream = config.upstream.unwrap();
    assert_eq!(upstream.certificate, Some(path("b.crt")));
    assert_eq!(upstream.key, Some(path("b.key")));
    assert!(warnings[0].contains("are not used"), "{warnings:?}");
    assert_eq!(variables(&crt, &key).1, Vec::<String>::new());
}

#[test]
fn the_environment_wins_over_the_file_and_half_a_pair_is_refused() {
    let toml = "[upstream]\nurl = \"https://a\"\ncertificate = \"f.crt\"\nkey = \"f.key\"\n";
    let case = Case::new(toml)
        .with_file("f.key", "")
        .with_file("e.crt", "");
    let file = case.directory.path().join("e.crt");
    let case = case.with_environment(&[("CLIENT_CERT_PATH", file.to_str().unwrap())]);
    let loaded = case.load().unwrap();
    assert_eq!(
        loaded.config.upstream.unwrap().certificate,
        Some(file.clone())
    );
    let name = "CLIENT_CERT_PATH";
    assert_eq!(
        loaded.origins["upstream.certificate"],
        Place::Environment { name }
    );

    let case = Case::new("")
        .with_environment(&[("PROXY_URL", "https://a"), (name, file.to_str().unwrap())]);
    let text = case.load().unwrap_err().to_string();
    assert!(
        text.contains("`upstream.certificate` needs `upstream.key`"),
        "{text}"
    );
    assert!(
        text.contains("environment variable CLIENT_CERT_PATH"),
        "{text}"
    );
}

#[test]
fn certificates_in_the_environment_of_a_plaintext_upstream_are_not_used() {
    for url in ["http://a", "HTTP://a"] {
        let (config, warnings) = with_variables(&[
            ("PROXY_URL", url),
            ("CLIENT_CERT_PATH", "/nonexistent/client.crt"),
            ("CLIENT_KEY_PATH", ""),
            ("PROXY_CLIENT_KEY_PATH", " "),
        ]);
        let upstream = config.upstream.unwrap();
        assert_eq!((upstream.certificate, upstream.key), (None, None));
        let expected = "CLIENT_CERT_PATH is not used: the upstream's url is http://";
        assert_eq!(warnings, [expected]);
    }
    let toml = "[upstream]\nurl = \"http://a\"\n";
    for (toml, why) in [(toml, "is http://"), ("", "there is no upstream")] {
        let case = Case::new(toml).with_environment(&[("CLIENT_KEY_PATH", "/nonexistent/key")]);
        let loaded = case.load().unwrap();
        let message = &loaded.warnings[0].message;
        assert!(
            message.contains("CLIENT_KEY_PATH") && message.contains(why),
            "{message}"
        );
    }
}
