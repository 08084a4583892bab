//! Real clients with no proxy set anywhere: what they fetch arrives, and the report has its rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hnp_tests::pki::Pki;
use hnp_tests::server::{expected, hex};
use hnp_tests::{Server, bin, origin, process, random};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::scene::{self, Scene};

/// For one client's whole errand.
const LIMIT: Duration = Duration::from_secs(120);
const LENGTH: u64 = 1_000_003;

/// Two origins, known by a name to whom `/etc/hosts` is replaced for.
struct World {
    scene: Scene,
    pki: Pki,
    _origins: [Server; 2],
    seed: u64,
}

impl World {
    fn new(name: &str) -> World {
        let (scene, pki) = (Scene::new(name), Pki::new());
        let plain = scene.origin("10.77.0.1:80");
        let secure = scene
            .pod
            .peer
            .run(|| origin::tls_on("10.77.0.1:443".parse().unwrap(), &pki));
        scene.file("hosts", "10.77.0.1 origin.test\n");
        World {
            scene,
            pki,
            _origins: [plain, secure],
            // Fits the integers of every language here.
            seed: random::seed() >> 32,
        }
    }

    /// Runs a client as `common.py` describes it, and compares all that it reports. Gives the rows of the report.
    fn run(&self, client: &[&str], variables: &[(&str, &Path)]) -> Rows {
        let seed = self.seed.to_string();
        let ca = self.pki.ca();
        let mut words = client.to_vec();
        words.extend(["-", "https://origin.test", "http://origin.test"]);
        words.extend([ca.to_str().unwrap(), &seed]);
        let (output, rows) = self.exec(&words, variables);
        let reported: BTreeMap<&str, &str> = output
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let download = expected(self.seed, LENGTH).digest;
        let upload: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
        let upload = hex(&Sha256::digest(upload));
        for (what, said) in &reported {
            match *what {
                "events" => assert_eq!(*said, "50"),
                what if what.starts_with("upload") => assert_eq!(**said, upload, "{what}"),
                what => assert_eq!(**said, download, "{what}"),
            }
        }
        assert!(
            reported.contains_key("https") && reported.contains_key("until-close"),
            "{output}"
        );
        // Three downloads in plain text, one over TLS.
        rows.check("10.77.0.1:80", 3 * LENGTH);
        rows.check("10.77.0.1:443", LENGTH);
        rows
    }

    fn exec(&self, words: &[&str], variables: &[(&str, &Path)]) -> (String, Rows) {
        let report = self.scene.path("report.json");
        let mut exec: Command = self.scene.exec();
        exec.envs(variables.iter().copied());
        exec.args(["--json", "--output", &report]);
        // A mount of its own: others keep their `/etc/hosts`.
        exec.args(["unshare", "--mount", "sh", "-c"]);
        exec.args([
            r#"mount --bind "$0" /etc/hosts && exec "$@""#,
            &self.scene.path("hosts"),
        ]);
        exec.args(words);
        let output = process::run(&mut exec, LIMIT).success();
        let report = scene::report(&std::fs::read_to_string(report).unwrap());
        assert_eq!(self.scene.cgroups(), Vec::<String>::new());
        (output, Rows(report))
    }
}

/// What is said of where a client connected.
struct Rows(Value);

impl Rows {
    fn all(&self) -> &[Value] {
        self.0["destinations"].as_array().unwrap()
    }

    /// There is one row for the destination, by name, with at least so many bytes.
    fn check(&self, destination: &str, bytes: u64) {
        let mut rows = self
            .all()
            .iter()
            .filter(|row| row["destination"] == destination);
        let (Some(row), None) = (rows.next(), rows.next()) else {
            panic!("not one row for {destination}: {}", self.0);
        };
        assert_eq!(row["name"], "origin.test", "{row}");
        assert_eq!(row["decision"], "relay", "{row}");
        assert_eq!(row["failed"], 0, "{row}");
        assert!(row["connections"].as_u64().unwrap() >= 1, "{row}");
        assert!(row["bytes_down"].as_u64().unwrap() > bytes, "{row}");
        assert!(row["bytes_up"].as_u64().unwrap() > 50, "{row}");
        assert!(row["longest_ms"].as_f64().unwrap() > 0.0, "{row}");
    }
}

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name);
    path.to_str().unwrap().to_owned()
}

fn installed(path: &str) -> PathBuf {
    let path = bin::target_directory().join(path);
    let missing = format!("{} is missing: run `cargo xtask test`", path.display());
    assert!(path.exists(), "{missing}");
    path
}

#[test]
fn curl() {
    let world = World::new("curl");
    let ca = world.pki.ca();
    for (scheme, destination) in [("https", "10.77.0.1:443"), ("http", "10.77.0.1:80")] {
        let url = format!("{scheme}://origin.test/digest");
        let body = world.scene.file("body", &"x".repeat(300_000));
        let data = format!("@{body}");
        let words = [
            "curl",
            "-sS",
            "--fail",
            "--cacert",
            ca.to_str().unwrap(),
            "--data-binary",
            &data,
            &url,
        ];
        let (output, rows) = world.exec(&words, &[]);
        assert_eq!(output, hex(&Sha256::digest("x".repeat(300_000))));
        assert_eq!(rows.all().len(), 1, "{}", rows.0);
        let row = &rows.all()[0];
        assert_eq!(row["destination"], destination);
        assert_eq!(row["connections"], 1);
        assert!(row["bytes_up"].as_u64().unwrap() > 300_000, "{row}");
        rows.check(destination, 64);
    }
}

#[test]
fn python_requests() {
    let python = installed("venv/bin/python");
    let client = script("requests_client.py");
    World::new("requests").run(&[python.to_str().unwrap(), "-B", &client], &[]);
}

#[test]
fn python_urllib() {
    World::new("urllib").run(&["python3", "-B", &script("urllib_client.py")], &[]);
}

#[test]
fn node_undici() {
    installed("node/node_modules/undici");
    let modules = bin::target_directory().join("node");
    let variables = [("CLIENT_MODULES", &*modules)];
    World::new("node").run(&["node", &script("undici_client.mjs")], &variables);
}

#[test]
fn java_http_client() {
    // Java asks for both families, and connects by a socket of IPv6 to a mapped address: it is a row of IPv4 all the same.
    World::new("java").run(&["java", &script("JavaClient.java")], &[]);
}

#[test]
fn a_static_go_program() {
    // It makes its system calls by itself: no library can be laid under it.
    let program = bin::target_directory().join("net_http_client_go");
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0")
        .env("GOPROXY", "off")
        .env("GO111MODULE", "off");
    go.args(["build", "-o"])
        .arg(&program)
        .arg(script("net_http_client.go"));
    process::run(&mut go, LIMIT).success();
    let bytes = std::fs::read(&program).unwrap();
    assert!(
        !bytes.windows(9).any(|window| window == b"ld-linux-"),
        "it is static"
    );
    World::new("go").run(&[program.to_str().unwrap()], &[]);
}
