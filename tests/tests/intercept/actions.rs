//! What each action does with real bytes.

use std::io::{Read, Write};
use std::net::Shutdown;

use hnp_tests::manager::{ClientAuth, Manager, Setup};
use hnp_tests::parent::{Manners, ParentProxy};
use hnp_tests::pki::authority::Authority;
use hnp_tests::pod::{Namespace, ip};
use hnp_tests::{Node, Server, origin};

use crate::fixture::{FAR, Intercepting};

#[test]
fn plaintext_requests_reach_the_manager_with_a_client_certificate() {
    let ca = Authority::new("CA");
    let (server, client) = (ca.server(&["localhost"]), ca.client("pod runner"));
    let manager = Manager::start(&Setup {
        server: &server,
        clients: &[&ca],
        auth: ClientAuth::Strict,
        crl: None,
        protocols: &["http/1.1"],
    });
    let config = format!(
        r#"
        [upstream]
        url = "{}"
        ca = "ca.crt"
        certificate = "client.crt"
        key = "client.key"
        [[intercept.rules]]
        cidrs = ["203.0.113.0/24"]
        action = "mtls"
        "#,
        manager.url()
    );
    let it = Intercepting::unattached("mtls", |node: hnp_tests::NodeBuilder| {
        node.config(&config)
            .file("ca.crt", ca.pem())
            .file("client.crt", &client.certificate)
            .file("client.key", &client.key)
    });
    it.attach().success();
    // Nobody is there, and nothing is set in the pod.
    let url = "http://203.0.113.99:8080/head";
    it.curl(&["--fail", url, "--next", "--fail", url]).success();
    let request = manager.last_for("/head");
    assert_eq!(request.peer.name.as_deref(), Some("pod runner"));
    assert_eq!(request.header("x-forwarded-for"), Some("10.77.0.2"));
    let http2 = "http://203.0.113.99:8080/events/3";
    it.curl(&["--fail", "--http2-prior-knowledge", http2])
        .success();
    assert_eq!(
        manager.last_for("/events/3").peer.name.as_deref(),
        Some("pod runner")
    );
    let line = it.line("203.0.113.99:8080".parse().unwrap());
    for part in [
        "mode=intercept",
        "action=mtls",
        "method=GET",
        "path=/head",
        "status=200",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    // What is no plaintext HTTP is refused, and the log says why.
    let tls = it.curl(&["https://203.0.113.99:8443/"]);
    assert!(!tls.status.success());
    let line = it.line("203.0.113.99:8443".parse().unwrap());
    assert!(
        line.contains("close_reason=not_http") && line.contains("begins with TLS"),
        "{line}"
    );
    assert_eq!(
        it.ends_by_after("203.0.113.99:9", "SSH-2.0-x\\r\\n"),
        "ConnectionResetError"
    );
}

#[test]
fn a_tunnel_goes_through_the_parent_by_name_or_address() {
    let origin = origin::plain();
    let parent = ParentProxy::start(Manners::Forward(origin.address()));
    let config = format!(
        r#"
        [upstream]
        url = "https://manager.test"
        [upstream.parent]
        url = "http://{}"
        [[policy.allow]]
        hosts = ["a.test"]
        cidrs = ["203.0.113.99/32"]
        [[intercept.rules]]
        hosts = ["a.test"]
        action = "tunnel"
        [[intercept.rules]]
        cidrs = ["203.0.113.0/24"]
        action = "tunnel"
        "#,
        parent.server.address()
    );
    let it = Intercepting::start("tunnel", &config);
    it.curl(&["--fail", "http://203.0.113.99:8080/bytes/1/10"])
        .success();
    assert_eq!(parent.asked_for("203.0.113.99:8080").len(), 1);
    let named = [
        "--fail",
        "--header",
        "Host: a.test",
        "http://203.0.113.99:8081/bytes/1/10",
    ];
    it.curl(&named).success();
    assert_eq!(parent.asked_for("a.test:8081").len(), 1);
    let line = it.line("203.0.113.99:8081".parse().unwrap());
    assert!(
        line.contains("name=a.test rule=1 action=tunnel") && line.contains("parent="),
        "{line}"
    );
    // HNP lends no reach: what policy does not allow does not go through the parent either.
    let other = it.curl(&["http://203.0.113.98:8081/"]);
    assert!(!other.status.success());
    it.node
        .log()
        .await_line(&["original=203.0.113.98:8081", "reason=special_address"]);
    assert_eq!(parent.asked_for("203.0.113.98:8081").len(), 0);
}

#[test]
fn denied_and_direct_connections_never_reach_hnp() {
    let rules = r#"
        [[intercept.rules]]
        cidrs = ["203.0.113.7/32"]
        action = "direct"
        [[intercept.rules]]
        cidrs = ["203.0.113.0/24"]
        action = "deny"
    "#;
    let it = Intercepting::start("kernel", rules);
    let server = it.serve(FAR, |mut stream| {
        let mut asked = String::new();
        stream.read_to_string(&mut asked)?;
        stream.write_all(b"answer")?;
        stream.shutdown(Shutdown::Write)
    });
    assert_eq!(it.exchange(server.address(), "hello"), "answer");
    // The kernel tells of it: with bytes both ways, though HNP never had it.
    let line = it.line(server.address());
    for part in [
        "process=python3",
        "rule=1 action=direct",
        "bytes_up=5 bytes_down=6",
        "close_reason=direct",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains("worker="), "{line}");
    assert_eq!(it.ends_by("203.0.113.8:443"), "ConnectionRefusedError");
    let line = it.line("203.0.113.8:443".parse().unwrap());
    assert!(
        line.contains("rule=2 action=deny") && line.contains("close_reason=denied"),
        "{line}"
    );
    let metrics = it.node.metrics();
    let of = |decision: &str| {
        let label = format!("decision=\"{decision}\"");
        metrics.sum_where("hnp_intercept_kernel_total", &[&label])
    };
    assert_eq!((of("direct"), of("denied"), of("relayed")), (1.0, 1.0, 0.0));
}

#[test]
fn an_upstream_that_refuses_is_a_reset_for_the_pod() {
    let it = Intercepting::start("refusing", "");
    assert_eq!(it.ends_by(&format!("{FAR}:9")), "ConnectionResetError");
    let line = it.line(format!("{FAR}:9").parse().unwrap());
    for part in [
        "closed_by=upstream",
        "close_reason=connection_refused",
        "nothing listens on",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let failed = ["outcome=\"failed\""];
    it.node
        .await_metrics("the failure to be counted", |metrics| {
            match metrics.sum_where("hnp_intercept_connections_total", &failed) {
                1.0 => Ok(()),
                other => Err(other.to_string()),
            }
        });
}

#[test]
fn what_policy_denies_is_a_reset_and_the_host_lends_no_reach() {
    let deny = "[[policy.deny]]\ncidrs = [\"203.0.113.7/32\"]";
    let it = Intercepting::start("policy", deny);
    let server = it.serve(FAR, |_| Ok(()));
    assert_eq!(
        it.ends_by(&server.address().to_string()),
        "ConnectionResetError"
    );
    let line = it.line(server.address());
    assert!(line.contains("decision=deny reason=deny_rule"), "{line}");
    let denied = ["outcome=\"denied\""];
    it.node
        .await_metrics("the refusal to be counted", |metrics| {
            match metrics.sum_where("hnp_intercept_connections_total", &denied) {
                1.0 => Ok(()),
                other => Err(other.to_string()),
            }
        });
    drop(it);

    let host = "[intercept]\nupstream-namespace = \"host\"";
    let it = Intercepting::start("host-ns", host);
    let server = it.serve(FAR, |_| Ok(()));
    assert_eq!(
        it.ends_by(&server.address().to_string()),
        "ConnectionResetError"
    );
    let line = it.line(server.address());
    assert!(
        line.contains("decision=deny reason=special_address"),
        "{line}"
    );
    assert_eq!(server.accepted(), 0);
}

#[test]
fn what_leaves_from_the_hosts_network_is_served_there() {
    let host = Namespace::new();
    // The node, and what looks after it, are in this network.
    host.run(|| {
        ip(&format!("address add {FAR}/32 dev lo"));
        let mut it = Intercepting::start("host-ns", "");
        let outside = it.serve(FAR, |mut stream| stream.write_all(b"outside the pod"));
        let to = outside.address();
        let _beside_hnp = Server::on(to, |mut stream| stream.write_all(b"beside HNP"));
        assert_eq!(it.ends_by(&to.to_string()), "b'outside the pod'");
        let from_host = format!(
            "[intercept]\nupstream-namespace = \"host\"\n[[policy.allow]]\ncidrs = [\"{FAR}/32\"]"
        );
        it.node.rewrite_config(&from_host);
        it.node.log().await_line(&["configuration reloaded"]);
        assert_eq!(it.ends_by(&to.to_string()), "b'beside HNP'");
    });
}

#[test]
fn many_connections_at_once_all_arrive() {
    let it = Intercepting::start("many", "");
    let server: Server = it.serve(FAR, |mut stream| {
        let mut asked = String::new();
        stream.read_to_string(&mut asked)?;
        stream.write_all(asked.as_bytes())
    });
    let code = format!(
        "import socket,threading\n\
         right = []\n\
         def one(n):\n\
         \x20   for m in range(50):\n\
         \x20       s = socket.create_connection(('{FAR}', {}))\n\
         \x20       said = f'{{n}} {{m}}'.encode()\n\
         \x20       s.sendall(said)\n\
         \x20       s.shutdown(socket.SHUT_WR)\n\
         \x20       right.append(s.recv(100) == said)\n\
         threads = [threading.Thread(target=one, args=(n,)) for n in range(10)]\n\
         [t.start() for t in threads]\n\
         [t.join() for t in threads]\n\
         print(len(right), all(right))",
        server.port()
    );
    assert_eq!(it.python(&code).success().trim(), "500 True");
    let metrics = it.node.metrics();
    assert_eq!(metrics.sum("hnp_intercept_lookup_misses_total"), 0.0);
}

#[test]
fn without_intercept_nothing_answers_at_the_control_socket() {
    let node = Node::start();
    let mut command = hnp_tests::node::hnp();
    command.args(["intercept", "--list", "--config"]);
    command.arg(node.config_file());
    let outcome = hnp_tests::process::run(&mut command, hnp_tests::DEADLINE);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome
            .stderr
            .contains("no `hnp run` with [intercept] answers"),
        "{}",
        outcome.stderr
    );
}
