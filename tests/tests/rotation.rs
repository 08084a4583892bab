//! Certificates, keys and authorities change under load, again and again, and nobody notices; a broken pair changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use hnp_tests::manager::{ClientAuth, Manager, Setup};
use hnp_tests::material::Material;
use hnp_tests::pki::authority::replace;
use hnp_tests::pki::{Authority, Leaf, Pair, Shown};
use hnp_tests::tls::{Refusal, Tls, Versions};
use hnp_tests::websocket::WebSocket;
use hnp_tests::{Node, wait};
use rustls::AlertDescription;
use tempfile::TempDir;

const ROTATIONS: usize = 5;
const WEB_SOCKETS: usize = 100;

/// The metric of what is in use, and until when.
const EXPIRY: &str = "hnp_certificate_expiry_seconds";

/// How files come to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Each by itself, a new one in the place of the old.
    Files,
    /// All at once, as Kubernetes changes a mounted secret: `tls.crt -> ..data/tls.crt`, and one rename of `..data`.
    Secret,
}

/// A directory with `tls.crt`, `tls.key` and `ca.crt`.
struct Mount {
    directory: TempDir,
    change: Change,
    turn: usize,
}

impl Mount {
    fn new(change: Change, pair: &Pair, authorities: &[&Authority]) -> Mount {
        let mut mount = Mount {
            directory: tempfile::tempdir().unwrap(),
            change,
            turn: 0,
        };
        mount.put(pair, authorities);
        if change == Change::Secret {
            for name in ["tls.crt", "tls.key", "ca.crt"] {
                symlink(format!("..data/{name}"), mount.path(name)).unwrap();
            }
        }
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&mut self, pair: &Pair, authorities: &[&Authority]) {
        let bundle: String = authorities.iter().map(|it| it.pem()).collect();
        let content = [
            ("ca.crt", bundle.as_str()),
            ("tls.crt", pair.certificate.as_str()),
            ("tls.key", pair.key.as_str()),
        ];
        match self.change {
            Change::Files => {
                for (name, text) in content {
                    let path = self.path(name);
                    // What stays the same is not touched.
                    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
                        continue;
                    }
                    replace(&path, text);
                }
            }
            Change::Secret => {
                let (before, now) = (self.turn, self.turn + 1);
                let generation = format!("..generation_{now}");
                fs::create_dir(self.path(&generation)).unwrap();
                for (name, text) in content {
                    fs::write(self.path(&generation).join(name), text).unwrap();
                }
                symlink(&generation, self.path("..data_tmp")).unwrap();
                fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
                // Kubernetes leaves nothing of the old.
                let _ = fs::remove_dir_all(self.path(&format!("..generation_{before}")));
                self.turn = now;
            }
        }
    }
}

/// An authority with what it has issued: a server's pair, and a client's.
struct Side {
    authority: Authority,
    server: Pair,
    client: Pair,
}

impl Side {
    fn new(name: &str, generation: usize) -> Side {
        let authority = Authority::new(&format!("{name} authority {generation}"));
        Side {
            server: authority.server(&["localhost", "127.0.0.1"]),
            client: authority.client(&format!("{name} {generation}")),
            authority,
        }
    }
}

/// What is rotated: on the pods' side the listener's pair and whom it trusts, on the manager's the manager's pair, HNP's own, and whom
/// either trusts.
struct Rotation {
    node: Node,
    manager: Manager,
    listener: Mount,
    upstream: Mount,
    pods: Side,
    managers: Side,
    /// What pods connect with now.
    pod: Arc<RwLock<Tls>>,
}

fn setup<'a>(server: &'a Pair, clients: &'a [&'a Authority]) -> Setup<'a> {
    Setup {
        server,
        clients,
        auth: ClientAuth::Strict,
        crl: None,
        protocols: &[],
    }
}

fn pod(trusts: &[&Authority], shows: &Pair) -> Tls {
    Tls::of(trusts, Some(shows), Versions::Both)
}

impl Rotation {
    fn start(change: Change) -> Rotation {
        let (pods, managers) = (Side::new("pods", 0), Side::new("managers", 0));
        let manager = Manager::start(&setup(&managers.server, &[&managers.authority]));
        let listener = Mount::new(change, &pods.server, &[&pods.authority]);
        let upstream = Mount::new(change, &managers.client, &[&managers.authority]);
        let node = Node::builder()
            .config(&format!(
                "modes = [\"end-to-end-mtls\"]\n\
                 [listener.tls]\ncertificate = \"{}\"\nclient-auth = \"strict\"\n\
                 [upstream]\nurl = \"{}\"\ncertificate = \"{}\"\nca = \"{}\"\n",
                listener.directory.path().display(),
                manager.url(),
                upstream.directory.path().display(),
                upstream.path("ca.crt").display(),
            ))
            .start();
        let pod = Arc::new(RwLock::new(pod(&[&pods.authority], &pods.client)));
        Rotation {
            node,
            manager,
            listener,
            upstream,
            pods,
            managers,
            pod,
        }
    }

    fn get(&self, tls: &Tls) -> Result<u16, Refusal> {
        tls.get(self.node.address(), "localhost", "/head")
            .map(|response| response.status)
    }

    /// Waits until HNP has a certificate of this subject in use.
    fn await_in_use(&self, role: &str, subject: &str) {
        let (role, subject) = (format!("role=\"{role}\""), format!("{subject}\""));
        self.node.await_metrics(&subject, |metrics| {
            match metrics.sum_where(EXPIRY, &[&role, &subject]) {
                0.0 => Err(format!("nothing with {role} {subject}")),
                _ => Ok(()),
            }
        });
    }

    /// One rotation, as it is done where nothing may fail: first everybody trusts the new authority, too, then everybody shows
    /// what it issued, then nobody trusts the old one.
    fn turn(&mut self, generation: usize) {
        let (pods, managers) = (
            Side::new("pods", generation),
            Side::new("managers", generation),
        );
        let both_pods = [&self.pods.authority, &pods.authority];
        let both_managers = [&self.managers.authority, &managers.authority];
        self.listener.put(&self.pods.server, &both_pods);
        self.upstream.put(&self.managers.client, &both_managers);
        self.manager
            .set_up(&setup(&self.managers.server, &both_managers));
        *self.pod.write().unwrap() = pod(&both_pods, &self.pods.client);
        self.await_in_use("client-ca", &format!("pods authority {generation}"));
        self.await_in_use("upstream-ca", &format!("managers authority {generation}"));

        self.listener.put(&pods.server, &both_pods);
        self.upstream.put(&managers.client, &both_managers);
        self.manager
            .set_up(&setup(&managers.server, &both_managers));
        *self.pod.write().unwrap() = pod(&both_pods, &pods.client);
        let now = self.pod.read().unwrap().clone();
        wait::until("the listener's new certificate", || {
            let stream = now.connect(self.node.address(), "localhost").unwrap();
            match stream.server_serial() {
                serial if serial == pods.server.serial() => Ok(()),
                serial => Err(serial),
            }
        });
        let handshakes = self.manager.connections().len();
        wait::until("HNP's new certificate at the manager", || {
            // A new connection to the manager, for those that are there live on.
            let request = "GET /until-close/1/1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut stream = now.connect(self.node.address(), "localhost").unwrap();
            assert_eq!(stream.ask(request).unwrap().status, 200);
            let connections = self.manager.connections();
            let new = &connections[handshakes..];
            let wanted = managers.client.serial();
            match new.iter().any(|peer| peer.serial.as_ref() == Some(&wanted)) {
                true => Ok(()),
                false => Err(format!("{new:?}")),
            }
        });

        let old = pod(&[&pods.authority], &self.pods.client);
        assert_eq!(self.get(&old), Ok(200), "the old is still trusted");
        *self.pod.write().unwrap() = pod(&[&pods.authority], &pods.client);
        self.listener.put(&pods.server, &[&pods.authority]);
        self.upstream.put(&managers.client, &[&managers.authority]);
        self.manager
            .set_up(&setup(&managers.server, &[&managers.authority]));
        wait::until("the old authority to be forgotten", || {
            match self.get(&old) {
                Err(Refusal::Alert(AlertDescription::UnknownCA)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        // And of what it is not to forget, nothing.
        let now = self.pod.read().unwrap().clone();
        assert_eq!(self.get(&now), Ok(200));
        (self.pods, self.managers) = (pods, managers);
    }
}

fn five_rotations_under_load(change: Change) {
    let mut rotation = Rotation::start(change);
    let address = rotation.node.address();
    let first = rotation.pod.read().unwrap().clone();
    let sockets: Vec<_> = (0..WEB_SOCKETS)
        .map(|_| {
            let stream = first.connect(address, "localhost").unwrap();
            WebSocket::open(stream, "localhost", "/websocket").unwrap()
        })
        .collect();
    let current = &*Arc::clone(&rotation.pod);
    let (stop, requests, messages) = (
        &AtomicBool::new(false),
        &AtomicUsize::new(0),
        &AtomicUsize::new(0),
    );
    let going = || !stop.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, mut socket) in sockets.into_iter().enumerate() {
            workers.push(scope.spawn(move || {
                let mut turn = 0;
                while going() {
                    socket.echo(&format!("{number}: {turn}")).unwrap();
                    messages.fetch_add(1, Ordering::SeqCst);
                    turn += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                socket.close().unwrap();
                assert!(turn > 0);
            }));
        }
        // One client keeps its connection, the others make one for each request.
        workers.push(scope.spawn(move || {
            let tls = current.read().unwrap().clone();
            let mut kept = tls.connect(address, "localhost").unwrap();
            while going() {
                assert_eq!(kept.get("localhost", "/head").unwrap().status, 200);
                requests.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
            }
        }));
        for _ in 0..3 {
            workers.push(scope.spawn(move || {
                while going() {
                    // Held until the answer is there: nothing is withdrawn from under a request.
                    let tls = current.read().unwrap();
                    let response = tls.get(address, "localhost", "/head").unwrap();
                    assert_eq!(response.status, 200, "{}", response.text());
                    requests.fetch_add(1, Ordering::SeqCst);
                    drop(tls);
                    thread::sleep(Duration::from_millis(5));
                }
            }));
        }
        for generation in 1..=ROTATIONS {
            let before = (
                requests.load(Ordering::SeqCst),
                messages.load(Ordering::SeqCst),
            );
            rotation.turn(generation);
            wait::until("requests and messages with the new ones", || {
                let now = (
                    requests.load(Ordering::SeqCst),
                    messages.load(Ordering::SeqCst),
                );
                if now.0 >= before.0 + 20 && now.1 >= before.1 + WEB_SOCKETS {
                    Ok(())
                } else {
                    Err(format!("{now:?}"))
                }
            });
            if workers.iter().any(|worker| worker.is_finished()) {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.join().expect("nobody notices");
        }
    });
    eprintln!(
        "{change:?}: {ROTATIONS} rotations, {} requests, {} messages on {WEB_SOCKETS} WebSockets",
        requests.load(Ordering::SeqCst),
        messages.load(Ordering::SeqCst)
    );
}

#[test]
fn five_rotations_of_files_under_load() {
    five_rotations_under_load(Change::Files);
}

#[test]
fn five_rotations_of_a_mounted_secret_under_load() {
    five_rotations_under_load(Change::Secret);
}

// ---- what is broken ----

/// A node whose listener and upstream have their pairs in files, and who goes through it.
struct Plain {
    node: Node,
    manager: Manager,
}

impl Plain {
    fn start() -> Plain {
        let material = Material::shared();
        let manager = material.manager(ClientAuth::Strict);
        let node = material
            .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
            .config("modes = [\"end-to-end-mtls\"]")
            .start();
        Plain { node, manager }
    }

    fn write(&self, file: &str, content: &str) {
        replace(&self.node.directory().join(file), content);
    }

    /// The serial numbers that a new client sees, and that the manager sees of HNP.
    fn serials(&self) -> (String, Option<String>) {
        let mut stream = Material::shared()
            .pod(Shown::Valid, Versions::Both)
            .connect(self.node.address(), "localhost")
            .unwrap();
        let response = stream.get("localhost", "/until-close/1/1").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let peer = self.manager.last_for("/until-close/1/1").peer;
        (stream.server_serial(), peer.serial)
    }

    fn failed_reloads(&self) -> f64 {
        let metrics = self.node.metrics();
        metrics.sum_where("hnp_certificate_reloads_total", &["result=\"failed\""])
    }
}

#[test]
fn a_broken_new_pair_keeps_the_old_and_says_so() {
    let material = Material::shared();
    let scene = Plain::start();
    let good = scene.serials();
    assert_eq!(good.0, material.listener.serial());
    let directory = scene.node.directory().to_owned();
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let other = material.hnp.server(&["localhost"]);
    let garbage = "-----BEGIN CERTIFICATE-----\nnot base64 at all!\n-----END CERTIFICATE-----\n";
    for (file, content) in [
        ("server.key", other.key.clone()),
        ("server.crt", other.certificate.clone()),
        ("server.crt", garbage.to_owned()),
        ("server.crt", half(&material.listener.certificate)),
        ("server.key", half(&material.listener.key)),
        ("server.crt", String::new()),
        ("server.key", "\0\u{1}\u{2}".repeat(100)),
        ("pods-ca.crt", garbage.to_owned()),
        ("pods-ca.crt", String::new()),
        ("pods.crl", "nothing of the kind".to_owned()),
        ("upstream.key", other.key.clone()),
        ("upstream.crt", half(&material.agents.valid().certificate)),
        ("manager-ca.crt", garbage.to_owned()),
    ] {
        let context = format!("{file}: {content:.40}");
        let (before, failed, mark) = (read(file), scene.failed_reloads(), scene.node.log().mark());
        scene.write(file, &content);
        let line = scene
            .node
            .log()
            .await_line_after(mark, &["level=error", file]);
        assert!(!line.contains("PRIVATE KEY"), "{context}: {line}");
        wait::until("the metric", || match scene.failed_reloads() {
            now if now > failed => Ok(()),
            now => Err(format!("{context}: {now}")),
        });
        assert_eq!(scene.serials(), good, "{context}");
        // What is mended is taken again.
        let mark = scene.node.log().mark();
        scene.write(file, &before);
        scene.node.log().await_line_after(mark, &["reloaded"]);
        assert_eq!(scene.serials(), good, "{context}");
    }
    // One that is removed.
    let (before, mark) = (read("server.key"), scene.node.log().mark());
    fs::remove_file(directory.join("server.key")).unwrap();
    let parts = ["level=error", "server.key"];
    scene.node.log().await_line_after(mark, &parts);
    assert_eq!(scene.serials(), good);
    scene.write("server.key", &before);
    // And after all that a good one is taken as if nothing had been.
    scene.write("server.crt", &other.certificate);
    scene.write("server.key", &other.key);
    wait::until("the new certificate", || match scene.serials() {
        (serial, _) if serial == other.serial() => Ok(()),
        serials => Err(format!("{serials:?}")),
    });
}

#[test]
fn a_revocation_list_is_taken_when_it_changes() {
    let material = Material::shared();
    let scene = Plain::start();
    let ask = || {
        material
            .pod(Shown::Valid, Versions::Both)
            .get(scene.node.address(), "localhost", "/head")
    };
    assert_eq!(ask().unwrap().status, 200);
    let revoked = [material.pods.valid()];
    scene.write("pods.crl", &material.pods.authority.crl(&revoked));
    wait::until("the certificate to be refused", || match ask() {
        Err(Refusal::Alert(AlertDescription::CertificateRevoked)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scene.write("pods.crl", &material.pods.authority.crl(&[]));
    wait::until("the certificate to be accepted again", || match ask() {
        Ok(response) if response.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

// ---- the end of a certificate ----

#[test]
fn until_when_each_certificate_is_good_is_a_metric_and_near_the_end_a_warning() {
    const DAY: f64 = 86_400.0;
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let leaf = |until: i64| {
        material.hnp.issue(&Leaf {
            name: "localhost",
            names: &["localhost"],
            until,
            server: true,
            ..Leaf::default()
        })
    };
    let near = leaf(13);
    let node = material
        .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
        .config("modes = [\"end-to-end-mtls\"]")
        .file("server.crt", &near.certificate)
        .file("server.key", &near.key)
        .start();
    let line = node.log().await_line(&["level=warn", "server.crt"]);
    assert!(line.contains("hours") || line.contains("days"), "{line}");
    let left = |role: &str| {
        let role = format!("role=\"{role}\"");
        node.metrics().sum_where(EXPIRY, &[&role])
    };
    let near_days = left("server") / DAY;
    assert!((12.9..=13.0).contains(&near_days), "{near_days} days");
    let client_days = left("client") / DAY;
    assert!((364.9..=365.0).contains(&client_days), "{client_days} days");
    assert!(left("client-ca") > 365.0 * DAY && left("upstream-ca") > 365.0 * DAY);
    // Nobody warns of what has its time.
    let warnings = |node: &Node| {
        let lines = node.log().lines();
        let warns = |line: &&String| line.contains("level=warn") && line.contains(".crt");
        lines.iter().filter(warns).count()
    };
    assert_eq!(warnings(&node), 1, "{}", node.log());
    // A new one takes its place, in the metric too, and is no reason to warn.
    let far = leaf(15);
    far.write(node.directory(), "server");
    wait::until("the new one's time", || match left("server") / DAY {
        days if (14.9..=15.0).contains(&days) => Ok(()),
        days => Err(format!("{days} days")),
    });
    assert_eq!(warnings(&node), 1, "{}", node.log());
}

#[test]
fn a_certificate_that_has_ended_is_shown_all_the_same_and_warned_of() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Loose);
    let node = material
        .node(ClientAuth::Strict, &manager.url(), Shown::Expired)
        .config("modes = [\"end-to-end-mtls\"]")
        .start();
    let line = node.log().await_line(&["level=warn", "upstream.crt"]);
    assert!(line.contains("expired"), "{line}");
    let left = node.metrics().sum_where(EXPIRY, &["role=\"client\""]);
    assert!(left < 0.0, "{left}");
}
