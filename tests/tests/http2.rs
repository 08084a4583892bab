//! HTTP/2 from real clients, in plaintext (prior knowledge) and over TLS, to upstreams of either version.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hnp_tests::pki::{Clients, Pki, Shown};
use hnp_tests::process::Process;
use hnp_tests::server::expected;
use hnp_tests::{Node, Port, Server, bin, origin, process, wait};
use sha2::{Digest, Sha256};

/// For one client's whole errand.
const LIMIT: Duration = Duration::from_secs(120);

const REQUESTS: &str = r#"modes = ["reverse-proxy", "tunnel"]"#;

/// A node that passes requests on to `upstream`, over TLS too when there is a `pki`.
fn node(upstream: &str, more: &str, pki: Option<&Pki>) -> Node {
    let mut builder = Node::builder()
        .config(REQUESTS)
        .config(&format!("[upstream]\nurl = \"{upstream}\"\n"));
    if let Some(pki) = pki {
        builder = builder.config(&format!(
            "[listener.tls]\ncertificate = {:?}\nkey = {:?}\n",
            pki.certificate(),
            pki.key()
        ));
    }
    builder.config(more).start()
}

fn plain(server: &Server) -> String {
    format!("http://{}", server.address())
}

fn curl(pki: &Pki) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(["--max-time", "60", "--cacert"])
        .arg(pki.ca());
    curl
}

fn python(script: &str) -> Command {
    let program = bin::target_directory().join("venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: `cargo xtask test` installs it",
        program.display()
    );
    let mut command = Command::new(program);
    command.arg(client(script));
    command
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

fn digest(bytes: &[u8]) -> String {
    hnp_tests::server::hex(&Sha256::digest(bytes))
}

/// What a script prints: `what result` lines.
fn results(output: &str) -> BTreeMap<&str, &str> {
    let lines = output.lines();
    lines.filter_map(|line| line.split_once(' ')).collect()
}

/// A server that is another program, and its port.
struct Other {
    port: u16,
    _process: Process,
    _input: Option<std::process::ChildStdin>,
}

fn grpc_server() -> Other {
    let mut child = python("grpc_server.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let input = child.stdin.take();
    Other {
        port: line.trim().parse().expect("the service names its port"),
        _input: input,
        _process: Process::new(child),
    }
}

/// nghttpd, which serves the files of a directory; over TLS with a certificate and its key.
fn nghttpd(directory: &Path, tls: Option<&Pki>) -> Other {
    let port = Port::take();
    let number = port.number();
    drop(port);
    let mut nghttpd = Command::new("nghttpd");
    nghttpd
        .arg("--address=127.0.0.1")
        .args(["--echo-upload", "--htdocs"])
        .arg(directory);
    match tls {
        Some(pki) => {
            nghttpd
                .arg(number.to_string())
                .arg(pki.key())
                .arg(pki.certificate());
        }
        None => {
            nghttpd.arg("--no-tls").arg(number.to_string());
        }
    }
    let child = nghttpd.stdin(Stdio::null()).spawn().unwrap();
    let process = Process::new(child);
    wait::until("nghttpd to listen", || {
        match TcpStream::connect(("127.0.0.1", number)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    Other {
        port: number,
        _process: process,
        _input: None,
    }
}

#[test]
fn curl_with_prior_knowledge_and_by_alpn() {
    let (pki, upstream) = (Pki::new(), origin::plain());
    let node = node(&plain(&upstream), "", Some(&pki));
    let port = node.address().port();
    let download = expected(7, 1_000_003).digest;
    for (version, url) in [
        (
            "--http2-prior-knowledge",
            format!("http://127.0.0.1:{port}"),
        ),
        ("--http2", format!("https://localhost:{port}")),
    ] {
        for path in ["bytes", "chunked", "until-close"] {
            let mut curl = curl(&pki);
            curl.arg(version)
                .arg(format!("{url}/{path}/7/1000003?token=secret"));
            let got = process::run(&mut curl, LIMIT);
            assert!(got.status.success(), "{version} {path}: {}", got.stderr);
            assert_eq!(digest(&got.stdout), download, "{version} {path}");
        }
        let mut upload = curl(&pki);
        upload
            .arg(version)
            .args(["--write-out", " %{http_version}", "--data-binary"])
            .arg(format!("@{}", pki.ca().display()))
            .arg(format!("{url}/digest"));
        let answer = process::run(&mut upload, LIMIT).success();
        let sent = digest(&std::fs::read(pki.ca()).unwrap());
        assert_eq!(answer, format!("{sent} 2"), "{version}");
        let secure = if version == "--http2" { "tls=1.3" } else { "" };
        node.log().await_line(&[
            "mode=reverse-proxy",
            "protocol=h2",
            "method=POST",
            "path=/digest",
            "status=200",
            secure,
        ]);
    }
    let lines = node.log().lines().join("\n");
    assert!(!lines.contains("secret"), "a query is in the log");
}

#[test]
fn httpx() {
    let (pki, upstream) = (Pki::new(), origin::plain());
    let node = node(&plain(&upstream), "", Some(&pki));
    let url = format!("https://localhost:{}", node.address().port());
    let mut client = python("httpx2_client.py");
    client.arg(url).arg(pki.ca()).arg("7");
    let output = process::run(&mut client, LIMIT).success();
    let got = results(&output);
    let download = format!("200 {}", expected(7, 1_000_003).digest);
    for what in ["bytes", "chunked", "until-close"] {
        assert_eq!(got[what], download, "{what}");
    }
    let upload: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
    let upload = format!("200 {}", digest(&upload));
    assert_eq!((got["upload"], got["upload-pieces"]), (&*upload, &*upload));
    assert_eq!(got["events"], "200 50");
}

fn check_grpc(output: &str, scheme: &str) {
    let got = results(output);
    assert_eq!(got["unary"], "olleh abc");
    assert_eq!(got["big"], "True");
    assert_eq!(got["collect"], "1000000");
    assert_eq!(got["count"], "499500");
    assert_eq!(got["pause"], "before after");
    assert_eq!(got["chat"], "100 re: 99 0");
    assert_eq!(got["fail"], "FAILED_PRECONDITION asked to fail asked to");
    assert_eq!(got["slow"], "DEADLINE_EXCEEDED");
    assert_eq!(got["cancel"], "CANCELLED");
    assert_eq!(got["many"], "800 0");
    assert_eq!(got["scheme"], scheme);
}

#[test]
fn grpc_in_plaintext() {
    let service = grpc_server();
    let upstream = format!("http://127.0.0.1:{}", service.port);
    // A call that is open is not idle, however long it says nothing.
    let more = "[upstream]\nprotocol = \"h2\"\n[timeouts]\nhttp-idle = \"500ms\"\n";
    let node = node(&upstream, more, None);
    let mut client = python("grpc_client.py");
    client.arg(node.address().to_string());
    check_grpc(&process::run(&mut client, LIMIT).success(), "http");
}

#[test]
fn grpc_with_client_certificates() {
    let (pki, clients) = (Pki::new(), Clients::new("hnp-tests clients"));
    let service = grpc_server();
    let upstream = format!("http://127.0.0.1:{}", service.port);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("clients.crt");
    std::fs::write(&ca, clients.authority.pem()).unwrap();
    let pair = clients.pair(Shown::Valid).unwrap();
    let (certificate, key) = pair.write(directory.path(), "client");
    let strict = format!(
        "modes = [\"end-to-end-mtls\"]\n[upstream]\nprotocol = \"h2\"\n[listener.tls]\nclient-auth = \"strict\"\nclient-ca = {ca:?}\n"
    );
    let node = node(&upstream, &strict, Some(&pki));
    let mut client = python("grpc_client.py");
    client
        .arg(format!("localhost:{}", node.address().port()))
        .arg(pki.ca())
        .args([&certificate, &key]);
    check_grpc(&process::run(&mut client, LIMIT).success(), "https");
    node.log().await_line(&[
        "identity=valid",
        "mode=end-to-end-mtls",
        "path=/hnp.Test/Collect",
    ]);
}

/// Thousands of requests over a few connections, none of which fails; to upstreams of either version, by TLS and without.
#[test]
fn h2load() {
    let (pki, upstream) = (Pki::new(), origin::plain());
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("bytes/7")).unwrap();
    std::fs::write(directory.path().join("bytes/7/1000"), [7; 1000]).unwrap();
    let (clear, secure) = (
        nghttpd(directory.path(), None),
        nghttpd(directory.path(), Some(&pki)),
    );
    let ca = format!("ca = {:?}\n", pki.ca());
    for (url, more) in [
        (plain(&upstream), String::new()),
        (
            format!("http://127.0.0.1:{}", clear.port),
            "[upstream]\nprotocol = \"h2\"\n".to_owned(),
        ),
        (
            format!("https://localhost:{}", secure.port),
            format!("[upstream]\n{ca}"),
        ),
    ] {
        let node = node(&url, &more, Some(&pki));
        let port = node.address().port();
        for scheme in ["http", "https"] {
            let mut h2load = Command::new("h2load");
            h2load
                .args(["-n", "3000", "-c", "6", "-m", "40", "-t", "1"])
                .arg(format!("{scheme}://localhost:{port}/bytes/7/1000"));
            let output = process::run(&mut h2load, LIMIT).success();
            assert!(
                output.contains("3000 succeeded, 0 failed, 0 errored"),
                "{scheme} to {url}: {output}"
            );
            assert!(output.contains("status codes: 3000 2xx"), "{output}");
        }
    }
}

/// Clients of HTTP/1.1 before an upstream that speaks nothing but HTTP/2: more than either side holds, down, up and back, with its length
/// known and not.
#[test]
fn http1_to_an_upstream_of_http2() {
    const SIZE: usize = 100 << 20;
    let pki = Pki::new();
    let directory = tempfile::tempdir().unwrap();
    let (bulk, got) = (directory.path().join("bulk"), directory.path().join("got"));
    let bytes = hnp_tests::random::Random::new(17).bytes(SIZE);
    let sent = digest(&bytes);
    std::fs::write(&bulk, bytes).unwrap();
    let upload = format!("@{}", bulk.display());
    for tls in [None, Some(&pki)] {
        let upstream = nghttpd(directory.path(), tls);
        let url = match tls {
            None => format!("http://127.0.0.1:{}", upstream.port),
            Some(_) => format!("https://localhost:{}", upstream.port),
        };
        let trusted = tls.map_or_else(String::new, |pki| format!("ca = {:?}\n", pki.ca()));
        let more = format!("[upstream]\nprotocol = \"h2\"\n{trusted}");
        let node = node(&url, &more, None);
        let known: &[&str] = &["--data-binary", &upload];
        let chunked: &[&str] = &[
            "--header",
            "transfer-encoding: chunked",
            "--data-binary",
            &upload,
        ];
        for (path, arguments) in [("bulk", &[] as &[&str]), ("echo", known), ("echo", chunked)] {
            let mut curl = curl(&pki);
            curl.args(["--http1.1", "--write-out", "%{http_version} %{http_code}"])
                .arg("--output")
                .arg(&got)
                .args(arguments)
                .arg(format!("http://{}/{path}", node.address()));
            let said = process::run(&mut curl, LIMIT).success();
            assert_eq!(said, "1.1 200", "{url} {arguments:?}\n{}", node.log());
            let digest = digest(&std::fs::read(&got).unwrap());
            assert_eq!(digest, sent, "{url} {arguments:?}");
        }
        node.log()
            .await_line(&["mode=reverse-proxy", "path=/echo", "status=200"]);
    }
}

#[test]
fn connect_over_http2_is_a_tunnel() {
    let target = Server::echo();
    let node = node("http://127.0.0.1:9", "", None);
    let mut nghttp = python("h2_tunnel_client.py");
    nghttp
        .arg(node.address().port().to_string())
        .arg(target.address().to_string());
    let output = process::run(&mut nghttp, LIMIT).success();
    assert_eq!(output.trim(), "200 1000000 True");
    node.log()
        .await_line(&["protocol=h2", "mode=tunnel", "method=CONNECT", "status=200"]);
}

/// A client that says goodbye (GOAWAY) may have more on its way. A reset for it could take from the client what it has not read yet.
#[test]
fn what_follows_a_goodbye_is_no_reason_for_a_reset() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Length, type, flags, stream (RFC 9113 section 4.1).
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let node = node("http://127.0.0.1:9", "", None);
    let mut client = TcpStream::connect(node.address()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
        .write_all(&[PREFACE, SETTINGS, GOAWAY].concat())
        .unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert!(said.ends_with(GOAWAY), "it says goodbye, too: {said:?}");
    // A reset comes as soon as the first of them has arrived.
    for _ in 0..1000 {
        client.write_all(PING).unwrap();
    }
    assert!(client.take_error().unwrap().is_none());
}

/// The conformance tests of `h2spec`, against HNP in plaintext, but for those that are known to differ.
#[test]
fn conforms() {
    let upstream = origin::plain();
    let node = node(&plain(&upstream), "", None);
    let h2spec = bin::target_directory().join("go/bin/h2spec");
    assert!(
        h2spec.exists(),
        "{} is missing: `cargo xtask test` installs it",
        h2spec.display()
    );
    let mut command = Command::new(h2spec);
    command
        .args(["--host", "127.0.0.1", "--port"])
        .arg(node.address().port().to_string())
        .args(["--path", "/bytes/7/1000"]);
    let outcome = process::run(&mut command, LIMIT);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let failures = text.split("Failures:").nth(1).unwrap_or_default();
    let failed: Vec<&str> = failures
        .lines()
        .filter_map(|line| line.trim().strip_prefix("× "))
        .collect();
    // What does not begin as HTTP/2 does is taken for HTTP/1.1 here, and told in HTTP/1.1 what is wrong with it.
    assert_eq!(failed, ["2: Sends invalid connection preface"], "{text}");
    assert!(text.contains("145 tests, 144 passed"), "{text}");
}
