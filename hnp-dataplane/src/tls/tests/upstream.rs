//! Towards upstreams: whom HNP trusts, and what it shows.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription as Alert, Error, RootCertStore, ServerConfig};

use super::clients::{config, listener};
use super::handshake::{Outcome, run};
use super::pki::{Authority, Pki, Shown};
use crate::config::model::{ClientAuth, Config, HttpProtocol, Mode, Parent, TlsVersion, Upstream};
use crate::tls::verify::explain;
use crate::tls::{Alpn, Clients, Server, provider};

fn upstream(url: &str) -> Upstream {
    Upstream {
        url: url.parse().unwrap(),
        ca: Vec::new(),
        certificate: None,
        key: None,
        server_name: None,
        min_version: TlsVersion::Tls12,
        protocol: HttpProtocol::Auto,
        parent: None,
    }
}

fn with(upstream: Upstream) -> Config {
    Config {
        upstream: Some(upstream),
        ..Config::default()
    }
}

/// A server of its own, not HNP's.
fn manager(shown: &Shown) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            shown.ders(),
            PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

fn handshake(clients: &Clients, name: &'static str, server: &Arc<ServerConfig>) -> Outcome {
    let client = clients.upstream.as_ref().unwrap();
    run(client.config_for(Alpn::Any), name, server)
}

/// HNP against itself: what it shows as a client, it accepts as a server, v1 included.
#[test]
fn the_guides_certificate_is_shown() {
    let pki = Pki::new();
    pki.guide("mtls");
    let authority = Authority::named("Servers");
    authority.server("app.test").write(&pki, "server.pem");
    pki.write("servers.crt", &authority.pem);
    let mut tls = listener(&pki, ClientAuth::Strict);
    tls.client_ca = vec![pki.path("mtls/ca.crt")];
    tls.crl.clear();
    let server = Server::compile(&config(tls), None).unwrap().unwrap();
    let endpoint = server.endpoints().next().unwrap();
    let pairs = [
        (
            pki.path("mtls/client.crt"),
            Some(pki.path("mtls/client.key")),
        ),
        (pki.path("mtls"), None),
        (pki.path("mtls"), Some(pki.path("mtls"))),
    ];
    for (certificate, key) in pairs {
        let mut upstream = upstream("https://app.test");
        upstream.ca = vec![pki.path("servers.crt")];
        upstream.certificate = Some(certificate);
        upstream.key = key;
        let clients = Clients::compile(&with(upstream), None).unwrap();
        let outcome = handshake(&clients, "app.test", &endpoint.config);
        assert_eq!(outcome.identity(&server).unwrap().name(), "Client");
        let session = outcome.session.unwrap();
        assert_eq!(session.alpn.as_deref(), Some(b"h2".as_slice()));
    }
}

#[test]
fn http2_is_not_offered_where_only_tunnels_are_served() {
    let pki = Pki::new();
    let authority = Authority::named("Servers");
    authority.server("app.test").write(&pki, "server.pem");
    pki.write("servers.crt", &authority.pem);
    let mut config = config(listener(&pki, ClientAuth::Off));
    config.modes = vec![Mode::Tunnel];
    let server = Server::compile(&config, None).unwrap().unwrap();
    let endpoint = server.endpoints().next().unwrap();
    let mut upstream = upstream("https://app.test");
    upstream.ca = vec![pki.path("servers.crt")];
    let clients = Clients::compile(&with(upstream), None).unwrap();
    let outcome = handshake(&clients, "app.test", &endpoint.config);
    let session = outcome.session.unwrap();
    assert_eq!(session.alpn.as_deref(), Some(b"http/1.1".as_slice()));
}

#[test]
fn protocols_are_offered_as_asked_for() {
    let pki = Pki::new();
    let authority = Authority::new();
    pki.write("ca.crt", &authority.pem);
    let mut server = ServerConfig::clone(&manager(&authority.server("app.test")));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = Arc::new(server);
    let mut upstream = upstream("https://app.test");
    upstream.ca = vec![pki.path("ca.crt")];
    let clients = Clients::compile(&with(upstream), None).unwrap();
    let client = clients.upstream.as_ref().unwrap();
    for (alpn, agreed) in [
        (Alpn::Nothing, None),
        (Alpn::Http1, Some("http/1.1")),
        (Alpn::Any, Some("h2")),
        (Alpn::H2, Some("h2")),
    ] {
        let outcome = run(client.config_for(alpn), "app.test", &server);
        let session = outcome.session.unwrap();
        assert_eq!(
            session.alpn.as_deref(),
            agreed.map(str::as_bytes),
            "{alpn:?}"
        );
    }
    // They share their sessions.
    assert!(run(client.config_for(Alpn::Nothing), "app.test", &server).resumed());
}

#[test]
fn whom_hnp_does_not_trust() {
    let pki = Pki::new();
    let authority = Authority::new();
    pki.write("ca.crt", &authority.pem);
    let mut wanted = upstream("https://app.test");
    wanted.ca = vec![pki.path("ca.crt")];
    let clients = Clients::compile(&with(wanted), None).unwrap();
    let said = |shown: &Shown, name| {
        let outcome = handshake(&clients, name, &manager(shown));
        explain::upstream(&outcome.client.unwrap_err())
    };
    let other = Authority::named("Other").server("app.test");
    assert!(said(&other, "app.test").contains("name the right one with `ca`"));
    let elsewhere = said(&authority.server("elsewhere.test"), "app.test");
    assert!(
        elsewhere.contains("not for app.test but for") && elsewhere.contains("elsewhere.test"),
        "{elsewhere}"
    );
    let leaf = super::pki::Leaf::server("app.test").days(-10, -1);
    let expired = said(&authority.issue(&leaf), "app.test");
    assert!(expired.contains("expired 1 day ago"), "{expired}");
}

#[test]
fn a_manager_that_wants_a_certificate() {
    let pki = Pki::new();
    let authority = Authority::new();
    pki.write("ca.crt", &authority.pem);
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let shown = authority.server("app.test");
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            shown.ders(),
            PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let server = Arc::new(server);
    let mut wanted = upstream("https://app.test");
    wanted.ca = vec![pki.path("ca.crt")];
    let clients = Clients::compile(&with(wanted.clone()), None).unwrap();
    let outcome = handshake(&clients, "app.test", &server);
    assert_eq!(outcome.alert(), Some(Alert::CertificateRequired));
    let said = explain::upstream(&outcome.client.unwrap_err());
    assert!(said.contains("set `certificate` and `key`"), "{said}");

    let other = Authority::named("Other").client("hnp");
    wanted.certificate = Some(other.write(&pki, "hnp.pem"));
    let clients = Clients::compile(&with(wanted.clone()), None).unwrap();
    let outcome = handshake(&clients, "app.test", &server);
    let said = explain::upstream(&outcome.client.unwrap_err());
    assert!(said.contains("refused HNP's client certificate"), "{said}");

    authority.client("hnp").write(&pki, "hnp.pem");
    let clients = Clients::compile(&with(wanted), Some(&clients)).unwrap();
    let outcome = handshake(&clients, "app.test", &server);
    assert_eq!(outcome.server, Ok(()));
}

#[test]
fn the_least_version_holds() {
    let pki = Pki::new();
    let authority = Authority::new();
    pki.write("ca.crt", &authority.pem);
    let shown = authority.server("app.test");
    let old = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            shown.ders(),
            PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let old = Arc::new(old);
    let mut wanted = upstream("https://app.test");
    wanted.ca = vec![pki.path("ca.crt")];
    let clients = Clients::compile(&with(wanted.clone()), None).unwrap();
    assert_eq!(handshake(&clients, "app.test", &old).server, Ok(()));
    wanted.min_version = TlsVersion::Tls13;
    let clients = Clients::compile(&with(wanted), Some(&clients)).unwrap();
    let error = handshake(&clients, "app.test", &old).server.unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error}");
}

#[test]
fn the_listeners_least_version_holds() {
    let pki = Pki::new();
    let authority = Authority::new();
    authority.server("hnp.test").write(&pki, "server.pem");
    let mut tls = listener(&pki, ClientAuth::Off);
    tls.min_version = TlsVersion::Tls13;
    let server = Server::compile(&config(tls), None).unwrap().unwrap();
    let outcome = |version| {
        let client = super::handshake::client(&authority.pem, None, version);
        super::handshake::with(&client, "hnp.test", &server)
    };
    let old = outcome(super::handshake::TLS12);
    assert_eq!(old.alert(), Some(Alert::ProtocolVersion));
    assert_eq!(outcome(super::handshake::TLS13).server, Ok(()));
}

#[test]
fn names_and_plaintext() {
    let compile = |upstream| Clients::compile(&with(upstream), None).unwrap();
    let name = |clients: &Clients| {
        let client = clients.upstream.as_ref().unwrap();
        client.name.to_str().into_owned()
    };
    let pki = Pki::new();
    pki.write("ca.crt", &Authority::new().pem);
    let https = |url: &str| {
        let mut upstream = upstream(url);
        upstream.ca = vec![pki.path("ca.crt")];
        upstream
    };
    assert_eq!(name(&compile(https("https://App.test:8443/x"))), "app.test");
    assert_eq!(name(&compile(https("https://[::1]:8443"))), "::1");
    assert_eq!(name(&compile(https("https://192.0.2.1"))), "192.0.2.1");
    let mut other = https("https://192.0.2.1");
    other.server_name = Some("app.test".into());
    assert_eq!(name(&compile(other)), "app.test");
    assert!(compile(upstream("http://app.test")).upstream.is_none());

    let mut through = upstream("http://app.test");
    through.parent = Some(Parent {
        url: "https://proxy.test:3129".parse().unwrap(),
        ca: vec![pki.path("ca.crt")],
        certificate: None,
        key: None,
        server_name: None,
        username: None,
        password_file: None,
        no_proxy: Vec::new(),
    });
    let clients = compile(through);
    assert!(clients.upstream.is_none());
    assert_eq!(clients.parent.unwrap().name.to_str(), "proxy.test");
}
