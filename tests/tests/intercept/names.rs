//! Rules by name: SNI, `Host`, and names that lie.

use std::io::Write;

use hnp_tests::dns::NameServer;
use hnp_tests::origin;
use hnp_tests::server::Server;

use crate::fixture::{FAR, FARTHER, Intercepting};

const RULES: &str = r#"
[[intercept.rules]]
hosts = ["refused.test"]
action = "deny"
[[intercept.rules]]
hosts = ["*.good.test"]
action = "relay"
"#;

fn start(name: &str) -> (Intercepting, NameServer) {
    let dns = NameServer::start().with("a.good.test", &[FARTHER]);
    let config = format!("{RULES}{}", dns.config());
    (Intercepting::start(name, &config), dns)
}

fn origin_at(it: &Intercepting, address: (&str, u16)) -> Server {
    it.serve_on(address, |mut stream| origin::serve(&mut stream))
}

#[test]
fn the_host_of_a_request_decides() {
    let (it, _dns) = start("host");
    let origin = origin_at(&it, (FARTHER, 0));
    let url = format!("http://{}/bytes/1/10", origin.address());
    let refused = it.curl(&["--header", "Host: refused.test", &url]);
    assert_eq!(refused.status.code(), Some(56), "{}", refused.stderr);
    let line = it.line(origin.address());
    for part in [
        "name=refused.test",
        "rule=1 action=deny",
        "close_reason=denied",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert_eq!(origin.accepted(), 0, "nothing reaches it");
    let mark = it.node.log().mark();
    it.curl(&["--header", "Host: a.good.test", &url]).success();
    let line = it.node.log().await_line_after(mark, &["log=access"]);
    assert!(
        line.contains("name=a.good.test rule=2 action=relay"),
        "{line}"
    );
    // No rule is about this one.
    it.curl(&["--header", "Host: other.test", &url]).success();
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn the_server_name_of_a_handshake_decides() {
    let (it, _dns) = start("sni");
    let server = it.serve(FARTHER, |mut stream| {
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut stream, &mut first)?;
        assert_eq!(first, [0x16], "what was read to find the name is passed on");
        stream.write_all(b"no TLS here")
    });
    let port = server.port();
    let ask = |name: &str| {
        let resolve = format!("{name}:{port}:{FARTHER}");
        it.curl(&["--resolve", &resolve, &format!("https://{name}:{port}/")])
    };
    assert!(!ask("refused.test").status.success());
    let line = it.line(server.address());
    assert!(
        line.contains("name=refused.test rule=1 action=deny"),
        "{line}"
    );
    assert_eq!(server.accepted(), 0);
    let mark = it.node.log().mark();
    assert!(!ask("a.good.test").status.success());
    let line = it.node.log().await_line_after(mark, &["log=access"]);
    assert!(
        line.contains("name=a.good.test rule=2 action=relay"),
        "{line}"
    );
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_name_that_lies_gains_nothing() {
    let (it, _dns) = start("lie");
    // Two servers on one port: where the connection was meant to go, and where the name is.
    let meant = origin_at(&it, (FAR, 0));
    let named = origin_at(&it, (FARTHER, meant.port()));
    let url = format!("http://{}/bytes/1/10", meant.address());
    it.curl(&["--header", "Host: a.good.test", &url]).success();
    assert_eq!((meant.accepted(), named.accepted()), (0, 1));
    let line = it.line(meant.address());
    assert!(
        line.contains(&format!("address={} ", named.address())),
        "{line}"
    );
    // A name that a rule wants, and that is nowhere.
    let unknown = it.curl(&["--header", "Host: b.good.test", &url]);
    assert_eq!(unknown.status.code(), Some(56), "{}", unknown.stderr);
    it.node
        .log()
        .await_line(&["log=access", "name=b.good.test", "close_reason=dns_error"]);
    assert_eq!((meant.accepted(), named.accepted()), (0, 1));
}

#[test]
fn who_waits_for_the_server_is_not_waited_for_where_no_name_could_decide() {
    let rules = r#"
        [intercept]
        detect-timeout = "4s"
        [[intercept.rules]]
        cidrs = ["203.0.113.7/32"]
        action = "relay"
        [[intercept.rules]]
        hosts = ["refused.test"]
        action = "deny"
    "#;
    let it = Intercepting::start("first", rules);
    for (address, waits) in [(FAR, false), (FARTHER, true)] {
        let server = it.serve(address, |mut stream| stream.write_all(b"220 ready"));
        let code = format!(
            "import socket,time\n\
             s = socket.create_connection(('{address}', {}))\n\
             begun = time.monotonic()\n\
             got = s.recv(100).decode()\n\
             print(got, time.monotonic() - begun)",
            server.port()
        );
        let said = it.python(&code).success();
        let (banner, seconds) = said.trim().rsplit_once(' ').unwrap();
        assert_eq!(banner, "220 ready");
        let seconds: f64 = seconds.parse().unwrap();
        assert_eq!(seconds >= 4.0, waits, "{address}: {said}");
        let line = it.line(server.address());
        assert!(line.contains("action=relay"), "{line}");
    }
}
