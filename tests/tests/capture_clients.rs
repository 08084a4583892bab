//! Real clients in a pod, with no proxy set anywhere: `hnp run` serves their connections, and they do not notice. Needs root,
//! cgroup v2 and iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "intercept/fixture.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod fixture;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hnp_tests::pki::Authority;
use hnp_tests::server::expected;
use hnp_tests::{Server, bin, origin, process, random, wait};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

use fixture::{FAR, Intercepting};

const FAR6: &str = "2001:db8::7";
/// Java starts slowly where others work, too.
const LIMIT: Duration = Duration::from_secs(120);

/// A pod, and origins with names in its `/etc/hosts`: TLS and plain, each over IPv4 and IPv6.
struct Scene {
    it: Intercepting,
    directory: tempfile::TempDir,
    origins: Vec<(String, Server)>,
    seed: u64,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let it = Intercepting::start(name, "");
        it.pod.outside(FAR6.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the origins' authority");
        fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        let pair = authority.server(&["four.test", "six.test"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                pair.chain(),
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let hosts = format!("127.0.0.1 localhost\n{FAR} four.test\n{FAR6} six.test\n");
        fs::write(directory.path().join("hosts"), hosts).unwrap();
        let mut origins = Vec::new();
        for (name, address) in [("four.test", FAR), ("six.test", FAR6)] {
            let config = Arc::clone(&config);
            let secure = it.serve(address, move |stream| {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                origin::serve(&mut stream)?;
                stream.conn.send_close_notify();
                std::io::Write::flush(&mut stream)
            });
            let plain = it.serve(address, |mut stream| origin::serve(&mut stream));
            origins.push((format!("https://{name}:{}", secure.port()), secure));
            origins.push((format!("http://{name}:{}", plain.port()), plain));
        }
        Scene {
            it,
            directory,
            origins,
            seed: random::seed(),
        }
    }

    fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Runs a program in the pod, with the pod's names.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.it.pod.command("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg(r#"mount --bind "$0" /etc/hosts && exec "$@""#)
            .arg(self.directory.path().join("hosts"))
            .arg(program.as_ref());
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    /// Runs a client that does what `capture_client.py` says, and compares all of it.
    fn run(&self, command: &mut Command) {
        command.arg(self.ca()).arg(self.seed.to_string());
        command.args(self.origins.iter().map(|(url, _)| url));
        self.check(&process::run(command, LIMIT).success());
    }

    fn check(&self, output: &str) {
        let got = format!("get {}", expected(self.seed, 1_000_003).digest);
        let upload: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
        let posted = format!("post {}", hnp_tests::server::hex(&Sha256::digest(upload)));
        let each = [&*got, &*posted];
        let expected: Vec<&str> = self.origins.iter().flat_map(|_| each).collect();
        assert_eq!(output.lines().collect::<Vec<_>>(), expected);
        // All of it went through HNP, which knew where to. The certificates were the origins' own.
        for (_, server) in &self.origins {
            let line = self.it.line(server.address());
            assert!(line.contains("mode=intercept"), "{line}");
            assert!(line.contains("action=relay"), "{line}");
        }
        // Every connection that reached an origin, and no other.
        for (_, server) in &self.origins {
            let original = format!("original={} ", server.address());
            wait::until("a line for each connection", || {
                let lines = self.it.node.log().lines();
                let seen = lines.iter().filter(|line| line.contains(&original));
                match (seen.count(), server.accepted()) {
                    (seen, made) if seen == made => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

#[test]
fn curl() {
    let scene = Scene::new("curl");
    let upload: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
    let file = scene.directory.path().join("upload");
    fs::write(&file, upload).unwrap();
    let curl = |arguments: &[&str]| {
        let mut command = scene.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "100"]);
        command.arg("--cacert").arg(scene.ca()).args(arguments);
        process::run(&mut command, LIMIT)
    };
    let mut said = String::new();
    for (url, _) in &scene.origins {
        let download = curl(&[&format!("{url}/bytes/{}/1000003", scene.seed)]);
        assert!(download.status.success(), "{}", download.stderr);
        let digest = hnp_tests::server::hex(&Sha256::digest(&download.stdout));
        let data = format!("@{}", file.display());
        let posted = curl(&["--data-binary", &data, &format!("{url}/digest")]).success();
        said += &format!("get {digest}\npost {}\n", posted.trim());
    }
    scene.check(&said);
}

#[test]
fn python() {
    let scene = Scene::new("python");
    scene.run(
        scene
            .command("python3")
            .arg("-B")
            .arg(script("capture_client.py")),
    );
}

#[test]
fn node() {
    let scene = Scene::new("node");
    let mut command = scene.command("node");
    command.env("NODE_EXTRA_CA_CERTS", scene.ca());
    scene.run(command.arg(script("capture_client.mjs")));
}

#[test]
fn java() {
    let scene = Scene::new("java");
    scene.run(scene.command("java").arg(script("CaptureClient.java")));
}

#[test]
fn a_static_program_without_libc() {
    let scene = Scene::new("static");
    let program = bin::target_directory().join("capture_client_go");
    let mut build = Command::new("go");
    // Of the standard library alone: nothing is to be fetched.
    build
        .env("CGO_ENABLED", "0")
        .env("GOPROXY", "off")
        .env("GO111MODULE", "off")
        .args(["build", "-o"])
        .arg(&program)
        .arg(script("capture_client.go"));
    process::run(&mut build, LIMIT).success();
    let image = fs::read(&program).unwrap();
    assert!(
        !image.windows(7).any(|bytes| bytes == b"ld-linu"),
        "it names no dynamic loader"
    );
    scene.run(&mut scene.command(&program));
}

#[test]
fn what_nobody_serves_is_an_error_that_clients_tell() {
    let scene = Scene::new("nobody");
    // connect() has succeeded before HNP finds that nobody listens: the client sees a reset, not silence.
    let closed = SocketAddr::new(FAR.parse::<IpAddr>().unwrap(), 9);
    let mut command = scene.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "100"]);
    let outcome = process::run(command.arg(format!("http://{closed}/")), LIMIT);
    assert!(!outcome.status.success());
    // The reset may come before curl has looked whether it is connected.
    let told = ["reset by peer", "Failed to connect"];
    assert!(
        told.iter().any(|words| outcome.stderr.contains(words)),
        "{}",
        outcome.stderr
    );
}
