//! Who may reach what, and what the others are told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use hnp_tests::client::{connect, connect_with, from_address, refused, try_connect};
use hnp_tests::dns::{Answer, NameServer};
use hnp_tests::node::loopback;
use hnp_tests::{Node, NodeBuilder, Port, Server, exchange, origin, wait};

/// A node whose only rules are these.
fn with_rules(rules: &str) -> NodeBuilder {
    Node::builder().config("[policy]\nallow = []").config(rules)
}

/// Checks that both ways of asking for a target are refused alike.
fn expect_refusal(node: &Node, target: &str, error: &str, parts: &[&str]) {
    refused(node.address(), target, "").expect_refusal(403, error, parts);
    let forward = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
    exchange::request(node.address(), &forward).expect_refusal(403, error, parts);
}

#[test]
fn nothing_configured_means_nothing_can_be_reached() {
    let node = with_rules("").start();
    let echo = Server::echo();
    expect_refusal(
        &node,
        &echo.address().to_string(),
        "destination_ip_prohibited",
        &[&echo.address().to_string(), "loopback"],
    );
    expect_refusal(
        &node,
        "app.example.com:443",
        "http_request_denied",
        &["app.example.com:443"],
    );
    assert_eq!(echo.accepted(), 0);
}

#[test]
fn the_upstream_alone_can_be_reached_with_no_rule() {
    let echo = Server::echo();
    let other = Server::echo();
    let node = with_rules(&format!("[upstream]\nurl = \"http://{}\"", echo.address())).start();
    drop(connect(node.address(), echo.address()));
    expect_refusal(
        &node,
        &other.address().to_string(),
        "destination_ip_prohibited",
        &[],
    );
    assert_eq!(other.accepted(), 0);
}

#[test]
fn names_and_ports() {
    let echo = Server::echo();
    let port = echo.port();
    let dns = NameServer::start()
        .with("one.good.test", &["127.0.0.1"])
        .with("good.test", &["127.0.0.1"])
        .with("bad.test", &["127.0.0.1"])
        .with("no.good.test", &["127.0.0.1"]);
    let node = with_rules(&format!(
        "[[policy.allow]]\nhosts = [\"*.good.test\"]\nports = [{port}]\n\
         [[policy.allow]]\ncidrs = [\"127.0.0.0/8\"]\nports = [1]\n\
         [[policy.deny]]\nhosts = [\"no.good.test\"]\n"
    ))
    .config(&dns.config())
    .start();
    // The name is allowed, its address is not: a private address wants to be named.
    let inside = refused(node.address(), format!("one.good.test:{port}"), "");
    inside.expect_refusal(
        403,
        "destination_ip_prohibited",
        &["one.good.test", "127.0.0.1", "loopback"],
    );

    for (target, parts) in [
        (format!("good.test:{port}"), vec!["good.test"]),
        (format!("bad.test:{port}"), vec!["bad.test"]),
        (format!("no.good.test:{port}"), vec!["no.good.test", "deny"]),
        (
            "one.good.test:2".to_owned(),
            vec!["one.good.test:2", "port"],
        ),
    ] {
        expect_refusal(&node, &target, "http_request_denied", &parts);
    }
    assert_eq!(echo.accepted(), 0);

    let node = with_rules(&format!(
        "[[policy.allow]]\nhosts = [\"*.good.test\"]\ncidrs = [\"127.0.0.0/8\"]\nports = [{port}]\n"
    ))
    .config(&dns.config())
    .start();
    drop(connect(node.address(), format!("one.good.test:{port}")));
    drop(connect(node.address(), format!("ONE.Good.Test.:{port}")));
}

#[test]
fn a_name_does_not_lead_to_an_address_that_is_not_allowed() {
    let echo = Server::echo();
    let addresses = [
        ("loopback.test", "127.0.0.1"),
        ("loopback6.test", "::1"),
        ("private.test", "10.1.2.3"),
        ("private2.test", "192.168.1.1"),
        ("private3.test", "172.16.0.1"),
        ("metadata.test", "169.254.169.254"),
        ("alibaba.test", "100.100.100.200"),
        ("carrier.test", "100.64.0.1"),
        ("local.test", "fe80::1"),
        ("unique.test", "fd00::1"),
        ("this.test", "0.0.0.0"),
        ("mapped.test", "::ffff:127.0.0.1"),
        ("translated.test", "64:ff9b::7f00:1"),
        ("sixtofour.test", "2002:7f00:1::"),
    ];
    let mut dns = NameServer::start();
    for (name, address) in addresses {
        dns = dns.with(name, &[address]);
    }
    let node = with_rules("[[policy.allow]]\nhosts = [\"*.test\"]")
        .config(&dns.config())
        .start();
    for (name, _) in addresses {
        let target = format!("{name}:{}", echo.port());
        expect_refusal(&node, &target, "destination_ip_prohibited", &[&target]);
    }
    assert_eq!(echo.accepted(), 0);
    let denied = node
        .metrics()
        .sum_where("hnp_decisions_total", &["decision=\"deny\""]);
    assert_eq!(denied, 2.0 * addresses.len() as f64);
}

#[test]
fn literal_addresses_in_every_spelling() {
    let echo = Server::echo();
    let port = echo.port();
    let node = with_rules("[[policy.allow]]\nhosts = [\"*\"]").start();
    let spellings = [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[::127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ];
    for host in spellings {
        let response = refused(node.address(), format!("{host}:{port}"), "");
        response.expect_refusal(403, "destination_ip_prohibited", &[]);
    }
    // What some programs read as an address and others as a name is neither here.
    for host in [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
    ] {
        let response = refused(node.address(), format!("{host}:{port}"), "");
        assert!(matches!(response.status, 400 | 403), "{host}: {response:?}");
    }
    assert_eq!(echo.accepted(), 0);
}

#[test]
fn only_those_addresses_of_a_name_are_dialled_that_are_allowed() {
    // The same port on two addresses of this machine.
    let (allowed, place) = (loopback(2), Port::take());
    let port = place.number();
    let forbidden = Server::on(SocketAddr::new(loopback(1), port), |_| Ok(()));
    let echo = Server::on(SocketAddr::new(allowed, port), |mut stream| {
        stream.write_all(b"allowed")
    });
    let dns = NameServer::start().with("both.test", &["127.0.0.1", "127.0.0.2"]);
    dns.set("turning.test", Answer::Addresses(vec![allowed], 0));
    let node = with_rules("[[policy.allow]]\nhosts = [\"*.test\"]\ncidrs = [\"127.0.0.2/32\"]")
        .config(&dns.config())
        .config("dns.min-ttl = \"0s\"")
        .start();

    let greeting = |name: &str| {
        let mut text = String::new();
        let mut tunnel = connect(node.address(), format!("{name}:{port}"));
        tunnel.stream.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(greeting("both.test"), "allowed");
    assert_eq!(greeting("turning.test"), "allowed");
    // The name turns to another address: what was allowed a moment ago says nothing about it.
    dns.set("turning.test", Answer::Addresses(vec![loopback(1)], 0));
    refused(node.address(), format!("turning.test:{port}"), "").expect_refusal(
        403,
        "destination_ip_prohibited",
        &["127.0.0.1"],
    );
    assert_eq!((forbidden.accepted(), echo.accepted()), (0, 2));
}

#[test]
fn mode_report_lets_pass_and_says_so() {
    let echo = Server::echo();
    let node = with_rules("policy.mode = \"report\"").start();
    drop(connect(node.address(), echo.address()));
    let target = format!("target={}", echo.address());
    node.log().await_line(&[
        "log=access",
        &target,
        "decision=report",
        "reason=loopback_address",
    ]);
    let reported = node
        .metrics()
        .sum_where("hnp_decisions_total", &["decision=\"report\""]);
    assert_eq!(reported, 1.0);
}

const PASSWORD: &str = "correct horse: battery";
const WRONG: &str = "incorrect horse";

/// `user:hash` lines: alice with bcrypt, bob with argon2.
fn htpasswd() -> String {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let salt = SaltString::from_b64("c2FsdHNhbHRzYWx0").unwrap();
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let bob = argon.hash_password(PASSWORD.as_bytes(), &salt).unwrap();
    let alice = bcrypt::hash(PASSWORD, 4).unwrap();
    format!("# who may\nalice:{alice}\nbob:{bob}\n")
}

fn credentials(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Proxy-Authorization: Basic {text}\r\n")
}

fn with_users(rules: &str) -> Node {
    Node::builder()
        .file("users", &htpasswd())
        .config("[auth]\nhtpasswd = \"users\"\nrealm = \"the test\"")
        .config(rules)
        .start()
}

#[test]
fn credentials_are_asked_for_and_checked() {
    let node = with_users("");
    let echo = Server::echo();
    let target = echo.address();
    for (what, fields) in [
        ("none", String::new()),
        ("a wrong password", credentials("alice", WRONG)),
        ("an unknown user", credentials("eve", PASSWORD)),
        (
            "another scheme",
            "Proxy-Authorization: Bearer abc\r\n".to_owned(),
        ),
        ("no base64", "Proxy-Authorization: Basic !!!\r\n".to_owned()),
        (
            "no colon",
            "Proxy-Authorization: Basic YWxpY2U=\r\n".to_owned(),
        ),
        (
            "the origin's field",
            credentials("alice", PASSWORD).replace("Proxy-", ""),
        ),
    ] {
        let response = refused(node.address(), target, &fields);
        assert_eq!(response.status, 407, "{what}: {response:?}");
        let challenge = response.header("proxy-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Basic realm=\"the test\""),
            "{what}: {challenge}"
        );
        assert!(
            response
                .header("proxy-status")
                .unwrap()
                .starts_with("hnp; error="),
            "{what}"
        );
        assert_eq!(response.text().lines().count(), 1, "{what}");
    }
    assert_eq!(echo.accepted(), 0);

    // The second time the answer is remembered, which must not change it.
    for user in ["alice", "bob", "alice", "bob"] {
        let (response, _) =
            connect_with(node.address(), target, &credentials(user, PASSWORD), b"").unwrap();
        assert_eq!(response.status, 200, "{user}");
        let (response, _) =
            connect_with(node.address(), target, &credentials(user, WRONG), b"").unwrap();
        assert_eq!(response.status, 407, "{user}");
    }
    node.log()
        .await_line(&["log=access", "identity=alice", "status=200"]);
    node.log()
        .await_line(&["log=access", "identity=bob", "status=200"]);
    for line in node.log().lines() {
        for secret in [
            PASSWORD,
            WRONG,
            "$2",
            "argon2",
            &credentials("alice", PASSWORD)[27..40],
        ] {
            assert!(!line.contains(secret), "{secret} in: {line}");
        }
    }
}

#[test]
fn credentials_for_the_proxy_do_not_reach_the_origin() {
    let node = with_users("");
    let origin = origin::plain();
    let address = origin.address();
    let fields = credentials("alice", PASSWORD);
    let request = format!(
        "GET http://{address}/head HTTP/1.1\r\nHost: {address}\r\n{fields}Authorization: Basic b3JpZ2lu\r\nConnection: close\r\n\r\n"
    );
    let response = exchange::request(node.address(), &request);
    assert_eq!(response.status, 200, "{response:?}");
    let seen = response.text();
    assert!(
        !seen.to_lowercase().contains("proxy-authorization"),
        "{seen}"
    );
    assert!(seen.contains("Authorization: Basic b3JpZ2lu"), "{seen}");
    // Each request on a connection has to bring them: 407, then with credentials on a new one.
    let without = format!("GET http://{address}/head HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert_eq!(exchange::request(node.address(), &without).status, 407);
}

#[test]
fn each_identity_has_its_own_targets() {
    let (for_alice, for_all) = (Server::echo(), Server::echo());
    let node = with_users(&format!(
        "[policy]\nallow = [\
           {{ cidrs = [\"127.0.0.1/32\"], ports = [{}], identities = [\"alice\"] }},\
           {{ cidrs = [\"127.0.0.1/32\"], ports = [{}] }}]",
        for_alice.port(),
        for_all.port()
    ));
    let status = |user: &str, target: SocketAddr| {
        let (response, _) =
            connect_with(node.address(), target, &credentials(user, PASSWORD), b"").unwrap();
        response.status
    };
    assert_eq!(status("alice", for_alice.address()), 200);
    assert_eq!(status("alice", for_all.address()), 200);
    assert_eq!(status("bob", for_all.address()), 200);
    assert_eq!(status("bob", for_alice.address()), 403);
    let line = node
        .log()
        .await_line(&["log=access", "identity=bob", "status=403"]);
    assert!(line.contains("decision=deny"), "{line}");
    assert_eq!(for_alice.accepted(), 1);
}

#[test]
fn connections_at_once_are_limited_and_places_are_given_back() {
    let echo = Server::echo();
    let node = Node::builder().config("limits.connections = 3").start();
    let mut open: Vec<_> = (0..3)
        .map(|_| connect(node.address(), echo.address()))
        .collect();
    let full = exchange::read_response(&mut TcpStream::connect(node.address()).unwrap()).unwrap();
    full.expect_refusal(503, "connection_limit_reached", &["limits.connections"]);
    assert!(full.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    open.pop();
    // The place is free as soon as the tunnel is gone.
    wait::until("a place to be free", || {
        match try_connect(node.address(), echo.address()) {
            Ok((response, _)) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn connections_of_one_client_are_limited_without_hurting_others() {
    let echo = Server::echo();
    let node = Node::builder()
        .config("limits.connections-per-client = 2")
        .start();
    let from = |client: IpAddr| {
        let mut stream = from_address(client, node.address()).unwrap();
        // A client over its limit is answered before it has asked, and may find the connection closed.
        let target = echo.address();
        let _ = write!(
            stream,
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        );
        let response = exchange::read_response_head(&mut stream).unwrap();
        (response, stream)
    };
    let (greedy, modest) = (loopback(7), loopback(8));
    let kept: Vec<_> = (0..2).map(|_| from(greedy)).collect();
    assert!(kept.iter().all(|(response, _)| response.status == 200));
    let mut refused = from_address(greedy, node.address()).unwrap();
    let refused = exchange::read_response(&mut refused).unwrap();
    refused.expect_refusal(
        429,
        "connection_limit_reached",
        &["limits.connections-per-client"],
    );
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    let (response, _open) = from(modest);
    assert_eq!(response.status, 200);
    node.await_metrics("three tunnels", |metrics| {
        match metrics.require("hnp_tunnels_active") {
            3.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    });
}

#[test]
fn new_connections_each_second_are_limited() {
    for (limit, status) in [
        ("connections-per-second", 503),
        ("connections-per-second-per-client", 429),
    ] {
        let echo = Server::echo();
        let node = Node::builder()
            .config(&format!("limits.{limit} = 5"))
            .start();
        // Many more than a burst may be: they cannot all come within a second on any machine, nor all be let in.
        let mut refusals = 0;
        for _ in 0..40 {
            let mut stream = TcpStream::connect(node.address()).unwrap();
            let target = echo.address();
            let _ = write!(
                stream,
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            );
            let response = exchange::read_response_head(&mut stream).unwrap();
            if response.status == status {
                refusals += 1;
                assert!(
                    response
                        .header("retry-after")
                        .unwrap()
                        .parse::<u32>()
                        .unwrap()
                        >= 1
                );
            } else {
                assert_eq!(response.status, 200, "{response:?}");
            }
        }
        assert!(
            (10..=35).contains(&refusals),
            "{limit}: {refusals} of 40 refused"
        );
    }
}
