//! The modes over TLS against everything that a client may show, LOOSE and STRICT: who is served, who is refused, and how each side
//! and the operator learn of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::net::{SocketAddr, TcpStream};

use hnp_tests::exchange::Response;
use hnp_tests::manager::nginx::Line;
use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::pki::{Pair, Shown};
use hnp_tests::tls::{Refusal, Secured, Tls, Versions};
use hnp_tests::{Node, exchange, origin, wait};
use rustls::AlertDescription;

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    /// Refused by this alert; the log line says this.
    Refused(AlertDescription, &'static str),
}

/// The matrix.
fn fate(shown: Shown, auth: ClientAuth) -> Fate {
    match (shown, auth) {
        (Shown::Valid | Shown::V1, _) | (Shown::Nothing, ClientAuth::Loose) => Fate::Served,
        (Shown::Nothing, _) => {
            Fate::Refused(AlertDescription::CertificateRequired, "no certificate")
        }
        (Shown::Expired, _) => Fate::Refused(AlertDescription::CertificateExpired, "expired"),
        (Shown::Revoked, _) => Fate::Refused(AlertDescription::CertificateRevoked, "revoked"),
        // Whatever name its issuer goes by.
        (Shown::Stranger | Shown::Impostor, _) => {
            Fate::Refused(AlertDescription::UnknownCA, "client-ca")
        }
    }
}

/// The ways through HNP over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    EndToEnd,
    ReverseProxy,
    Tunnel,
    Absolute,
}

impl Way {
    fn modes(self) -> &'static str {
        match self {
            Way::EndToEnd => "modes = [\"end-to-end-mtls\"]",
            Way::ReverseProxy => "modes = [\"reverse-proxy\"]",
            Way::Tunnel | Way::Absolute => "modes = [\"tunnel\"]",
        }
    }

    /// As the log line names it.
    fn mode(self) -> &'static str {
        match self {
            Way::EndToEnd => "mode=end-to-end-mtls",
            Way::ReverseProxy => "mode=reverse-proxy",
            Way::Tunnel => "mode=tunnel",
            Way::Absolute => "mode=forward",
        }
    }
}

/// A node for one way, with what is behind it.
struct Scene {
    way: Way,
    node: Node,
    manager: Manager,
    plain: hnp_tests::Server,
}

/// A client's end of it.
struct Visit {
    client: Option<SocketAddr>,
    outcome: Result<Response, Refusal>,
}

impl Scene {
    fn new(way: Way, auth: ClientAuth) -> Scene {
        let material = Material::shared();
        let manager = material.manager(ClientAuth::Strict);
        let node = material
            .node(auth, &manager.url(), Shown::Valid)
            .config(way.modes())
            .start();
        Scene {
            way,
            node,
            manager,
            plain: origin::plain(),
        }
    }

    fn visit(&self, shown: Shown, versions: Versions) -> Visit {
        let pod = Material::shared().pod(shown, versions);
        match pod.connect(self.node.address(), "localhost") {
            Ok(stream) => Visit {
                client: stream.inner().local_addr().ok(),
                outcome: self.ask(stream),
            },
            Err(refusal) => Visit {
                client: None,
                outcome: Err(refusal),
            },
        }
    }

    fn ask(&self, mut stream: Secured<TcpStream>) -> Result<Response, Refusal> {
        match self.way {
            Way::EndToEnd | Way::ReverseProxy => stream.get("localhost", "/head?q=1"),
            Way::Absolute => {
                let host = self.plain.address();
                stream.ask(&format!(
                    "GET http://{host}/head?q=1 HTTP/1.1\r\nHost: {host}\r\n\r\n"
                ))
            }
            Way::Tunnel => {
                let target = format!("localhost:{}", self.manager.address().port());
                let (response, stream) = stream.tunnel(&target)?;
                assert_eq!(response.status, 200, "{response:?}");
                // Another certificate inside than outside.
                Material::shared()
                    .agent(Shown::V1, Versions::Both)
                    .over(stream, "localhost")?
                    .get("localhost", "/head?q=1")
            }
        }
    }

    /// The certificate that the manager has to see.
    fn seen_by_manager(&self) -> Option<Pair> {
        let agents = &Material::shared().agents;
        match self.way {
            Way::EndToEnd | Way::ReverseProxy => agents.pair(Shown::Valid).cloned(),
            Way::Tunnel => agents.pair(Shown::V1).cloned(),
            Way::Absolute => None,
        }
    }
}

fn the_matrix_of(way: Way) {
    for auth in ClientAuth::BOTH {
        let scene = Scene::new(way, auth);
        let mut refused = 0;
        for versions in [Versions::Tls12, Versions::Tls13] {
            for shown in Shown::ALL {
                let context = format!("{way:?} {auth:?} {versions:?} {shown:?}");
                let mark = scene.node.log().mark();
                let before = scene.manager.requests().len();
                let visit = scene.visit(shown, versions);
                match fate(shown, auth) {
                    Fate::Served => {
                        let response = visit
                            .outcome
                            .unwrap_or_else(|e| panic!("{context}: {e:?}\n{}", scene.node.log()));
                        assert_eq!(response.status, 200, "{context}: {}", response.text());
                        if let Some(pair) = scene.seen_by_manager() {
                            let request = scene.manager.last_for("/head?q=1");
                            assert_eq!(request.peer.serial, Some(pair.serial()), "{context}");
                            assert_eq!(scene.manager.requests().len(), before + 1, "{context}");
                        }
                        let client = format!("client={}", visit.client.unwrap());
                        let line = scene.node.log().await_line_after(mark, &[&client]);
                        assert!(line.contains(way.mode()), "{context}: {line}");
                        let name = Material::shared().pods.pair(shown).map(Pair::name);
                        match name {
                            Some(name) => assert!(
                                line.contains(&format!("identity={name}")),
                                "{context}: {line}"
                            ),
                            None => assert!(!line.contains("identity="), "{context}: {line}"),
                        }
                    }
                    Fate::Refused(alert, why) => {
                        refused += 1;
                        assert_eq!(
                            visit.outcome,
                            Err(Refusal::Alert(alert)),
                            "{context}\n{}",
                            scene.node.log()
                        );
                        let parts = ["log=access", "close_reason=tls_failed", why];
                        let line = scene.node.log().await_line_after(mark, &parts);
                        assert!(line.contains("closed_by=hnp"), "{context}: {line}");
                        assert!(!line.contains("identity="), "{context}: {line}");
                        assert_eq!(scene.manager.requests().len(), before, "{context}");
                    }
                }
            }
        }
        await_closes(&scene.node, "tls_failed", refused);
        await_results(&scene.node, auth);
    }
}

/// Waits until so many connections have been closed for this reason, and no more.
fn await_closes(node: &Node, reason: &str, count: u32) {
    let label = format!("reason=\"{reason}\"");
    node.await_metrics(&label, |metrics| {
        match metrics.sum_where("hnp_closes_total", &[&label]) {
            n if n == f64::from(count) => Ok(()),
            n => Err(format!("{n} of {count}")),
        }
    });
}

/// Each reason is counted: once for each version of TLS, and a stranger is one whose authority's name is another's, too.
fn await_results(node: &Node, auth: ClientAuth) {
    let nothing = f64::from(u8::from(auth == ClientAuth::Strict));
    for (result, count) in [
        ("ok", 3.0 - nothing),
        ("no_certificate", nothing),
        ("expired", 1.0),
        ("revoked", 1.0),
        ("unknown_ca", 2.0),
    ] {
        let label = format!("result=\"{result}\"");
        let labels = ["side=\"client\"", &label];
        node.await_metrics(&label, |metrics| {
            match metrics.sum_where("hnp_tls_handshakes_total", &labels) {
                n if n == 2.0 * count => Ok(()),
                n => Err(format!("{n} of {}", 2.0 * count)),
            }
        });
    }
}

#[test]
fn end_to_end_mtls() {
    the_matrix_of(Way::EndToEnd);
}

#[test]
fn reverse_proxy_over_tls() {
    the_matrix_of(Way::ReverseProxy);
}

#[test]
fn tunnel_over_tls() {
    the_matrix_of(Way::Tunnel);
}

#[test]
fn absolute_form_over_tls() {
    the_matrix_of(Way::Absolute);
}

// ---- the other side: what HNP shows the manager ----

/// How a client of the two seed modes that put HNP's certificate before the manager asks.
#[derive(Debug, Clone, Copy)]
enum Side {
    Plain,
    Mutual,
}

fn ask_for_the_manager(node: &Node, side: Side, path: &str) -> Response {
    match side {
        Side::Plain => exchange::request(
            node.address(),
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ),
        Side::Mutual => Material::shared()
            .pod(Shown::Valid, Versions::Both)
            .get(node.address(), "localhost", path)
            .unwrap(),
    }
}

const BOTH_SEEDS: &str = "modes = [\"reverse-proxy\", \"end-to-end-mtls\"]";

#[test]
fn what_hnp_shows_is_judged_by_the_manager() {
    let material = Material::shared();
    for auth in ClientAuth::BOTH {
        let manager = material.manager(auth);
        for shows in Shown::ALL {
            let node = material
                .node(ClientAuth::Loose, &manager.url(), shows)
                .config(BOTH_SEEDS)
                .start();
            for side in [Side::Plain, Side::Mutual] {
                let context = format!("{auth:?} {shows:?} {side:?}");
                let response = ask_for_the_manager(&node, side, "/head");
                match fate(shows, auth) {
                    Fate::Served => {
                        assert_eq!(response.status, 200, "{context}: {}", response.text());
                        let peer = manager.last_for("/head").peer;
                        let pair = material.agents.pair(shows);
                        assert_eq!(peer.serial, pair.map(Pair::serial), "{context}");
                        assert_eq!(peer.server_name.as_deref(), Some("localhost"), "{context}");
                    }
                    Fate::Refused(..) => {
                        response.expect_refusal(502, "tls_alert_received", &["upstream"]);
                    }
                }
            }
        }
    }
}

#[test]
fn what_hnp_shows_is_judged_by_nginx() {
    let material = Material::shared();
    for auth in ClientAuth::BOTH {
        let nginx = material.nginx(auth);
        for shows in Shown::ALL {
            let node = material
                .node(ClientAuth::Strict, &nginx.url(), shows)
                .config(BOTH_SEEDS)
                .start();
            for side in [Side::Plain, Side::Mutual] {
                let context = format!("{auth:?} {shows:?} {side:?}");
                let response = ask_for_the_manager(&node, side, "/some/path?and=query");
                match (shows, auth) {
                    (Shown::Valid | Shown::V1, _) => {
                        let line = Line::parse(&response.text());
                        assert_eq!(line.verify, "SUCCESS", "{context}");
                        let serial = material.agents.pair(shows).unwrap().serial();
                        assert_eq!(line.serial, serial, "{context}");
                        assert_eq!(line.target, "/some/path?and=query", "{context}");
                        assert_eq!(
                            line.host,
                            format!("localhost:{}", nginx.address().port()),
                            "{context}"
                        );
                    }
                    (Shown::Nothing, ClientAuth::Loose) => {
                        assert_eq!(Line::parse(&response.text()).verify, "NONE", "{context}");
                    }
                    // nginx refuses in HTTP what it does not like in TLS, and HNP hands that on.
                    _ => {
                        assert_eq!(response.status, 400, "{context}: {}", response.text());
                        assert!(response.text().contains("nginx"), "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_pod_shows_nginx_its_own_certificate_through_a_tunnel_over_tls() {
    let material = Material::shared();
    let nginx = material.nginx(ClientAuth::Strict);
    let node = material.listening(ClientAuth::Strict).start();
    let target = format!("localhost:{}", nginx.address().port());
    for shown in [Shown::Valid, Shown::V1] {
        let (response, stream) = material
            .pod(Shown::Valid, Versions::Both)
            .connect(node.address(), "localhost")
            .unwrap()
            .tunnel(&target)
            .unwrap();
        assert_eq!(response.status, 200, "{response:?}");
        let mut inner = material
            .agent(shown, Versions::Both)
            .over(stream, "localhost")
            .unwrap();
        let line = Line::parse(&inner.get("localhost", "/").unwrap().text());
        assert_eq!(line.serial, material.agents.pair(shown).unwrap().serial());
    }
}

#[test]
fn a_manager_whose_certificate_does_not_verify_is_refused_by_hnp() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    // Another authority's, and another name than the certificate's.
    for (config, error) in [
        ("[upstream]\nca = \"pods-ca.crt\"", "tls_certificate_error"),
        (
            "[upstream]\nserver-name = \"manager.test\"",
            "tls_certificate_error",
        ),
    ] {
        let node = material
            .node(ClientAuth::Loose, &manager.url(), Shown::Valid)
            .config(BOTH_SEEDS)
            .config(config)
            .start();
        for side in [Side::Plain, Side::Mutual] {
            ask_for_the_manager(&node, side, "/head").expect_refusal(502, error, &["certificate"]);
        }
    }
    wait::until("the manager's side of it", || match manager.refused() {
        refused if refused.len() >= 4 => Ok(()),
        refused => Err(format!("{refused:?}")),
    });
    assert!(manager.requests().is_empty(), "{:?}", manager.requests());
}

#[test]
fn tls_1_3_alone_is_kept_to_on_both_sides() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let node = material
        .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
        .config(BOTH_SEEDS)
        .config("listener.tls.min-version = \"1.3\"\nupstream.min-version = \"1.3\"")
        .start();
    let ask = |versions| {
        material
            .pod(Shown::Valid, versions)
            .get(node.address(), "localhost", "/head")
    };
    assert_eq!(ask(Versions::Tls13).unwrap().status, 200);
    assert_eq!(
        ask(Versions::Tls12),
        Err(Refusal::Alert(AlertDescription::ProtocolVersion))
    );
    let version = manager.last_for("/head").peer.version;
    assert_eq!(version.as_deref(), Some("TLSv1_3"));
}

#[test]
fn with_client_auth_off_nobody_is_asked() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let node = material
        .node(ClientAuth::Off, &manager.url(), Shown::Valid)
        .config("modes = [\"reverse-proxy\"]")
        .start();
    // Whoever has a certificate keeps it to itself: it is not asked for, so that even a bad one does no harm.
    for shown in Shown::ALL {
        let tls: Tls = material.pod(shown, Versions::Both);
        let response = tls.get(node.address(), "localhost", "/head").unwrap();
        assert_eq!(response.status, 200, "{shown:?}");
    }
    assert!(
        !node
            .log()
            .lines()
            .iter()
            .any(|line| line.contains("identity=")),
        "{}",
        node.log()
    );
}
