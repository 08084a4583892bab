//! The way to the target: names, several addresses, a parent proxy, and every failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use hnp_tests::client::{connect, refused};
use hnp_tests::dns::{Answer, NameServer};
use hnp_tests::parent::{Manners, ParentProxy};
use hnp_tests::server::{Silent, expected, receive};
use hnp_tests::{Node, NodeBuilder, Port, Server, exchange, origin};

/// An echo through the proxy, by whatever way.
fn echo_through(node: &Node, target: impl ToString) {
    let mut tunnel = connect(node.address(), target);
    tunnel.stream.write_all(b"ping").unwrap();
    tunnel.stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    tunnel.stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "ping");
}

#[test]
fn localhost_and_ipv6_literals() {
    let node = Node::start();
    let four = Server::echo();
    echo_through(&node, format!("localhost:{}", four.port()));
    let six = Server::on((Ipv6Addr::LOCALHOST, 0).into(), |mut stream| {
        let mut message = [0; 4];
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
        stream.shutdown(Shutdown::Write)
    });
    echo_through(&node, six.address());
}

#[test]
fn a_dead_ipv6_address_does_not_hold_up_a_live_ipv4_one() {
    let echo = Server::echo();
    // Nothing is answered there on the same port, neither yes nor no.
    let _dead = Silent::on(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), echo.port()));
    let dns = NameServer::start().with("dual.test", &["::1", "127.0.0.1"]);
    let node = Node::builder()
        .config(&dns.config())
        .config("timeouts.connect = \"20s\"")
        .start();
    let started = Instant::now();
    echo_through(&node, format!("dual.test:{}", echo.port()));
    let took = started.elapsed();
    // RFC 8305 waits 250 ms before the next address; without it this takes until the timeout.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_refusing_address_is_followed_by_the_next_at_once() {
    let echo = Server::echo();
    let dns = NameServer::start().with("dual.test", &["::1", "127.0.0.1"]);
    let node = Node::builder().config(&dns.config()).start();
    echo_through(&node, format!("dual.test:{}", echo.port()));
    let line = node.log().await_line(&["log=access", "target=dual.test"]);
    assert!(
        line.contains(&format!("address={}", echo.address())),
        "{line}"
    );
}

#[test]
fn answers_are_remembered_for_their_time_to_live() {
    let echo = Server::echo();
    let dns = NameServer::start().with("named.test", &["127.0.0.1"]);
    let node = Node::builder().config(&dns.config()).start();
    let target = format!("named.test:{}", echo.port());
    echo_through(&node, &target);
    let asked = dns.questions();
    assert!(asked >= 1, "the name was not asked for");
    for _ in 0..20 {
        echo_through(&node, &target);
    }
    assert_eq!(dns.questions(), asked);
}

#[test]
fn a_name_server_that_does_not_answer_is_504() {
    let dns = NameServer::start().with_answer("silent.test", Answer::Silence);
    let node = Node::builder()
        .config(&dns.config())
        .config("timeouts.resolve = \"400ms\"")
        .start();
    let started = Instant::now();
    refused(node.address(), "silent.test:443", "").expect_refusal(
        504,
        "dns_timeout",
        &["silent.test", "timeouts.resolve"],
    );
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(300) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[test]
fn a_name_that_cannot_be_resolved_is_502() {
    let dns = NameServer::start()
        .with_answer("broken.test", Answer::Failure)
        .with("empty.test", &[]);
    let node = Node::builder().config(&dns.config()).start();
    for name in ["missing.test", "broken.test", "empty.test"] {
        refused(node.address(), format!("{name}:443"), "").expect_refusal(
            502,
            "dns_error",
            &[name],
        );
    }
}

#[test]
fn a_target_that_refuses_is_502() {
    let node = Node::start();
    let nobody = Port::take();
    let address = nobody.address().to_string();
    refused(node.address(), &address, "").expect_refusal(
        502,
        "connection_refused",
        &[&address, "refused"],
    );
    let forward = format!("GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n");
    exchange::request(node.address(), &forward).expect_refusal(
        502,
        "connection_refused",
        &[&address],
    );
    let line = node
        .log()
        .await_line(&["log=access", "status=502", "mode=tunnel"]);
    assert!(
        line.contains("close_reason=connection_refused") && line.contains(&address),
        "{line}"
    );
}

#[test]
fn a_target_that_does_not_answer_is_504() {
    let node = Node::builder()
        .config("timeouts.connect = \"400ms\"")
        .start();
    let silent = Silent::on(([127, 0, 0, 1], 0).into());
    let address = silent.address().to_string();
    let started = Instant::now();
    refused(node.address(), &address, "").expect_refusal(
        504,
        "connection_timeout",
        &[&address, "timeouts.connect"],
    );
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(300) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

fn with_parent(parent: &ParentProxy, more: &str) -> NodeBuilder {
    Node::builder()
        .config("upstream.url = \"http://manager.test\"")
        .config(&format!(
            "[upstream.parent]\nurl = \"http://{}\"\n{more}",
            parent.server.address()
        ))
}

#[test]
fn a_parent_proxy_carries_tunnels_and_names_are_left_to_it() {
    let seed = 3;
    let source = Server::source(seed, 5_000_000);
    let parent = ParentProxy::start(Manners::Forward(source.address()));
    let node = with_parent(&parent, "").start();
    // Nobody here can resolve this name.
    let tunnel = connect(node.address(), "only-the-parent-knows.test:443");
    assert_eq!(receive(&tunnel.stream), expected(seed, 5_000_000));
    drop(tunnel);
    let head = parent
        .asked_for("only-the-parent-knows.test:443")
        .pop()
        .unwrap();
    let line = "CONNECT only-the-parent-knows.test:443 HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert_eq!(
        exchange::header(&head, "host"),
        Some("only-the-parent-knows.test:443")
    );
    assert_eq!(exchange::header(&head, "proxy-authorization"), None);
    let at = format!("parent={}", parent.server.address());
    node.log()
        .await_line(&["log=access", "target=only-the-parent-knows.test:443", &at]);
}

#[test]
fn a_parent_proxy_carries_plain_requests_too() {
    let origin = origin::plain();
    let parent = ParentProxy::start(Manners::Forward(origin.address()));
    let node = with_parent(&parent, "").start();
    let request =
        "GET http://web.test/head HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";
    let response = exchange::request(node.address(), request);
    assert_eq!(response.status, 200, "{response:?}");
    assert!(
        response.text().starts_with("GET /head HTTP/1.1\r\n"),
        "{}",
        response.text()
    );
    assert_eq!(parent.asked_for("web.test:80").len(), 1);
}

#[test]
fn a_parent_proxy_gets_its_credentials_from_the_url_or_a_file() {
    let echo = Server::echo();
    // user:p@ss
    let basic = "Basic dXNlcjpwQHNz".to_owned();
    let parent = ParentProxy::start(Manners::Authenticate(echo.address(), basic));
    let from_file = with_parent(&parent, "username = \"user\"\npassword-file = \"secret\"\n")
        .file("secret", "p@ss\n")
        .start();
    echo_through(&from_file, "somewhere.test:443");
    let from_url = Node::builder()
        .config("upstream.url = \"http://manager.test\"")
        .config(&format!(
            "upstream.parent.url = \"http://user:p%40ss@{}\"",
            parent.server.address()
        ))
        .start();
    echo_through(&from_url, "somewhere.test:443");
    for line in from_file
        .log()
        .lines()
        .into_iter()
        .chain(from_url.log().lines())
    {
        assert!(!line.contains("p@ss") && !line.contains("p%40ss"), "{line}");
    }
    // Without them it is HNP's configuration that is at fault, not the client: no 407, which the client could not answer.
    let without = with_parent(&parent, "").start();
    let response = refused(without.address(), "somewhere.test:443", "");
    response.expect_refusal(502, "proxy_configuration_error", &["407", "password-file"]);
    assert_eq!(response.header("proxy-authenticate"), None);
}

#[test]
fn the_clients_credentials_are_not_the_parents() {
    let echo = Server::echo();
    let parent = ParentProxy::start(Manners::Forward(echo.address()));
    let node = with_parent(&parent, "").start();
    let fields = "Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==\r\n";
    let (response, _) =
        hnp_tests::client::connect_with(node.address(), "somewhere.test:443", fields, b"").unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(
        exchange::header(
            &parent.asked_for("somewhere.test:443")[0],
            "proxy-authorization"
        ),
        None
    );
}

#[test]
fn targets_of_the_no_proxy_list_are_reached_directly() {
    let echo = Server::echo();
    let parent = ParentProxy::start(Manners::Answer("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    let dns = NameServer::start().with("inner.direct.test", &["127.0.0.1"]);
    let node = with_parent(&parent, "no-proxy = [\"127.0.0.0/8\", \".direct.test\"]\n")
        .config(&dns.config())
        .start();
    echo_through(&node, echo.address());
    echo_through(&node, format!("inner.direct.test:{}", echo.port()));
    let direct = echo.address().to_string();
    assert!(parent.asked_for(&direct).is_empty());
    assert_eq!(
        refused(node.address(), "elsewhere.test:443", "").status,
        502
    );
    assert_eq!(parent.asked_for("elsewhere.test:443").len(), 1);
}

#[test]
fn policy_is_asked_before_the_parent() {
    let parent = ParentProxy::start(Manners::Answer("HTTP/1.1 200 OK\r\n\r\n"));
    let node = with_parent(&parent, "").start();
    refused(node.address(), "evil.example:443", "").expect_refusal(
        403,
        "http_request_denied",
        &["evil.example"],
    );
    refused(node.address(), "169.254.169.254:80", "").expect_refusal(
        403,
        "destination_ip_prohibited",
        &["169.254.169.254"],
    );
    for target in ["evil.example:443", "169.254.169.254:80"] {
        assert!(parent.asked_for(target).is_empty(), "{target}");
    }
}

#[test]
fn failures_of_the_parent_say_whose_they_are() {
    for (answer, status, error) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            403,
            "http_request_denied",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            502,
            "destination_unavailable",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            503,
            "destination_unavailable",
        ),
        (
            "HTTP/1.1 504 Gateway Timeout\r\n\r\n",
            504,
            "connection_timeout",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, "http_protocol_error"),
        ("", 502, "http_response_incomplete"),
    ] {
        let parent = ParentProxy::start(Manners::Answer(answer));
        let node = with_parent(&parent, "").start();
        let response = refused(node.address(), "somewhere.test:443", "");
        response.expect_refusal(status, error, &["somewhere.test:443", "parent proxy"]);
    }

    let nobody = Port::take();
    let node = Node::builder()
        .config("upstream.url = \"http://manager.test\"")
        .config(&format!(
            "upstream.parent.url = \"http://{}\"",
            nobody.address()
        ))
        .start();
    let parts = ["parent proxy", &nobody.address().to_string()];
    refused(node.address(), "somewhere.test:443", "").expect_refusal(
        502,
        "connection_refused",
        &parts,
    );
}

#[test]
fn what_the_target_sends_with_the_parents_answer_is_kept() {
    // One segment: the answer to CONNECT and the first words of the target behind it.
    let parent = ParentProxy::start(Manners::Answer(
        "HTTP/1.1 200 OK\r\nX-Parent: yes\r\n\r\nwelcome",
    ));
    let node = with_parent(&parent, "").start();
    let mut tunnel = connect(node.address(), "somewhere.test:25");
    let mut words = String::new();
    tunnel.stream.read_to_string(&mut words).unwrap();
    assert_eq!(words, "welcome");
}
