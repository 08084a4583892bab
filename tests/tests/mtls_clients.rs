//! The modes over TLS with real clients, each as its users set it up.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::pki::Shown;
use hnp_tests::{Node, bin, process};
use tempfile::TempDir;

/// For one client's errand; the Go client is built in it, too.
const LIMIT: Duration = Duration::from_secs(120);

/// What the clients show.
const SHOWN: [Shown; 6] = [
    Shown::Nothing,
    Shown::Valid,
    Shown::V1,
    Shown::Expired,
    Shown::Stranger,
    Shown::Revoked,
];

/// A node between clients and a manager, and a directory with what the clients need.
struct Scene {
    node: Node,
    manager: Manager,
    directory: TempDir,
}

impl Scene {
    fn new(auth: ClientAuth) -> Scene {
        let material = Material::shared();
        let manager = material.manager(ClientAuth::Strict);
        let node = material
            .node(auth, &manager.url(), Shown::Valid)
            .config("modes = [\"tunnel\", \"end-to-end-mtls\"]")
            .start();
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs::write(at.join("hnp-ca.crt"), material.hnp.pem()).unwrap();
        fs::write(at.join("manager-ca.crt"), material.manager.pem()).unwrap();
        material.agents.valid().write(at, "agent");
        for shown in SHOWN {
            if let Some(pair) = material.pods.pair(shown) {
                pair.write(at, &format!("{shown:?}"));
            }
        }
        Scene {
            node,
            manager,
            directory,
        }
    }

    /// HNP in the manager's place.
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.node.address().port())
    }

    /// Nothing but requests of an agent's: HNP's, or that of the client in a tunnel.
    fn check_what_the_manager_saw(&self) {
        let agent = Material::shared().agents.valid().serial();
        let requests = self.manager.requests();
        assert!(!requests.is_empty());
        for request in requests {
            assert_eq!(request.peer.serial.as_ref(), Some(&agent), "{request:?}");
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn certificate(&self, shown: Shown) -> PathBuf {
        match shown {
            Shown::Nothing => PathBuf::from("-"),
            shown => self.file(&format!("{shown:?}.crt")),
        }
    }

    fn key(&self, shown: Shown) -> PathBuf {
        self.file(&format!("{shown:?}.key"))
    }
}

/// Checks what a client says (`STATUS BODY`, or something about an alert) against the matrix.
fn check(client: &str, said: &str, shown: Shown, auth: ClientAuth) {
    let context = format!("{client}, {shown:?}, {auth:?}: {said}");
    // As the clients name the alerts.
    let alerts: &[&str] = match (shown, auth) {
        (Shown::Valid | Shown::V1, _) | (Shown::Nothing, ClientAuth::Loose) => {
            let status = said.split(' ').next().unwrap();
            assert!(matches!(status, "200" | "1000"), "{context}");
            return;
        }
        (Shown::Nothing, _) => &["certificate required"],
        (Shown::Expired, _) => &["certificate expired", "expired certificate"],
        (Shown::Revoked, _) => &["certificate revoked", "revoked certificate"],
        (Shown::Stranger | Shown::Impostor, _) => &[
            "unknown ca",
            "unknown certificate authority",
            "unknown authority",
        ],
    };
    // In TLS 1.3 the alert comes when the handshake is over for the client. Asyncio keeps it to itself, and Java's client, where HTTP/2 was
    // agreed on, now and then closes its channel before it has told, or waits for its own time limit: after one refusal in twenty by
    // OpenSSL's own server, too (`s_server -tls1_3 -alpn h2 -Verify 1 -verify_return_error`). That HNP's alert arrives whatever a client
    // still sends, `handshakes` tests.
    let untold = [
        ("websockets", "EOFError"),
        ("java TLSv1.3", "ClosedChannelException"),
        ("java TLSv1.3", "HttpTimeoutException"),
    ];
    if untold
        .iter()
        .any(|(who, what)| client == *who && said.contains(what))
    {
        assert!(said.starts_with("refused"), "{context}");
        return;
    }
    let plain = said.to_lowercase().replace('_', " ");
    assert!(!said.starts_with("200"), "{context}");
    assert!(
        alerts.iter().any(|alert| plain.contains(alert)),
        "{context}"
    );
}

/// The whole column of certificates with LOOSE and STRICT.
fn column(client: &str, ask: impl Fn(&Scene, Shown) -> String) {
    for auth in ClientAuth::BOTH {
        let scene = Scene::new(auth);
        for shown in SHOWN {
            check(client, &ask(&scene, shown), shown, auth);
        }
        scene.check_what_the_manager_saw();
    }
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

// ---- curl ----

fn curl(arguments: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("curl");
    // Verbose: it says what the alert was, and in TLS 1.2 nothing else does.
    command.args(["-sSv", "--http1.1", "--max-time", "60", "--noproxy", ""]);
    command.args(["--write-out", "%{http_code}", "--output", "/dev/null"]);
    arguments(&mut command);
    let outcome = process::run(without_proxies(&mut command), LIMIT);
    match outcome.status.success() {
        true => outcome.text(),
        false => outcome.stderr,
    }
}

#[test]
fn curl_end_to_end() {
    for version in ["1.2", "1.3"] {
        column("curl", |scene, shown| {
            curl(|command| {
                command.args(["--tls-max", version, &format!("--tlsv{version}")]);
                command.arg("--cacert").arg(scene.file("hnp-ca.crt"));
                if shown != Shown::Nothing {
                    command.arg("--cert").arg(scene.certificate(shown));
                    command.arg("--key").arg(scene.key(shown));
                }
                command.arg(scene.url("/head"));
            })
        });
    }
}

#[test]
fn curl_through_an_https_proxy() {
    column("curl", |scene, shown| {
        curl(|command| {
            command.arg("--proxy").arg(scene.url(""));
            command.arg("--proxy-cacert").arg(scene.file("hnp-ca.crt"));
            if shown != Shown::Nothing {
                command.arg("--proxy-cert").arg(scene.certificate(shown));
                command.arg("--proxy-key").arg(scene.key(shown));
            }
            command.arg("--cacert").arg(scene.file("manager-ca.crt"));
            command.arg("--cert").arg(scene.file("agent.crt"));
            command.arg("--key").arg(scene.file("agent.key"));
            command.arg(format!("{}/head", scene.manager.url()));
        })
    });
}

// ---- openssl ----

#[test]
fn openssl_s_client() {
    for version in ["-tls1_2", "-tls1_3"] {
        column("openssl", |scene, shown| {
            let request = scene.file("request");
            fs::write(
                &request,
                "GET /head HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
            let mut command = Command::new("openssl");
            command
                .args(["s_client", "-quiet", "-verify_return_error", version])
                .args(["-servername", "localhost"])
                .args(["-connect", &scene.node.address().to_string()])
                .arg("-CAfile")
                .arg(scene.file("hnp-ca.crt"));
            if shown != Shown::Nothing {
                command.arg("-cert").arg(scene.certificate(shown));
                command.arg("-key").arg(scene.key(shown));
            }
            let input = Stdio::from(fs::File::open(&request).unwrap());
            let outcome = process::run_with(&mut command, LIMIT, input, process::read_all);
            match outcome.text().strip_prefix("HTTP/1.1 ") {
                Some(answer) => answer.to_owned(),
                None => outcome.stderr,
            }
        });
    }
}

// ---- Python ----

/// The whole column of certificates with LOOSE and STRICT, all in one process.
fn python(library: &str, path: &str, by_proxy: bool) {
    let program = bin::target_directory().join("venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: run `cargo xtask test`",
        program.display()
    );
    for auth in ClientAuth::BOTH {
        let scene = Scene::new(auth);
        let mut command = Command::new(&program);
        command.arg("-B").arg(script("mtls_client.py")).arg(library);
        if by_proxy {
            command.arg(format!("{}{path}", scene.manager.url()));
            command.arg(scene.file("manager-ca.crt"));
        } else {
            command.arg(scene.url(path)).arg(scene.file("hnp-ca.crt"));
        }
        for shown in SHOWN {
            command.arg(scene.certificate(shown));
        }
        if by_proxy {
            command.arg("--proxy").arg(scene.url(""));
            command.arg(scene.file("hnp-ca.crt"));
            command.arg(scene.file("agent.crt"));
        }
        let output = process::run(without_proxies(&mut command), LIMIT).success();
        assert_eq!(output.lines().count(), SHOWN.len(), "{output}");
        for (said, shown) in output.lines().zip(SHOWN) {
            check(library, said, shown, auth);
        }
        scene.check_what_the_manager_saw();
    }
}

#[test]
fn python_ssl() {
    python("ssl", "/head", false);
}

#[test]
fn python_urllib3() {
    python("urllib3", "/head", false);
    python("urllib3", "/head", true);
}

#[test]
fn python_requests() {
    python("requests", "/head", false);
}

#[test]
fn python_httpx() {
    python("httpx", "/head", false);
    python("httpx", "/head", true);
}

#[test]
fn python_websockets() {
    python("websockets", "/websocket", false);
    python("websockets", "/websocket", true);
}

// ---- Java ----

#[test]
fn java_http_client_with_key_stores() {
    for (version, auth) in ["TLSv1.2", "TLSv1.3"]
        .into_iter()
        .flat_map(|version| ClientAuth::BOTH.map(|auth| (version, auth)))
    {
        let scene = Scene::new(auth);
        let mut command = Command::new("java");
        command
            .arg(format!("-Djdk.tls.client.protocols={version}"))
            .arg(script("MtlsClient.java"))
            .arg(scene.url("/head"))
            .arg(scene.file("hnp-ca.crt"))
            .arg("changeit");
        for shown in SHOWN {
            command.arg(match shown {
                Shown::Nothing => PathBuf::from("-"),
                shown => key_store(&scene, shown),
            });
        }
        let output = process::run(without_proxies(&mut command), LIMIT).success();
        assert_eq!(output.lines().count(), SHOWN.len(), "{output}");
        for (said, shown) in output.lines().zip(SHOWN) {
            // Of an issuer that HNP did not ask for it shows nothing.
            let shown = match shown {
                Shown::Stranger => Shown::Nothing,
                shown => shown,
            };
            check(&format!("java {version}"), said, shown, auth);
        }
        scene.check_what_the_manager_saw();
    }
}

fn key_store(scene: &Scene, shown: Shown) -> PathBuf {
    let store = scene.file(&format!("{shown:?}.p12"));
    let mut command = Command::new("openssl");
    command
        .args(["pkcs12", "-export", "-passout", "pass:changeit", "-in"])
        .arg(scene.certificate(shown))
        .arg("-inkey")
        .arg(scene.key(shown))
        .arg("-out")
        .arg(&store);
    process::run(&mut command, LIMIT).success();
    store
}

// ---- Go ----

/// The Go client, built once.
fn go() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = bin::target_directory().join("mtls_client_go");
        let mut command = Command::new("go");
        // Of the standard library alone: nothing is to be fetched.
        command
            .env("GOFLAGS", "-mod=mod")
            .env("GOPROXY", "off")
            .env("GO111MODULE", "off")
            .args(["build", "-o"])
            .arg(&program)
            .arg(script("mtls_client.go"));
        process::run(&mut command, LIMIT).success();
        program
    })
}

fn ask_by_go(scene: &Scene, shown: Shown, by_proxy: bool) -> String {
    let mut command = Command::new(go());
    if by_proxy {
        // One certificate for both: the manager takes it as HNP does, or is not asked for one.
        let both = scene.file("both-ca.crt");
        let bundle = ["hnp-ca.crt", "manager-ca.crt"]
            .map(|name| fs::read_to_string(scene.file(name)).unwrap())
            .concat();
        fs::write(&both, bundle).unwrap();
        command.arg(format!("{}/head", scene.manager.url()));
        command.arg(both);
    } else {
        command.arg(scene.url("/head"));
        command.arg(scene.file("hnp-ca.crt"));
    }
    command.arg(scene.certificate(shown)).arg(scene.key(shown));
    if by_proxy {
        command.arg(scene.url(""));
    }
    process::run(without_proxies(&mut command), LIMIT).success()
}

#[test]
fn go_net_http() {
    column("go", |scene, shown| ask_by_go(scene, shown, false));
}

#[test]
fn go_net_http_through_an_https_proxy() {
    for auth in ClientAuth::BOTH {
        let mut scene = Scene::new(auth);
        // What Go shows the proxy it shows the manager, too: this one does not ask.
        scene.manager = Material::shared().manager(ClientAuth::Off);
        for shown in SHOWN {
            check("go", &ask_by_go(&scene, shown, true), shown, auth);
        }
    }
}
