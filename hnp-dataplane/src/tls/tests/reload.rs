//! Certificates, keys and authorities that are exchanged, again and again.

use std::fs;
use std::sync::Arc;

use super::clients::{config, listener};
use super::handshake::{TLS13, client, with};
use super::pki::{Authority, Pki};
use crate::config::model::{ClientAuth, Config, HttpProtocol, TlsVersion, Upstream};
use crate::tls::{Alpn, Clients, Server, files};

#[test]
fn certificate_key_and_authority_are_exchanged_any_number_of_times() {
    let pki = Pki::new();
    let mut server: Option<Arc<Server>> = None;
    for round in 0..5 {
        let authority = Authority::new();
        authority.server("hnp.test").write(&pki, "server.pem");
        pki.write("clients.crt", &authority.pem);
        let mut tls = listener(&pki, ClientAuth::Strict);
        tls.crl.clear();
        let new = Server::compile(&config(tls), server.as_deref())
            .unwrap()
            .unwrap();
        let name = format!("pod-{round}");
        let client = client(&authority.pem, Some(&authority.client(&name)), TLS13);
        let outcome = with(&client, "hnp.test", &new);
        assert_eq!(outcome.identity(&new).unwrap().name(), name);
        if let Some(old) = server.replace(new) {
            let outcome = with(&client, "hnp.test", &old);
            assert!(outcome.session.is_none());
        }
    }
}

#[test]
fn a_client_changes_when_its_files_do() {
    let pki = Pki::new();
    let authority = Authority::new();
    pki.write("ca.crt", &authority.pem);
    authority.client("hnp").write(&pki, "hnp.pem");
    let config = Config {
        upstream: Some(Upstream {
            url: "https://app.test".parse().unwrap(),
            ca: vec![pki.path("ca.crt")],
            certificate: Some(pki.path("hnp.pem")),
            key: None,
            server_name: None,
            min_version: TlsVersion::Tls12,
            protocol: HttpProtocol::Auto,
            parent: None,
        }),
        ..Config::default()
    };
    let compile = |old: &Clients| Clients::compile(&config, Some(old));
    let id = |clients: &Clients| clients.upstream.as_ref().unwrap().id();
    let first = Clients::compile(&config, None).unwrap();
    // Written again, with nothing changed.
    let text = fs::read(pki.path("hnp.pem")).unwrap();
    fs::write(pki.path("hnp.pem"), text).unwrap();
    let same = compile(&first).unwrap();
    assert_eq!(id(&first), id(&same));
    let configs = [&first, &same].map(|clients| {
        let client = clients.upstream.as_ref().unwrap();
        Arc::clone(client.config_for(Alpn::Http1))
    });
    assert!(Arc::ptr_eq(&configs[0], &configs[1]));

    authority.client("hnp").write(&pki, "hnp.pem");
    let renewed = compile(&same).unwrap();
    assert_ne!(id(&same), id(&renewed));
    pki.write(
        "ca.crt",
        &format!("{}{}", authority.pem, Authority::new().pem),
    );
    let trusting = compile(&renewed).unwrap();
    assert_ne!(id(&renewed), id(&trusting));

    // A pair that is broken changes nothing.
    pki.write("hnp.pem", &authority.client("hnp").chain);
    let error = compile(&trusting).unwrap_err().to_string();
    assert!(error.starts_with("upstream: "), "{error}");
}

/// A directory is watched for what may come into it as well.
#[test]
fn every_file_is_watched() {
    let pki = Pki::new();
    let authority = Authority::new();
    authority.server("hnp.test").write(&pki, "mount/tls.crt");
    let mut tls = listener(&pki, ClientAuth::Strict);
    tls.certificate = pki.path("mount");
    let watched = files(&config(tls));
    for name in [
        "mount/tls.crt",
        "mount/tls.key",
        "mount/client.crt",
        "mount/client.key",
        "mount/ca.crt",
        "clients.crt",
        "crl.pem",
        "guide/crl.pem",
    ] {
        assert!(watched.contains(&pki.path(name)), "{name}: {watched:?}");
    }
}
