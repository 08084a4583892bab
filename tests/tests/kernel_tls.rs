//! TLS whose records the kernel makes (kTLS), in `hnp run` as it is.
//!
//! On a kernel without module `tls` the same bytes pass, and HNP makes the records. With `HNP_EXPECT_KTLS=1` the kernel must have it, and
//! nobody else may use it: `cargo xtask vm ktls` runs this program that way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::Write as _;

use hnp_tests::pki::{Authority, Pki, authority};
use hnp_tests::server::{expected, receive, send_random};
use hnp_tests::tls::Tls;
use hnp_tests::{Node, Server, origin};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

/// Enough for the kernel to have work in every direction, and little enough for an emulated machine.
const SIZE: u64 = 8 << 20;

fn is_expected() -> bool {
    std::env::var("HNP_EXPECT_KTLS").is_ok_and(|value| value == "1")
}

/// The kernel's own count of the streams that it does TLS for. `None`: it does it for none.
fn counted() -> Option<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string("/proc/net/tls_stat").ok()?;
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        (name, words.next().unwrap().parse().unwrap())
    });
    Some(lines.collect())
}

/// How many more streams the kernel encrypts and decrypts after `work` than before.
fn more_of(work: impl FnOnce()) -> Option<(u64, u64)> {
    let before = counted();
    work();
    let (before, after) = (before?, counted()?);
    let more = |name: &str| after[name] - before[name];
    assert_eq!(more("TlsDecryptError"), 0);
    Some((more("TlsTxSw"), more("TlsRxSw")))
}

/// Bulk over three TLS streams: a client's and the upstream's for requests, and a client's around tunnels, each way.
fn carry(node: &Node, tls: &Tls) {
    let mut stream = tls.connect(node.address(), "localhost").unwrap();
    let path = format!("/bytes/7/{SIZE}");
    let response = stream.get("localhost", &path).unwrap();
    assert_eq!(response.status, 200, "{}", node.log());
    let digest = hnp_tests::server::hex(&Sha256::digest(&response.body));
    assert_eq!(digest, expected(7, SIZE).digest);

    let source = Server::source(8, SIZE);
    let stream = tls.connect(node.address(), "localhost").unwrap();
    let (response, stream) = stream.tunnel(&source.address().to_string()).unwrap();
    assert_eq!(response.status, 200, "{}", node.log());
    assert_eq!(receive(stream), expected(8, SIZE));

    let (sink, received) = Server::sink();
    let stream = tls.connect(node.address(), "localhost").unwrap();
    let (response, mut stream) = stream.tunnel(&sink.address().to_string()).unwrap();
    assert_eq!(response.status, 200, "{}", node.log());
    send_random(&mut stream, 9, SIZE).unwrap();
    stream.flush().unwrap();
    stream.end().unwrap();
    drop(stream);
    assert_eq!(received.recv().unwrap(), expected(9, SIZE));
}

#[test]
fn the_kernel_makes_the_records_unless_it_is_told_not_to() {
    let (pki, authority) = (Pki::new(), Authority::new("the listener's"));
    let listener = authority.server(&["localhost"]);
    let upstream = origin::tls(&pki);
    let mut node = Node::builder()
        .file("server.crt", &listener.certificate)
        .file("server.key", &listener.key)
        .config("modes = [\"tunnel\", \"reverse-proxy\"]\nktls = \"off\"\n")
        .config("[listener.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n")
        .config(&format!(
            "[upstream]\nurl = \"https://localhost:{}\"\nca = {:?}\n",
            upstream.port(),
            pki.ca()
        ))
        .start();
    let tls = Tls::trusting(&[&authority]);
    let without = more_of(|| carry(&node, &tls));
    if is_expected() {
        assert_eq!(without, Some((0, 0)), "it is off");
    }

    // A reload switches it on, for new connections.
    let file = node.directory().join("hnp.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains("ktls = \"off\""), "{config}");
    let config = config.replace("ktls = \"off\"", "ktls = \"auto\"");
    let mark = node.log().mark();
    authority::replace(&file, config);
    node.signal(Signal::SIGHUP);
    node.log()
        .await_line_after(mark, &["configuration reloaded"]);
    let with = more_of(|| carry(&node, &tls));
    println!("streams encrypted and decrypted by the kernel: off {without:?}, auto {with:?}");
    if is_expected() {
        // The upstream's connection may be the one that was kept from before.
        let (sent, received) = with.expect("this kernel should have TLS");
        assert!(sent >= 3 && received >= 3, "{sent}, {received}");
    }
}
