//! Sessions that are resumed, and those that must not be.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription as Alert, ServerConfig, SupportedProtocolVersion};
use time::Duration;

use super::clients::{config, listener};
use super::handshake::{TLS12, TLS13, client, run, with};
use super::pki::{Authority, Leaf, Pki};
use crate::config::model::{ClientAuth, Config, EndpointConfig, HttpProtocol};
use crate::tls::{Hello, Server};

/// A listener with two authorities' clients, one of them revoked.
struct Scene {
    pki: Pki,
    authority: Authority,
    config: Config,
}

impl Scene {
    fn new(auth: ClientAuth) -> Self {
        let pki = Pki::new();
        let authority = Authority::new();
        authority.server("hnp.test").write(&pki, "server.pem");
        pki.write("clients.crt", &authority.pem);
        pki.write("crl.pem", &authority.revoke(&[77], Duration::days(7)));
        let mut tls = listener(&pki, auth);
        tls.crl.truncate(1);
        Self {
            config: config(tls),
            pki,
            authority,
        }
    }

    fn compile(&self, old: Option<&Server>) -> Arc<Server> {
        Server::compile(&self.config, old).unwrap().unwrap()
    }
}

fn both() -> [&'static SupportedProtocolVersion; 2] {
    [TLS12, TLS13]
}

#[test]
fn a_session_is_resumed_with_its_identity() {
    let scene = Scene::new(ClientAuth::Strict);
    for version in both() {
        let server = scene.compile(None);
        let pod = scene.authority.client("pod");
        let client = client(&scene.authority.pem, Some(&pod), version);
        assert!(!with(&client, "hnp.test", &server).resumed());
        let again = with(&client, "hnp.test", &server);
        assert!(again.resumed(), "{:?}", version.version);
        assert_eq!(again.identity(&server).unwrap().name(), "pod");
        // One ticket a session.
        let again = with(&client, "hnp.test", &server);
        assert!(again.resumed(), "{:?}", version.version);
    }
}

#[test]
fn a_reload_that_admits_the_same_clients_keeps_sessions() {
    let mut scene = Scene::new(ClientAuth::Strict);
    for version in both() {
        let server = scene.compile(None);
        let pod = scene.authority.client("pod");
        let client = client(&scene.authority.pem, Some(&pod), version);
        with(&client, "hnp.test", &server);

        scene.config.limits.headers += 1;
        let same = scene.compile(Some(&server));
        let endpoint = |server: &Server| Arc::clone(&server.endpoints().next().unwrap().config);
        assert!(Arc::ptr_eq(&endpoint(&server), &endpoint(&same)));
        assert!(with(&client, "hnp.test", &same).resumed());

        // A new certificate of the server's own does not end them either.
        scene
            .authority
            .server("hnp.test")
            .write(&scene.pki, "server.pem");
        let renewed = scene.compile(Some(&same));
        assert!(!Arc::ptr_eq(&endpoint(&same), &endpoint(&renewed)));
        assert!(with(&client, "hnp.test", &renewed).resumed());
    }
}

#[test]
fn a_reload_that_changes_who_is_admitted_ends_sessions() {
    type Change = fn(&mut Scene);
    let changes: [(&str, Change); 4] = [
        ("another authority", |scene| {
            let other = Authority::named("Other").pem;
            scene
                .pki
                .write("clients.crt", &format!("{}{other}", scene.authority.pem));
        }),
        ("a list", |scene| {
            let list = scene.authority.revoke(&[77, 78], Duration::days(7));
            scene.pki.write("crl.pem", &list);
        }),
        ("no list", |scene| {
            scene.config.listener.tls.as_mut().unwrap().crl.clear();
        }),
        ("strict", |scene| {
            scene.config.listener.tls.as_mut().unwrap().client_auth = ClientAuth::Strict;
        }),
    ];
    for (what, change) in changes {
        for version in both() {
            let mut scene = Scene::new(ClientAuth::Loose);
            let server = scene.compile(None);
            let pod = scene.authority.client("pod");
            let client = client(&scene.authority.pem, Some(&pod), version);
            with(&client, "hnp.test", &server);
            assert!(with(&client, "hnp.test", &server).resumed());
            change(&mut scene);
            let server = scene.compile(Some(&server));
            let outcome = with(&client, "hnp.test", &server);
            assert_eq!(outcome.server, Ok(()), "{what}");
            assert!(!outcome.resumed(), "{what}, {:?}", version.version);
        }
    }
}

/// The session was made without a certificate: it must not be a way around STRICT.
#[test]
fn a_session_without_a_certificate_ends_with_loose() {
    for version in both() {
        let mut scene = Scene::new(ClientAuth::Loose);
        let server = scene.compile(None);
        let client = client(&scene.authority.pem, None, version);
        with(&client, "hnp.test", &server);
        assert!(with(&client, "hnp.test", &server).resumed());
        scene.config.listener.tls.as_mut().unwrap().client_auth = ClientAuth::Strict;
        let server = scene.compile(Some(&server));
        let outcome = with(&client, "hnp.test", &server);
        assert_eq!(outcome.alert(), Some(Alert::CertificateRequired));
    }
}

/// A ticket is good for hours, a certificate may end in minutes.
#[test]
fn a_resumed_session_is_looked_at_again() {
    for version in both() {
        let scene = Scene::new(ClientAuth::Strict);
        let server = scene.compile(None);
        let leaf = Leaf::client("pod").days(-10, -1);
        let expired = scene.authority.issue(&leaf);
        let client = client(&scene.authority.pem, Some(&expired), version);
        // Two days ago it was good.
        let endpoint = server.endpoints().next().unwrap();
        let mut back: ServerConfig = (*endpoint.config).clone();
        back.time_provider = Arc::new(Back(2 * 86_400));
        let back = Arc::new(back);
        let first = run(&client, "hnp.test", &back);
        assert_eq!(first.server, Ok(()), "{:?}", version.version);
        let resumed = run(&client, "hnp.test", &back);
        assert!(resumed.resumed());
        let session = resumed.session.as_ref().unwrap();
        let error = server.verify_identity(session).unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
    }
}

/// Seconds ago.
#[derive(Debug)]
struct Back(u64);

impl TimeProvider for Back {
    fn current_time(&self) -> Option<UnixTime> {
        let then = std::time::Duration::from_secs(UnixTime::now().as_secs() - self.0);
        Some(UnixTime::since_unix_epoch(then))
    }
}

/// Three accounts: each has an authority of its own, all of one name.
fn accounts(pki: &Pki) -> (Config, Vec<Authority>) {
    let mut config = Config::default();
    let mut authorities = Vec::new();
    for name in ["acme", "globex", "initech"] {
        let authority = Authority::new();
        let server = format!("{name}.test");
        authority.server(&server).write(pki, &format!("{name}.pem"));
        pki.write(&format!("{name}.crt"), &authority.pem);
        config.endpoints.push(EndpointConfig {
            server_name: server,
            certificate: pki.path(&format!("{name}.pem")),
            key: None,
            client_auth: ClientAuth::Strict,
            client_ca: vec![pki.path(&format!("{name}.crt"))],
            crl: Vec::new(),
            min_version: crate::config::model::TlsVersion::Tls12,
            prefix: format!("/{name}"),
            upstream: "http://manager.test".parse().unwrap(),
            upstream_ca: Vec::new(),
            upstream_certificate: None,
            upstream_key: None,
            upstream_server_name: None,
            upstream_protocol: HttpProtocol::Auto,
        });
        authorities.push(authority);
    }
    (config, authorities)
}

#[test]
fn an_endpoint_serves_its_own_clients_alone() {
    let pki = Pki::new();
    let (config, authorities) = accounts(&pki);
    let server = Server::compile(&config, None).unwrap().unwrap();
    let names = ["acme.test", "globex.test", "initech.test"];
    let all: String = authorities.iter().map(|one| one.pem.as_str()).collect();
    for version in both() {
        for (own, authority) in authorities.iter().enumerate() {
            let client = client(&all, Some(&authority.client("pod")), version);
            for (index, name) in names.into_iter().enumerate() {
                let outcome = with(&client, name, &server);
                match index == own {
                    true => assert_eq!(outcome.identity(&server).unwrap().name(), "pod"),
                    false => assert_eq!(outcome.alert(), Some(Alert::UnknownCA)),
                }
            }
        }
    }
}

/// Of one account's endpoint to another's: by a client that keeps its sessions in one place, under one name.
#[test]
fn a_ticket_opens_no_other_endpoint() {
    let pki = Pki::new();
    let (mut config, authorities) = accounts(&pki);
    for endpoint in &mut config.endpoints {
        endpoint.client_auth = ClientAuth::Loose;
    }
    let server = Server::compile(&config, None).unwrap().unwrap();
    let endpoints: Vec<_> = server.endpoints().collect();
    let all: String = authorities.iter().map(|one| one.pem.as_str()).collect();
    // Both servers show a certificate that is good for the name asked for.
    let [acme, globex] = [0, 1].map(|index| {
        let mut config: ServerConfig = (*endpoints[index].config).clone();
        config.cert_resolver = Arc::clone(&endpoints[0].config.cert_resolver);
        Arc::new(config)
    });
    for version in both() {
        let pod = authorities[0].client("pod");
        let mut client = client(&all, Some(&pod), version);
        client.resumption = Resumption::in_memory_sessions(16);
        run(&client, "acme.test", &acme);
        assert!(run(&client, "acme.test", &acme).resumed());
        run(&client, "acme.test", &acme);
        let outcome = run(&client, "acme.test", &globex);
        // A full handshake, in which the certificate does not do.
        assert_eq!(outcome.alert(), Some(Alert::UnknownCA), "{outcome:?}");
    }
}

#[test]
fn names_choose_the_endpoint() {
    let pki = Pki::new();
    let (mut config, authorities) = accounts(&pki);
    let hello = |name: Option<&str>| Hello {
        server_name: name.map(Into::into),
        alpn: Vec::new(),
    };
    let server = Server::compile(&config, None).unwrap().unwrap();
    let chosen = |server: &Server, name| {
        let endpoint = server.choose(&hello(name));
        endpoint.map(|endpoint| endpoint.name.as_deref().map(str::to_owned))
    };
    assert_eq!(
        chosen(&server, Some("ACME.test")),
        Ok(Some("acme.test".into()))
    );
    for name in [Some("acme.test.evil"), Some("x.acme.test"), None] {
        assert_eq!(
            chosen(&server, name),
            Err(Alert::UnrecognisedName),
            "{name:?}"
        );
    }
    let endpoint = server.choose(&hello(Some("globex.test"))).unwrap();
    assert_eq!((&*endpoint.prefix, endpoint.index), ("/globex", Some(1)));

    authorities[0].server("hnp.test").write(&pki, "server.pem");
    let mut tls = listener(&pki, ClientAuth::Off);
    tls.client_ca.clear();
    config.listener.tls = Some(tls);
    let server = Server::compile(&config, None).unwrap().unwrap();
    assert_eq!(
        chosen(&server, Some("acme.test")),
        Ok(Some("acme.test".into()))
    );
    assert_eq!(chosen(&server, Some("other.test")), Ok(None));
    assert_eq!(chosen(&server, None), Ok(None));
}
