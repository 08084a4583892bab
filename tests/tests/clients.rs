//! Real clients, each as its users set it up.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hnp_tests::pki::Pki;
use hnp_tests::server::{Received, expected, receive};
use hnp_tests::{Node, Server, bin, origin, process, random};
use sha2::{Digest, Sha256};

/// For one client's whole errand.
const LIMIT: Duration = Duration::from_secs(120);
const GIB: u64 = 1 << 30;

/// A node between a client and two origins.
struct Scene {
    node: Node,
    pki: Pki,
    secure: Server,
    plain: Server,
    seed: u64,
}

impl Scene {
    fn new() -> Scene {
        let pki = Pki::new();
        Scene {
            node: Node::start(),
            secure: origin::tls(&pki),
            plain: origin::plain(),
            pki,
            // Fits the integers of every language here.
            seed: random::seed() >> 32,
        }
    }

    fn https(&self) -> String {
        format!("https://localhost:{}", self.secure.port())
    }

    fn http(&self) -> String {
        format!("http://{}", self.plain.address())
    }

    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "",
            "--max-time",
            "100",
        ])
        .args(["--proxy", &self.node.url()])
        .arg("--cacert")
        .arg(self.pki.ca());
        curl
    }

    /// Runs a client that does what `common.py` says and compares everything it reports.
    fn run(&self, command: &mut Command) -> BTreeMap<String, String> {
        command
            .arg(self.node.url())
            .arg(self.https())
            .arg(self.http())
            .arg(self.pki.ca())
            .arg(self.seed.to_string());
        let output = process::run(without_proxies(command), LIMIT).success();
        let mut reported: BTreeMap<String, String> = output
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(what, digest)| (what.to_owned(), digest.to_owned()))
            .collect();

        let download = expected(self.seed, 1_000_003).digest;
        for what in ["https", "http", "chunked", "until-close"] {
            assert_eq!(reported.remove(what).as_ref(), Some(&download), "{what}");
        }
        let upload = hnp_tests::server::hex(&Sha256::digest(upload()));
        for what in [
            "upload-https",
            "upload-http",
            "upload-https-chunked",
            "upload-http-chunked",
        ] {
            assert_eq!(reported.remove(what).as_ref(), Some(&upload), "{what}");
        }
        assert_eq!(reported.remove("events").as_deref(), Some("50"));
        reported
    }
}

/// What every client uploads.
fn upload() -> Vec<u8> {
    (0..1 << 20).map(|i: u32| i as u8).collect()
}

fn without_proxies(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

fn python(name: &str) -> Command {
    let program = bin::target_directory().join("venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: run `cargo xtask test`",
        program.display()
    );
    let mut command = Command::new(program);
    // Leaves nothing behind in the source tree.
    command.arg("-B").arg(script(name));
    command
}

#[test]
fn curl_through_a_tunnel_to_an_https_origin() {
    let scene = Scene::new();
    let url = format!("{}/bytes/{}/20000003", scene.https(), scene.seed);
    let outcome = process::run(scene.curl().arg(url), LIMIT);
    outcome.success();
    assert_eq!(
        receive(outcome.stdout.as_slice()),
        expected(scene.seed, 20_000_003)
    );
}

#[test]
fn curl_asks_for_a_plain_url_in_absolute_form() {
    let scene = Scene::new();
    let url = format!("{}/bytes/{}/20000003", scene.http(), scene.seed);
    let outcome = process::run(scene.curl().arg(url), LIMIT);
    outcome.success();
    assert_eq!(
        receive(outcome.stdout.as_slice()),
        expected(scene.seed, 20_000_003)
    );
}

#[test]
fn curl_uses_one_connection_for_several_requests() {
    let scene = Scene::new();
    let url = format!("{}/head", scene.http());
    let mut curl = scene.curl();
    curl.args([
        "--write-out",
        "%{num_connects} %{http_code}\n",
        "--output",
        "/dev/null",
    ]);
    for _ in 0..3 {
        curl.arg(&url);
        curl.args(["--output", "/dev/null"]);
    }
    // One connection made for the first request, none for the others.
    let output = process::run(&mut curl, LIMIT).success();
    assert_eq!(
        output.lines().collect::<Vec<_>>(),
        ["1 200", "0 200", "0 200"]
    );
}

#[test]
fn curl_downloads_a_gibibyte() {
    let scene = Scene::new();
    let url = format!("{}/bytes/{}/{GIB}", scene.http(), scene.seed);
    let mut curl = scene.curl();
    curl.arg("--proxytunnel").arg(url);
    let report = |received: &Received| format!("{received:?}").into_bytes();
    let outcome = process::run_with(&mut curl, LIMIT, Stdio::null(), move |stdout| {
        report(&receive(stdout))
    });
    assert_eq!(
        outcome.success().into_bytes(),
        report(&expected(scene.seed, GIB))
    );
}

#[test]
fn curl_uploads_through_a_tunnel_and_in_absolute_form() {
    let scene = Scene::new();
    let file = scene.node.directory().join("upload");
    let mut content = vec![0; 10_000_019];
    random::Random::new(scene.seed).fill(&mut content);
    fs::write(&file, &content).unwrap();
    let expected = hnp_tests::server::hex(&Sha256::digest(&content));
    for origin in [scene.https(), scene.http()] {
        // Over a mebibyte curl asks first (`Expect: 100-continue`).
        let known = process::run(
            scene
                .curl()
                .arg("--upload-file")
                .arg(&file)
                .arg(format!("{origin}/digest")),
            LIMIT,
        );
        assert_eq!(known.success(), expected, "{origin}, length known");
        let mut curl = scene.curl();
        curl.args(["--header", "Transfer-Encoding: chunked", "--upload-file"])
            .arg(&file)
            .arg(format!("{origin}/digest"));
        assert_eq!(
            process::run(&mut curl, LIMIT).success(),
            expected,
            "{origin}, chunked"
        );
    }
}

#[test]
fn python_requests() {
    assert_eq!(
        Scene::new().run(&mut python("requests_client.py")),
        BTreeMap::new()
    );
}

#[test]
fn python_httpx() {
    assert_eq!(
        Scene::new().run(&mut python("httpx_client.py")),
        BTreeMap::new()
    );
}

#[test]
fn python_aiohttp() {
    assert_eq!(
        Scene::new().run(&mut python("aiohttp_client.py")),
        BTreeMap::new()
    );
}

#[test]
fn websockets_two_hundred_at_once_with_messages_both_ways() {
    let scene = Scene::new();
    let mut command = python("websocket_client.py");
    command.arg(scene.node.url());
    command
        .arg(scene.pki.certificate())
        .arg(scene.pki.key())
        .arg(scene.pki.ca());
    command.arg(scene.seed.to_string()).args(["200", "20"]);
    let output = process::run(without_proxies(&mut command), LIMIT).success();
    assert_eq!(output.trim(), "ok 200 5200");
}

#[test]
fn openssl_s_client() {
    let scene = Scene::new();
    let request = scene.node.directory().join("request");
    let path = format!("/bytes/{}/100003", scene.seed);
    fs::write(
        &request,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
    .unwrap();
    let mut command = Command::new("openssl");
    command
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-servername",
            "localhost",
        ])
        .args(["-proxy", &scene.node.address().to_string()])
        .args(["-connect", &format!("localhost:{}", scene.secure.port())])
        .arg("-CAfile")
        .arg(scene.pki.ca());
    let input = File::open(&request).unwrap().into();
    let outcome = process::run_with(&mut command, LIMIT, input, process::read_all);
    outcome.success();
    let head = outcome
        .stdout
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    assert_eq!(
        receive(&outcome.stdout[head + 4..]),
        expected(scene.seed, 100_003)
    );
}

#[test]
fn node_undici() {
    let scene = Scene::new();
    let modules = bin::target_directory().join("node");
    let undici = modules.join("node_modules/undici");
    assert!(
        undici.exists(),
        "{} is missing: run `cargo xtask test`",
        undici.display()
    );
    let mut command = Command::new("node");
    command
        .env("CLIENT_MODULES", modules)
        .arg(script("undici_client.mjs"));
    let rest = scene.run(&mut command);
    let download = expected(scene.seed, 1_000_003).digest;
    assert_eq!(
        rest,
        BTreeMap::from([("http-tunnelled".to_owned(), download)])
    );
}

#[test]
fn java_http_client() {
    let scene = Scene::new();
    let mut command = Command::new("java");
    command.arg(script("JavaClient.java"));
    assert_eq!(scene.run(&mut command), BTreeMap::new());
}
