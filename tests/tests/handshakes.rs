//! Handshakes that never end, too many of them, and those who speak TLS to plaintext and the other way round.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use hnp_tests::client;
use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::node::{Metrics, NodeBuilder, loopback};
use hnp_tests::pki::Shown;
use hnp_tests::tls::{Refusal, Tls, Versions};
use hnp_tests::{DEADLINE, Node, wait};
use rustls::{AlertDescription, ClientConnection};

/// Half-open handshakes at once.
const FLOOD: usize = 2_000;

/// Bytes of a request that nobody will read.
const BULK: usize = 128 << 10;

/// What a half-open client says before it falls silent.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// The first bytes of its hello.
    HalfAHello,
    /// Its hello, and nothing more.
    AHello,
}

/// A client's hello, as rustls sends it.
fn hello() -> Vec<u8> {
    let config = Tls::trusting(&[&Material::shared().hnp]).config();
    let mut connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello).unwrap();
    }
    hello
}

/// Opens so many, each from `from`.
fn flood(node: &Node, count: usize, from: IpAddr, says: Says) -> Vec<TcpStream> {
    let hello = hello();
    let said = match says {
        Says::HalfAHello => &hello[..hello.len() / 2],
        Says::AHello => &hello,
    };
    (0..count)
        .map(|_| {
            let mut stream = client::from_address(from, node.address()).unwrap();
            // A node that has closed it already may answer by a reset.
            let _ = stream.write_all(said);
            stream
        })
        .collect()
}

fn closed_for(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum_where("hnp_closes_total", &[&format!("reason=\"{reason}\"")])
}

fn await_closed_for(node: &Node, reason: &str, count: usize) {
    node.await_metrics(reason, |metrics| match closed_for(metrics, reason) {
        n if n >= count as f64 => Ok(()),
        n => Err(format!("{n} of {count}")),
    });
}

/// Waits until the node has no client, and as many descriptors as before any came.
fn await_quiet(node: &Node, before: usize) {
    node.await_metrics("connections to end", |metrics| {
        match metrics.require("hnp_connections_active") {
            0.0 => Ok(()),
            n => Err(format!("{n}")),
        }
    });
    // A pipe or a connection to the manager may be kept.
    wait::until("descriptors to be given back", || {
        match node.descriptors().len() {
            now if now <= before + 8 => Ok(()),
            now => Err(format!("{now}, {before} before")),
        }
    });
}

fn node(manager: &Manager) -> NodeBuilder {
    Material::shared()
        .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
        .config("modes = [\"end-to-end-mtls\"]")
}

fn good_client(node: &Node) -> Result<u16, Refusal> {
    let pod = Material::shared().pod(Shown::Valid, Versions::Both);
    pod.get(node.address(), "localhost", "/head")
        .map(|response| response.status)
}

#[test]
fn a_flood_of_half_open_handshakes_does_not_starve_others() {
    let manager = Material::shared().manager(ClientAuth::Strict);
    // Fewer than the flood: it has to be held back, not just outlasted.
    let node = node(&manager)
        .config("limits.handshakes = 500\ntimeouts.handshake = \"20s\"")
        .start();
    assert_eq!(good_client(&node), Ok(200));
    let before = node.descriptors().len();
    let mut flood_of_both = flood(&node, FLOOD / 2, loopback(66), Says::HalfAHello);
    flood_of_both.extend(flood(&node, FLOOD / 2, loopback(66), Says::AHello));
    // While it lasts, from the same machine and from another.
    for turn in 0..20 {
        let began = Instant::now();
        assert_eq!(good_client(&node), Ok(200), "turn {turn}\n{}", node.log());
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "turn {turn} took {:?}, as long as the flood's own",
            began.elapsed()
        );
    }
    // What was too much was closed and counted, and says why.
    await_closed_for(&node, "tls_limit", FLOOD - 500);
    let line = node.log().await_line(&["close_reason=tls_limit"]);
    assert!(line.contains("limits.handshakes"), "{line}");
    assert!(line.contains("closed_by=hnp"), "{line}");
    drop(flood_of_both);
    await_quiet(&node, before);
    assert_eq!(good_client(&node), Ok(200));
}

/// In TLS 1.3 a client's requests may be on their way when it is refused. Unread, they would make closing a reset, which overtakes the
/// alert.
#[test]
fn a_refused_client_hears_the_alert_though_it_goes_on_sending() {
    let manager = Material::shared().manager(ClientAuth::Strict);
    let node = node(&manager).start();
    let pod = Material::shared().pod(Shown::Nothing, Versions::Tls13);
    let request =
        format!("POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BULK}\r\n\r\n");
    for turn in 0..50 {
        let mut stream = pod.connect(node.address(), "localhost").unwrap();
        let got = stream.ask(&(request.clone() + &"x".repeat(BULK)));
        let told = Refusal::Alert(AlertDescription::CertificateRequired);
        assert_eq!(
            got.map(|response| response.status),
            Err(told),
            "turn {turn}"
        );
    }
}

#[test]
fn a_flood_within_the_limit_is_ended_by_the_time_limit() {
    let manager = Material::shared().manager(ClientAuth::Strict);
    let node = node(&manager)
        .config("limits.handshakes = 5000\ntimeouts.handshake = \"2s\"\ntimeouts.head = \"30s\"")
        .start();
    assert_eq!(good_client(&node), Ok(200));
    let before = node.descriptors().len();
    let mut held = flood(&node, FLOOD / 2, loopback(66), Says::HalfAHello);
    held.extend(flood(&node, FLOOD / 2, loopback(66), Says::AHello));
    assert_eq!(good_client(&node), Ok(200));
    await_closed_for(&node, "tls_timeout", FLOOD);
    let line = node.log().await_line(&["close_reason=tls_timeout"]);
    assert!(line.contains("timeouts.handshake"), "{line}");
    // The clients still hold their ends; HNP holds nothing.
    await_quiet(&node, before);
    assert_eq!(closed_for(&node.metrics(), "tls_limit"), 0.0);
    drop(held);
}

#[test]
fn a_manager_that_never_answers_the_hello_is_given_up() {
    let (silent, accepted) = hnp_tests::Server::handing_over();
    let node = Material::shared()
        .node(
            ClientAuth::Loose,
            &format!("https://localhost:{}", silent.port()),
            Shown::Valid,
        )
        .config("modes = [\"reverse-proxy\"]\ntimeouts.handshake = \"1s\"")
        .start();
    let response = hnp_tests::exchange::request(
        node.address(),
        "GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(matches!(response.status, 502 | 504), "{response:?}");
    let text = response.text();
    assert!(text.contains("timeouts.handshake"), "{text}");
    drop(accepted);
}

// ---- the wrong language ----

#[test]
fn tls_to_a_plaintext_port_is_answered_by_an_alert() {
    let node = Node::start();
    let refusal = Tls::trusting(&[&Material::shared().hnp])
        .connect(node.address(), "localhost")
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Alert(_)), "{refusal:?}");
    let line = node.log().await_line(&["log=access", "TLS"]);
    assert!(line.contains("listener.tls"), "{line}");
}

#[test]
fn a_hello_that_is_none_is_refused_by_an_alert() {
    let node = Material::shared().listening(ClientAuth::Strict).start();
    for (bytes, alerts) in [
        // A handshake record that holds no handshake.
        (
            &b"\x16\x03\x01\x00\x05hello"[..],
            &[
                AlertDescription::UnexpectedMessage,
                AlertDescription::DecodeError,
            ][..],
        ),
        // A record that is longer than any may be.
        (
            b"\x16\x03\x01\xff\xff\x01\x00\x00\x00",
            &[
                AlertDescription::RecordOverflow,
                AlertDescription::DecodeError,
            ],
        ),
    ] {
        let mark = node.log().mark();
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 7, "no alert to {bytes:?}: {answer:?}");
        assert_eq!(answer[0], 21, "no alert: {answer:?}");
        let alert = AlertDescription::from(answer[6]);
        assert!(alerts.contains(&alert), "{alert:?}");
        node.log()
            .await_line_after(mark, &["log=access", "close_reason=tls_failed"]);
    }
}

#[test]
fn a_client_that_leaves_in_the_midst_is_named() {
    let node = Material::shared().listening(ClientAuth::Strict).start();
    let hello = hello();
    for said in [&hello[..20], &hello] {
        let mark = node.log().mark();
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.write_all(said).unwrap();
        if said.len() == hello.len() {
            // Until the server's flight is there.
            stream.read_exact(&mut [0]).unwrap();
        }
        drop(stream);
        let line = node.log().await_line_after(mark, &["log=access"]);
        assert!(line.contains("closed_by=client"), "{line}");
        assert!(line.contains("close_reason=tls_aborted"), "{line}");
    }
}

#[test]
fn a_client_that_does_not_trust_hnp_is_named_with_its_alert() {
    let node = Material::shared().listening(ClientAuth::Loose).start();
    let refusal = Tls::trusting(&[&Material::shared().manager])
        .connect(node.address(), "localhost")
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Other(_)), "{refusal:?}");
    let line = node.log().await_line(&["log=access", "close_reason=tls_"]);
    // What the client's alert said.
    let said = line.to_lowercase();
    assert!(
        said.contains("unknownca") || said.contains("unknown ca"),
        "{line}"
    );
}

#[test]
fn a_client_that_leaves_without_close_notify_is_no_harm_to_others() {
    let manager = Material::shared().manager(ClientAuth::Strict);
    let node = node(&manager).start();
    for _ in 0..20 {
        let mut stream = Material::shared()
            .pod(Shown::Valid, Versions::Both)
            .connect(node.address(), "localhost")
            .unwrap();
        assert_eq!(stream.get("localhost", "/head").unwrap().status, 200);
        client::reset(stream.inner().try_clone().unwrap());
    }
    assert_eq!(good_client(&node), Ok(200));
}
