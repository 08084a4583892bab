//! A parent proxy that is spoken to over TLS, and asks HNP for a certificate: another HNP plays it. What goes through it to the manager is TLS
//! within TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use hnp_tests::Node;
use hnp_tests::exchange::{self, Response};
use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::pki::Shown;

/// A proxy for everything on this machine, that takes pods with a certificate.
fn parent(material: &Material) -> Node {
    material
        .listening(ClientAuth::Strict)
        .config("modes = [\"tunnel\"]\n[[policy.allow]]\ncidrs = [\"127.0.0.0/8\", \"::1/128\"]\n")
        .start()
}

/// A node on the way to a manager through a parent, to which it shows this.
fn node(material: &Material, manager: &Manager, parent: &Node, shown: Shown) -> Node {
    let agent = material.agents.valid();
    let (url, port) = (manager.url(), parent.address().port());
    let node = Node::builder()
        .file("manager-ca.crt", material.manager.pem())
        .file("parent-ca.crt", material.hnp.pem())
        .file("upstream.crt", &agent.certificate)
        .file("upstream.key", &agent.key)
        .config(&format!(
            "[upstream]\nurl = \"{url}\"\nca = \"manager-ca.crt\"\ncertificate = \"upstream.crt\"\nkey = \"upstream.key\"\n"
        ))
        .config(&format!(
            "[upstream.parent]\nurl = \"https://localhost:{port}\"\nca = \"parent-ca.crt\"\n"
        ));
    let node = match material.pods.pair(shown) {
        None => node,
        Some(pair) => node
            .file("parent.crt", &pair.certificate)
            .file("parent.key", &pair.key)
            .config("[upstream.parent]\ncertificate = \"parent.crt\"\nkey = \"parent.key\"\n"),
    };
    node.start()
}

/// Handshakes of the node with upstreams that ended so.
fn handshakes(node: &Node, result: &str) -> f64 {
    let labels = ["side=\"upstream\"", &format!("result=\"{result}\"")];
    let metrics = node.metrics();
    metrics.sum_where("hnp_tls_handshakes_total", &labels)
}

fn get(node: &Node) -> Response {
    exchange::request(
        node.address(),
        "GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
}

#[test]
fn a_request_reaches_the_manager_by_tls_within_tls() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let parent = parent(material);
    for shown in [Shown::Valid, Shown::V1] {
        let node = node(material, &manager, &parent, shown);
        let mark = parent.log().mark();
        let response = get(&node);
        assert_eq!(response.status, 200, "{}\n{}", response.text(), node.log());
        let peer = manager.last_for("/head").peer;
        let agent = material.agents.valid().serial();
        assert_eq!(peer.serial.as_deref(), Some(agent.as_str()));
        // With the parent, and with the manager within.
        assert_eq!(handshakes(&node, "ok"), 2.0);
        drop(node);
        let pod = material.pods.pair(shown).unwrap().name();
        let identity = format!("identity={pod}");
        parent
            .log()
            .await_line_after(mark, &["mode=tunnel", "status=200", &identity]);
    }
}

#[test]
fn a_parent_that_refuses_hnps_certificate_is_named() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let parent = parent(material);
    for shown in [Shown::Nothing, Shown::Stranger] {
        let node = node(material, &manager, &parent, shown);
        let response = get(&node);
        assert_eq!(response.status, 502, "{}", response.text());
        let port = parent.address().port();
        let named = format!("parent proxy localhost:{port}");
        assert!(response.text().contains(&named), "{}", response.text());
    }
    assert!(manager.connections().is_empty());
}
