//! The mTLS guide's commands, run as they stand, and their files in every role: as HNP's client certificate, as a pod's, as the
//! authority. And every form that keys and certificates come in.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::Path;
use std::process::Command;

use hnp_tests::exchange::{self, Response};
use hnp_tests::manager::nginx::Line;
use hnp_tests::manager::{ClientAuth, Manager, Nginx, Setup};
use hnp_tests::material::Material;
use hnp_tests::node::NodeBuilder;
use hnp_tests::pki::{Authority, Pair, Shown};
use hnp_tests::tls::{Tls, Versions};
use hnp_tests::{DEADLINE, Node, process};
use tempfile::TempDir;

/// As users type them.
const GUIDE: &str = r#"openssl req -x509 -sha256 -nodes -days 9999 -newkey rsa:2048 -subj "/O=Example ORG/CN=CA Cert" -keyout ca.key -out ca.crt
cat > client.cnf <<EOF
[req]
default_bits = 2048
prompt = no
default_md = sha256
x509_extensions = v3_req
distinguished_name = dn
[dn]
O = Example ORG
CN = Client
[v3_req]
# empty
EOF
openssl req -new -config client.cnf -nodes -out client.csr -keyout client.key
openssl x509 -req -sha256 -days 9999 -extfile client.cnf -extensions v3_req -CAcreateserial -CA ca.crt -CAkey ca.key -in client.csr -out client.crt
"#;

/// Everything that a node in plaintext serves.
const PLAINTEXT: &str = "modes = [\"tunnel\", \"reverse-proxy\"]";
/// Everything that one with TLS serves.
const ALL: &str = "modes = [\"tunnel\", \"reverse-proxy\", \"end-to-end-mtls\"]";

fn shell(directory: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]).current_dir(directory);
    process::run(&mut command, DEADLINE).success()
}

/// What the guide leaves in a directory.
struct Guide(TempDir);

impl Guide {
    fn followed() -> Guide {
        let directory = tempfile::tempdir().unwrap();
        shell(directory.path(), GUIDE);
        Guide(directory)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file, as it stands in configurations.
    fn path(&self, name: &str) -> String {
        self.directory().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn client(&self) -> Pair {
        Pair::read(
            self.path("client.crt").as_ref(),
            self.path("client.key").as_ref(),
        )
    }

    fn authority(&self) -> Authority {
        Authority::read(self.path("ca.crt").as_ref(), self.path("ca.key").as_ref())
    }

    /// A directory with some of these files by other names, as a secret is mounted.
    fn mounted(&self, files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (from, to) in files {
            fs::copy(self.path(from), directory.path().join(to)).unwrap();
        }
        directory
    }
}

#[test]
fn the_guide_makes_an_x509_v1_certificate() {
    let guide = Guide::followed();
    let text = shell(
        guide.directory(),
        "openssl x509 -in client.crt -noout -text",
    );
    assert!(text.contains("Version: 1 (0x0)"), "{text}");
    assert!(!text.contains("X509v3 extensions"), "{text}");
}

fn get(node: &Node) -> Response {
    exchange::request(
        node.address(),
        "GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
}

/// A manager and nginx, which take the guide's authority's clients and no others.
struct Managers {
    own: Manager,
    nginx: Nginx,
}

impl Managers {
    fn of(authority: &Authority) -> Managers {
        let setup = Setup {
            server: &Material::shared().server,
            clients: &[authority],
            auth: ClientAuth::Strict,
            crl: None,
            protocols: &[],
        };
        Managers {
            own: Manager::start(&setup),
            nginx: Nginx::start(&setup),
        }
    }

    /// Starts the node twice, before the one and before the other, and sees that both accept what it shows.
    fn both_see(&self, serial: &str, certificate: &str, more: impl Fn(NodeBuilder) -> NodeBuilder) {
        let ask = |url: &str| {
            let builder = Node::builder()
                .config(PLAINTEXT)
                .config(&format!(
                    "[upstream]\nurl = \"{url}\"\nca = \"manager-ca.crt\"\n{certificate}"
                ))
                .file("manager-ca.crt", Material::shared().manager.pem());
            let node = more(builder).start();
            let response = get(&node);
            assert_eq!(response.status, 200, "{}\n{}", response.text(), node.log());
            response
        };
        ask(&self.own.url());
        let peer = self.own.last_for("/head").peer;
        assert_eq!(peer.serial.as_deref(), Some(serial));
        let line = Line::parse(&ask(&self.nginx.url()).text());
        assert_eq!(
            (line.verify.as_str(), line.serial.as_str()),
            ("SUCCESS", serial)
        );
    }
}

#[test]
fn as_hnps_client_certificate() {
    let guide = Guide::followed();
    let managers = Managers::of(&guide.authority());
    let (certificate, key) = (guide.path("client.crt"), guide.path("client.key"));
    let serial = guide.client().serial();
    let files = format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n");
    managers.both_see(&serial, &files, |node| node);
    for names in ["CLIENT", "PROXY_CLIENT"] {
        managers.both_see(&serial, "", |node| {
            node.env(&format!("{names}_CERT_PATH"), &certificate)
                .env(&format!("{names}_KEY_PATH"), &key)
        });
    }
    // As the secret `client-certificate` is mounted, and a Kubernetes TLS secret.
    for files in [
        &[("client.crt", "client.crt"), ("client.key", "client.key")][..],
        &[
            ("client.crt", "tls.crt"),
            ("client.key", "tls.key"),
            ("ca.crt", "ca.crt"),
        ],
    ] {
        let mounted = guide.mounted(files);
        let directory = format!("certificate = \"{}\"\n", mounted.path().display());
        managers.both_see(&serial, &directory, |node| node);
    }
}

#[test]
fn with_the_environment_as_the_chart_sets_it_up() {
    let guide = Guide::followed();
    let managers = Managers::of(&guide.authority());
    // No variable names the manager's authority: it is one of the system's, and OpenSSL's variable says where those are.
    fs::write(guide.path("roots.pem"), Material::shared().manager.pem()).unwrap();
    let node = Node::builder()
        .env("PROXY_URL", &managers.own.url())
        .env("SSL_CERT_FILE", &guide.path("roots.pem"))
        .env("CLIENT_CERT_PATH", &guide.path("client.crt"))
        .env("CLIENT_KEY_PATH", &guide.path("client.key"))
        .start();
    let response = get(&node);
    assert_eq!(response.status, 200, "{}\n{}", response.text(), node.log());
    let peer = managers.own.last_for("/head").peer;
    assert_eq!(peer.serial, Some(guide.client().serial()));
}

/// A node that takes the guide's authority's pods.
fn node_for_pods_of(guide: &Guide, auth: ClientAuth, manager: &Manager) -> Node {
    Material::shared()
        .node(auth, &manager.url(), Shown::Valid)
        .config(ALL)
        .file("guide-ca.crt", &guide.read("ca.crt"))
        .config("[listener.tls]\nclient-ca = \"guide-ca.crt\"\ncrl = []")
        .start()
}

#[test]
fn as_a_pods_client_certificate_and_its_authority() {
    let guide = Guide::followed();
    let hnp = &Material::shared().hnp;
    let manager = Material::shared().manager(ClientAuth::Strict);
    for auth in ClientAuth::BOTH {
        let node = node_for_pods_of(&guide, auth, &manager);
        for versions in [Versions::Tls12, Versions::Tls13] {
            let mark = node.log().mark();
            let pod = Tls::of(&[hnp], Some(&guide.client()), versions);
            let response = pod.get(node.address(), "localhost", "/head").unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            let parts = ["log=access", "mode=end-to-end-mtls"];
            let line = node.log().await_line_after(mark, &parts);
            assert!(line.contains("identity=Client"), "{line}");
        }
        // Another's with the same names, made by the same commands.
        let stranger = Guide::followed().client();
        let pod = Tls::of(&[hnp], Some(&stranger), Versions::Both);
        let got = pod.get(node.address(), "localhost", "/head");
        assert!(got.is_err(), "{got:?}");
    }
}

/// From a directory, as a server: the secret's `ca.crt` is whom the listener takes its clients from.
#[test]
fn the_listener_from_a_kubernetes_tls_secret() {
    let guide = Guide::followed();
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let secret = guide.mounted(&[("ca.crt", "ca.crt")]);
    fs::write(
        secret.path().join("tls.crt"),
        &material.listener.certificate,
    )
    .unwrap();
    fs::write(secret.path().join("tls.key"), &material.listener.key).unwrap();
    let node = Node::builder()
        .config("modes = [\"end-to-end-mtls\"]")
        .config(&format!(
            "[listener.tls]\ncertificate = \"{}\"\nclient-auth = \"strict\"\n\
             [upstream]\nurl = \"{}\"\nca = \"manager-ca.crt\"\ncertificate = \"agent.crt\"\nkey = \"agent.key\"",
            secret.path().display(),
            manager.url()
        ))
        .file("manager-ca.crt", material.manager.pem())
        .file("agent.crt", &material.agents.valid().certificate)
        .file("agent.key", &material.agents.valid().key)
        .start();
    let pod = Tls::of(&[&material.hnp], Some(&guide.client()), Versions::Both);
    let response = pod.get(node.address(), "localhost", "/head").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
}

/// curl itself, with the files where the guide left them: for the mode in which the pod shows its certificate to HNP, and for
/// HNP as an `https://` proxy that wants to see one.
#[test]
fn with_curl() {
    let guide = Guide::followed();
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let node = node_for_pods_of(&guide, ClientAuth::Strict, &manager);
    let hnp = format!("https://localhost:{}", node.address().port());
    let agent = material.agents.valid();
    agent.write(guide.directory(), "agent");
    fs::write(guide.path("hnp-ca.crt"), material.hnp.pem()).unwrap();
    fs::write(guide.path("manager-ca.crt"), material.manager.pem()).unwrap();
    for (arguments, serial) in [
        (
            format!("--cacert hnp-ca.crt --cert client.crt --key client.key {hnp}/head"),
            agent.serial(),
        ),
        (
            format!(
                "--proxy {hnp} --proxy-cacert hnp-ca.crt --proxy-cert client.crt --proxy-key client.key \
                 --cacert manager-ca.crt --cert agent.crt --key agent.key {}/head",
                manager.url()
            ),
            agent.serial(),
        ),
    ] {
        let answer = shell(
            guide.directory(),
            &format!("curl -sS --fail --max-time 30 --http1.1 --noproxy '' {arguments}"),
        );
        assert!(answer.starts_with("GET /head HTTP/1.1"), "{answer}");
        assert_eq!(manager.last_for("/head").peer.serial, Some(serial));
    }
}

// ---- forms of keys and certificates ----

#[test]
fn keys_in_every_form() {
    let material = Material::shared();
    for (form, script) in [
        ("PKCS#8 RSA", "openssl genrsa 2048 > key.pem"),
        ("PKCS#1", "openssl genrsa -traditional 2048 > key.pem"),
        (
            "SEC1 P-256 behind its parameters",
            "openssl ecparam -name prime256v1 -genkey > key.pem",
        ),
        (
            "SEC1 P-256",
            "openssl ecparam -name prime256v1 -genkey -noout > key.pem",
        ),
        (
            "SEC1 P-384",
            "openssl ecparam -name secp384r1 -genkey -noout > key.pem",
        ),
        (
            "PKCS#8 P-256",
            "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt > key.pem",
        ),
        (
            "PKCS#8 Ed25519",
            "openssl genpkey -algorithm ed25519 > key.pem",
        ),
        (
            "with text before it",
            "(echo 'Bag Attributes'; openssl genrsa 2048) > key.pem",
        ),
        (
            "with the line ends of Windows",
            "openssl genrsa 2048 | sed 's/$/\\r/' > key.pem",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write_authority(at, "pods", &material.agents.authority);
        write_authority(at, "hnp", &material.hnp);
        shell(at, script);
        shell(
            at,
            "openssl req -new -key key.pem -subj /CN=agent -out agent.csr
             openssl x509 -req -days 30 -CAcreateserial -CA pods.crt -CAkey pods.key -in agent.csr -out agent.crt
             printf '[san]\\nsubjectAltName=DNS:localhost\\n' > san.cnf
             openssl x509 -req -days 30 -extfile san.cnf -extensions san -CAcreateserial -CA hnp.crt -CAkey hnp.key -in agent.csr -out server.crt",
        );
        let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
        // As the listener's and as the upstream's.
        let manager = material.manager(ClientAuth::Strict);
        let node = material
            .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
            .config(ALL)
            .file("server.crt", &read("server.crt"))
            .file("server.key", &read("key.pem"))
            .file("upstream.crt", &read("agent.crt"))
            .file("upstream.key", &read("key.pem"))
            .start();
        for versions in [Versions::Tls12, Versions::Tls13] {
            let response = material
                .pod(Shown::Valid, versions)
                .get(node.address(), "localhost", "/head")
                .unwrap_or_else(|e| panic!("{form} {versions:?}: {e:?}\n{}", node.log()));
            assert_eq!(response.status, 200, "{form}: {}", response.text());
        }
        let name = manager.last_for("/head").peer.name;
        assert_eq!(name.as_deref(), Some("agent"), "{form}");
    }
}

fn write_authority(directory: &Path, stem: &str, authority: &Authority) {
    fs::write(directory.join(format!("{stem}.crt")), authority.pem()).unwrap();
    fs::write(directory.join(format!("{stem}.key")), authority.key_pem()).unwrap();
}

#[test]
fn a_chain_with_an_intermediate_is_sent_whole_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let material = Material::shared();
    for (stem, authority) in [("pods", &material.pods.authority), ("hnp", &material.hnp)] {
        write_authority(at, stem, authority);
        let extensions = "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                          [leaf]\nsubjectAltName=DNS:localhost\n";
        fs::write(at.join("x.cnf"), extensions).unwrap();
        shell(
            at,
            &format!(
                "openssl req -new -newkey rsa:2048 -nodes -subj '/CN={stem} intermediate' -keyout i.key -out i.csr
                 openssl x509 -req -days 30 -extfile x.cnf -extensions ca -CAcreateserial -CA {stem}.crt -CAkey {stem}.key -in i.csr -out i.crt
                 openssl req -new -newkey rsa:2048 -nodes -subj /CN={stem}-leaf -keyout {stem}-leaf.key -out l.csr
                 openssl x509 -req -days 30 -extfile x.cnf -extensions leaf -CAcreateserial -CA i.crt -CAkey i.key -in l.csr -out l.crt
                 cat l.crt i.crt > {stem}-leaf.crt"
            ),
        );
    }
    let pair = |stem: &str| {
        let path = |end: &str| at.join(format!("{stem}-leaf.{end}"));
        Pair::read(&path("crt"), &path("key"))
    };
    let manager = material.manager(ClientAuth::Strict);
    let node = material
        .node(ClientAuth::Strict, &manager.url(), Shown::Valid)
        .config(ALL)
        .file("server.crt", &pair("hnp").certificate)
        .file("server.key", &pair("hnp").key)
        // The root's list says nothing of what the intermediate issued.
        .config("listener.tls.crl = []")
        .start();
    let pod = Tls::of(&[&material.hnp], Some(&pair("pods")), Versions::Both);
    let response = pod.get(node.address(), "localhost", "/head").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    node.log().await_line(&["log=access", "identity=pods-leaf"]);
}
