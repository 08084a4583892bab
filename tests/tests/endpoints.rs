//! Endpoints by name: three accounts, and nobody who gets into another's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "endpoints/sessions.rs"]
mod sessions;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::node::{self, NodeBuilder, loopback};
use hnp_tests::pki::authority::Leaf;
use hnp_tests::pki::{Authority, Clients, Pair, Shown};
use hnp_tests::process;
use hnp_tests::tls::sessions::{SharedSessions, Switch};
use hnp_tests::tls::{Refusal, Secured, Tls, Versions};
use hnp_tests::{DEADLINE, Node, client, wait};
use nix::sys::signal::Signal;
use rustls::AlertDescription;

/// An account of the gateway's, and what its owner made himself.
struct Account {
    name: &'static str,
    server: Pair,
    clients: Clients,
    upstream: Manager,
}

impl Account {
    fn host(&self) -> String {
        format!("{}.agent.test", self.name)
    }

    /// A client of the gateway's with this certificate.
    fn client(&self, gateway: &Gateway, shown: Shown, versions: Versions) -> Tls {
        Tls::of(&[&gateway.authority], self.clients.pair(shown), versions)
    }
}

struct Gateway {
    authority: Authority,
    accounts: Vec<Account>,
}

impl Gateway {
    fn new() -> Gateway {
        let authority = Authority::new("the gateway's");
        let accounts = ["acme", "beta", "gamma"]
            .into_iter()
            .map(|name| Account {
                name,
                server: authority.server(&[&format!("{name}.agent.test")]),
                clients: Clients::new(&format!("{name}'s")),
                upstream: Manager::plain(),
            })
            .collect();
        Gateway {
            authority,
            accounts,
        }
    }

    /// The tables of its configuration.
    fn config(&self, auth: ClientAuth) -> String {
        let tables = self.accounts.iter().map(|account| {
            let Account { name, upstream, .. } = account;
            format!(
                "[[endpoints]]\nserver-name = \"{}\"\ncertificate = \"{name}.crt\"\nkey = \"{name}.key\"\n\
                 client-auth = \"{}\"\nclient-ca = \"{name}-ca.crt\"\ncrl = [\"{name}.crl\"]\n\
                 prefix = \"/{name}\"\nupstream = \"{}\"\n",
                account.host(),
                auth.word(),
                upstream.url(),
            )
        });
        tables.collect()
    }

    fn builder(&self, auth: ClientAuth) -> NodeBuilder {
        let mut node = Node::builder().config(&self.config(auth));
        for account in &self.accounts {
            let Account { name, server, .. } = account;
            node = node
                .file(&format!("{name}.crt"), &server.certificate)
                .file(&format!("{name}.key"), &server.key)
                .file(&format!("{name}-ca.crt"), account.clients.authority.pem())
                .file(&format!("{name}.crl"), &account.clients.crl);
        }
        node
    }

    fn start(&self, auth: ClientAuth) -> Node {
        self.builder(auth).start()
    }
}

const VERSIONS: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

#[test]
fn a_certificate_opens_its_own_accounts_endpoint_and_no_other() {
    let gateway = Gateway::new();
    for auth in ClientAuth::BOTH {
        let node = gateway.start(auth);
        for owner in &gateway.accounts {
            for visited in &gateway.accounts {
                for versions in VERSIONS {
                    for shown in [Shown::Valid, Shown::V1] {
                        let context = format!(
                            "{auth:?} {versions:?} {}'s {shown:?} at {}",
                            owner.name, visited.name
                        );
                        let mark = node.log().mark();
                        let path = format!("/{}/head?q=1", visited.name);
                        let got = owner.client(&gateway, shown, versions).get(
                            node.address(),
                            &visited.host(),
                            &path,
                        );
                        if owner.name == visited.name {
                            let response =
                                got.unwrap_or_else(|e| panic!("{context}: {e:?}\n{}", node.log()));
                            assert_eq!(response.status, 200, "{context}: {}", response.text());
                            // The prefix was taken off.
                            let request = visited.upstream.last_for("/head?q=1");
                            assert!(request.header("host").is_some(), "{context}");
                            let line = node
                                .log()
                                .await_line_after(mark, &["log=access", "status=200"]);
                            assert!(line.contains("mode=endpoint"), "{context}: {line}");
                            let name = owner.clients.pair(shown).unwrap().name();
                            let identity = format!("identity={name}");
                            assert!(line.contains(&identity), "{context}: {line}");
                        } else {
                            assert_eq!(
                                got,
                                Err(Refusal::Alert(AlertDescription::UnknownCA)),
                                "{context}"
                            );
                            let line = node
                                .log()
                                .await_line_after(mark, &["log=access", "tls_failed"]);
                            assert!(line.contains(&visited.host()), "{context}: {line}");
                        }
                    }
                }
            }
        }
        for account in &gateway.accounts {
            let requests = account.upstream.requests().len();
            // Its own, of each kind and version, and this is the second round.
            let rounds = if auth == ClientAuth::Loose { 1 } else { 2 };
            assert_eq!(requests, 4 * rounds, "{}", account.name);
        }
    }
}

#[test]
fn without_a_certificate_loose_serves_and_strict_refuses() {
    let gateway = Gateway::new();
    for auth in ClientAuth::BOTH {
        let node = gateway.start(auth);
        for account in &gateway.accounts {
            for versions in VERSIONS {
                let got = account.client(&gateway, Shown::Nothing, versions).get(
                    node.address(),
                    &account.host(),
                    &format!("/{}/head", account.name),
                );
                match auth {
                    ClientAuth::Strict => assert_eq!(
                        got,
                        Err(Refusal::Alert(AlertDescription::CertificateRequired))
                    ),
                    _ => assert_eq!(got.unwrap().status, 200),
                }
            }
            for bad in [
                Shown::Expired,
                Shown::Stranger,
                Shown::Impostor,
                Shown::Revoked,
            ] {
                let got = account.client(&gateway, bad, Versions::Both).get(
                    node.address(),
                    &account.host(),
                    &format!("/{}/head", account.name),
                );
                assert!(matches!(got, Err(Refusal::Alert(_))), "{bad:?}: {got:?}");
            }
        }
    }
}

#[test]
fn a_host_other_than_the_name_that_was_asked_for_in_tls_is_misdirected() {
    let gateway = Gateway::new();
    let [acme, beta, _] = &gateway.accounts[..] else {
        panic!()
    };
    let node = gateway.start(ClientAuth::Strict);
    let connect = || {
        acme.client(&gateway, Shown::Valid, Versions::Both)
            .connect(node.address(), &acme.host())
            .unwrap()
    };
    let request = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [beta.host(), "agent.test".to_owned(), "127.0.0.1".to_owned()] {
        for path in ["/acme/head", "/beta/head"] {
            let response = connect().ask(&request(path, &host)).unwrap();
            assert_eq!(response.status, 421, "{path} {host}: {}", response.text());
        }
    }
    // Case, a final dot and a port do not make it another's.
    for host in ["ACME.Agent.Test", "acme.agent.test:8443"] {
        let response = connect().ask(&request("/acme/head", host)).unwrap();
        assert_eq!(response.status, 200, "{host}: {}", response.text());
    }
    // On a connection that was good before, too.
    let mut stream = connect();
    assert_eq!(stream.get(&acme.host(), "/acme/head").unwrap().status, 200);
    assert_eq!(stream.get(&beta.host(), "/beta/head").unwrap().status, 421);
    assert!(beta.upstream.requests().is_empty());
}

#[test]
fn only_requests_beneath_the_prefix_are_served_and_no_tunnels() {
    let gateway = Gateway::new();
    let [acme, beta, _] = &gateway.accounts[..] else {
        panic!()
    };
    let node = gateway
        .builder(ClientAuth::Strict)
        .config("modes = [\"tunnel\"]")
        .start();
    let connect = || {
        acme.client(&gateway, Shown::Valid, Versions::Both)
            .connect(node.address(), &acme.host())
            .unwrap()
    };
    let host = acme.host();
    for path in [
        "/beta/head",
        "/",
        "/head",
        "/acmeother/head",
        "/acme/../beta/head",
        "/acme/..%2fbeta/head",
        "/%61cme/../beta/head",
        "//acme/head",
    ] {
        let response = connect().get(&host, path).unwrap();
        assert!(
            matches!(response.status, 400 | 404),
            "{path}: {} {}",
            response.status,
            response.text()
        );
    }
    // The prefix itself is beneath it.
    for (path, arrives) in [("/acme", "/"), ("/acme/", "/"), ("/acme?a=b", "/?a=b")] {
        connect().get(&host, path).unwrap();
        let _ = acme.upstream.last_for(arrives);
    }
    let requests = acme.upstream.requests().len();
    let target = beta.upstream.address();
    let (refused, _) = connect().tunnel(&target.to_string()).unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    let absolute = format!("GET http://{target}/head HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let refused = connect().ask(&absolute).unwrap();
    assert!(matches!(refused.status, 403 | 421), "{refused:?}");
    assert_eq!(acme.upstream.requests().len(), requests);
    assert!(beta.upstream.requests().is_empty());
}

#[test]
fn a_name_that_nobody_has_is_unrecognized() {
    let gateway = Gateway::new();
    let node = gateway.start(ClientAuth::Loose);
    for name in ["delta.agent.test", "agent.test", "x.acme.agent.test"] {
        let mark = node.log().mark();
        let refusal = Tls::trusting(&[&gateway.authority])
            .connect(node.address(), name)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            refusal,
            Refusal::Alert(AlertDescription::UnrecognisedName),
            "{name}"
        );
        node.log().await_line_after(mark, &["log=access", name]);
    }
    // Without a name there is nobody to be.
    let refusal = Tls::trusting(&[&gateway.authority])
        .anonymous()
        .connect(node.address(), "acme.agent.test")
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Alert(_)), "{refusal:?}");
}

#[test]
fn beside_endpoints_the_listener_serves_what_is_nobodys() {
    let gateway = Gateway::new();
    let material = Material::shared();
    let acme = &gateway.accounts[0];
    let manager = material.manager(ClientAuth::Strict);
    let mut builder = gateway
        .builder(ClientAuth::Strict)
        .config("modes = [\"tunnel\", \"end-to-end-mtls\"]")
        .file("server.crt", &material.listener.certificate)
        .file("server.key", &material.listener.key)
        .file("pods-ca.crt", material.pods.authority.pem())
        .config("[listener.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\nclient-auth = \"strict\"\nclient-ca = \"pods-ca.crt\"");
    builder = builder
        .file("manager-ca.crt", material.manager.pem())
        .file("upstream.crt", &material.agents.valid().certificate)
        .file("upstream.key", &material.agents.valid().key)
        .config(&format!("[upstream]\nurl = \"{}\"\nca = \"manager-ca.crt\"\ncertificate = \"upstream.crt\"\nkey = \"upstream.key\"", manager.url()));
    let node = builder.start();
    let pod = material.pod(Shown::Valid, Versions::Both);
    assert_eq!(
        pod.get(node.address(), "localhost", "/head")
            .unwrap()
            .status,
        200
    );
    let client = acme.client(&gateway, Shown::Valid, Versions::Both);
    let response = client
        .get(node.address(), &acme.host(), "/acme/head")
        .unwrap();
    assert_eq!(response.status, 200);
    // Neither's certificate opens the other.
    let crossed = Tls::of(
        &[&gateway.authority, &material.hnp],
        acme.clients.pair(Shown::Valid),
        Versions::Both,
    );
    assert_eq!(
        crossed.get(node.address(), "localhost", "/head"),
        Err(Refusal::Alert(AlertDescription::UnknownCA))
    );
    let crossed = Tls::of(
        &[&gateway.authority, &material.hnp],
        material.pods.pair(Shown::Valid),
        Versions::Both,
    );
    assert_eq!(
        crossed.get(node.address(), &acme.host(), "/acme/head"),
        Err(Refusal::Alert(AlertDescription::UnknownCA))
    );
    // Nor does a name in `Host` lead from the listener to an endpoint.
    let mut stream = pod.connect(node.address(), "localhost").unwrap();
    let seen = acme.upstream.requests().len();
    let _ = stream.get(&acme.host(), "/acme/head");
    assert_eq!(acme.upstream.requests().len(), seen);
}

// ---- LOOSE to STRICT ----

#[test]
fn from_loose_to_strict_under_load() {
    let gateway = Gateway::new();
    let mut node = gateway.start(ClientAuth::Loose);
    let acme = &gateway.accounts[0];
    // Somebody who comes without, from an address of his own.
    let bare = acme.client(&gateway, Shown::Nothing, Versions::Both);
    let visit_bare = |from: u8| {
        let stream = client::from_address(loopback(from), node.address()).unwrap();
        bare.over(stream, &acme.host())
            .and_then(|mut stream| stream.get(&acme.host(), "/acme/head"))
    };
    assert_eq!(visit_bare(77).unwrap().status, 200);
    // The owner sees whom STRICT would lock out.
    wait::until("the client without a certificate to be named", || {
        let listed = node.admin("/endpoints").text();
        let named = listed.contains(&acme.host()) && listed.contains("127.0.0.77");
        if named { Ok(()) } else { Err(listed) }
    });

    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = node.address();
    thread::scope(|scope| {
        let workers: Vec<_> = gateway
            .accounts
            .iter()
            .flat_map(|account| [(account, true), (account, false)])
            .map(|(account, keeps)| {
                let (stop, served, gateway) = (&stop, &served, &gateway);
                scope.spawn(move || {
                    let tls = account.client(gateway, Shown::Valid, Versions::Both);
                    let path = format!("/{}/head", account.name);
                    let mut kept = tls.connect(address, &account.host()).unwrap();
                    while !stop.load(Ordering::SeqCst) {
                        let response = if keeps {
                            kept.get(&account.host(), &path)
                        } else {
                            tls.get(address, &account.host(), &path)
                        };
                        assert_eq!(response.unwrap().status, 200);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let await_served = |more: usize| {
            let from = served.load(Ordering::SeqCst);
            wait::until("requests to be served", || {
                match served.load(Ordering::SeqCst) {
                    now if now >= from + more => Ok(()),
                    now => Err(format!("{now}")),
                }
            });
        };
        await_served(100);
        let mark = node.log().mark();
        node.rewrite_config(&gateway.config(ClientAuth::Strict));
        node.signal(Signal::SIGHUP);
        node.log().await_line_after(mark, &["reloaded"]);
        for from in [77, 78] {
            let stream = client::from_address(loopback(from), address).unwrap();
            let got = bare
                .over(stream, &acme.host())
                .and_then(|mut stream| stream.get(&acme.host(), "/acme/head"));
            assert_eq!(
                got,
                Err(Refusal::Alert(AlertDescription::CertificateRequired))
            );
        }
        await_served(100);
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.join().expect("no failed request");
        }
    });
}

// ---- configuration ----

#[test]
fn two_endpoints_with_one_name_or_prefix_are_a_mistake() {
    let gateway = Gateway::new();
    let good = gateway.config(ClientAuth::Strict);
    let directory = tempfile::tempdir().unwrap();
    for account in &gateway.accounts {
        let Account { name, server, .. } = account;
        server.write(directory.path(), name);
        let write =
            |name: String, content: &str| fs::write(directory.path().join(name), content).unwrap();
        write(format!("{name}-ca.crt"), account.clients.authority.pem());
        write(format!("{name}.crl"), &account.clients.crl);
    }
    let check = |config: &str| {
        let file = directory.path().join("hnp.toml");
        fs::write(&file, config).unwrap();
        let mut command = node::hnp();
        command.args(["config", "check", "--config"]).arg(file);
        process::run(&mut command, DEADLINE)
    };
    let outcome = check(&good);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    for (from, to, parts) in [
        (
            "\"beta.agent.test\"",
            "\"acme.agent.test\"",
            ["server-name", "acme.agent.test"],
        ),
        (
            "\"beta.agent.test\"",
            "\"ACME.agent.test\"",
            ["server-name", "acme.agent.test"],
        ),
        ("\"/beta\"", "\"/acme\"", ["prefix", "/acme"]),
        ("\"/beta\"", "\"/acme/beta\"", ["prefix", "/acme"]),
        ("\"/beta\"", "\"beta\"", ["prefix", "/"]),
        (
            "\"beta-ca.crt\"",
            "\"nowhere.crt\"",
            ["client-ca", "nowhere.crt"],
        ),
        ("\"beta.key\"", "\"acme.key\"", ["acme.key", "beta.crt"]),
    ] {
        let outcome = check(&good.replace(from, to));
        let said = format!("{}{}", outcome.text(), outcome.stderr);
        assert_eq!(outcome.status.code(), Some(2), "{from} -> {to}: {said}");
        for part in parts {
            assert!(
                said.to_lowercase().contains(part),
                "{from} -> {to}: nothing about {part} in\n{said}"
            );
        }
    }
}
