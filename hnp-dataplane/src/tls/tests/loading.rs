//! What files may hold, and what is said of those that do not do.

use std::path::Path;

use rustls::pki_types::UnixTime;
use time::Duration;

use super::clients::{config, listener};
use super::handshake::{TLS13, client, with};
use super::pki::{Authority, Leaf, Pki, link};
use crate::config::model::{ClientAuth, ListenerTls, TlsVersion};
use crate::tls::{Role, Server};

fn files(certificate: &Path, key: Option<&Path>) -> ListenerTls {
    ListenerTls {
        certificate: certificate.to_owned(),
        key: key.map(Path::to_owned),
        client_auth: ClientAuth::Off,
        client_ca: Vec::new(),
        crl: Vec::new(),
        min_version: TlsVersion::Tls12,
    }
}

fn compile(tls: ListenerTls) -> Result<std::sync::Arc<Server>, String> {
    let server = Server::compile(&config(tls), None).map_err(|error| error.to_string())?;
    Ok(server.unwrap())
}

#[test]
fn every_form_of_key_is_read() {
    let pki = Pki::new();
    pki.guide(".");
    pki.shell(
        "openssl rsa -in client.key -traditional -out pkcs1.key
         openssl pkcs8 -topk8 -nocrypt -in client.key -out pkcs8.key
         for curve in P-256 P-384 P-521; do
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:$curve -nodes -subj /CN=x -keyout $curve.pk8 -out $curve.crt
             openssl ec -in $curve.pk8 -out $curve.key
             (openssl ecparam -name $curve; cat $curve.key) > $curve.openssl
         done
         openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -keyout ed25519.key -out ed25519.crt
         cat client.crt ca.crt pkcs1.key > all.pem
         cat pkcs1.key ca.crt client.crt > backwards.pem
         chmod 0620 client.key",
    );
    assert!(pki.read("pkcs1.key").contains("BEGIN RSA PRIVATE KEY"));
    assert!(pki.read("P-256.key").contains("BEGIN EC PRIVATE KEY"));
    for (certificate, key) in [
        ("client.crt", Some("client.key")),
        ("client.crt", Some("pkcs1.key")),
        ("client.crt", Some("pkcs8.key")),
        ("P-256.crt", Some("P-256.pk8")),
        ("P-256.crt", Some("P-256.key")),
        ("P-384.crt", Some("P-384.key")),
        ("P-521.crt", Some("P-521.key")),
        ("P-521.crt", Some("P-521.openssl")),
        ("ed25519.crt", Some("ed25519.key")),
        ("all.pem", None),
        ("backwards.pem", None),
    ] {
        let key = key.map(|key| pki.path(key));
        let result = compile(files(&pki.path(certificate), key.as_deref()));
        assert!(result.is_ok(), "{certificate}, {key:?}: {result:?}");
    }
    let server = compile(files(&pki.path("backwards.pem"), None)).unwrap();
    assert_eq!(server.warnings().len(), 1, "{:?}", server.warnings());
}

#[test]
fn a_directory_is_what_kubernetes_mounts() {
    let authority = Authority::new();
    for names in [
        ["tls.crt", "tls.key", "ca.crt"],
        ["client.crt", "client.key", "ca.crt"],
        ["server.crt", "server.key", "ca.crt"],
    ] {
        let pki = Pki::new();
        let mount = |version: &str, name: &str| {
            let server = authority.server("hnp.test");
            let parts = [&server.chain, &server.key, &authority.pem];
            for (file, text) in names.iter().zip(parts) {
                pki.write(&format!("{version}/{file}"), text);
            }
            link(version, &pki.path("..data"));
            for file in names {
                link(&format!("..data/{file}"), &pki.path(file));
            }
            let mut tls = files(&pki.path("."), None);
            tls.client_auth = ClientAuth::Strict;
            let server = compile(tls).unwrap();
            let pod = authority.client(name);
            let client = client(&authority.pem, Some(&pod), TLS13);
            let outcome = with(&client, "hnp.test", &server);
            assert_eq!(outcome.identity(&server).unwrap().name(), name);
            server.certificates().to_vec()
        };
        let loaded = mount("..2026_1", "one");
        let roles: Vec<Role> = loaded.iter().map(|one| one.role).collect();
        assert_eq!(roles, [Role::ClientCa, Role::Server]);
        assert_eq!(loaded[1].path, pki.path(".").join(names[0]));
        mount("..2026_2", "two");
    }
}

#[test]
fn what_does_not_do_is_said_with_the_file() {
    let pki = Pki::new();
    let authority = Authority::new();
    authority.server("hnp.test").write(&pki, "server.pem");
    let pod = authority.client("pod");
    pki.write("pod.crt", &pod.chain);
    pki.write("other.key", &authority.client("other").key);
    pki.write("empty", "");
    pki.write("cut.key", &pod.key[..80]);
    pki.write("text", "hello");
    pki.write(
        "damaged.crt",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    );
    pki.write(
        "damaged.key",
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
    );
    pki.write("pod.key", &pod.key);
    pki.guide("guide");
    pki.shell(
        "openssl pkey -in pod.key -aes256 -passout pass:x -out encrypted.key
         openssl rsa -in guide/client.key -aes128 -traditional -passout pass:x -out legacy.key
         openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=x -keyout short.key -out short.crt
         mkdir none",
    );
    let broken = [
        ("missing", None, "missing: cannot be read"),
        ("pod.crt", Some("missing"), "missing: cannot be read"),
        (
            "pod.crt",
            None,
            "pod.crt: holds no private key; name the key's file with `key`",
        ),
        ("pod.crt", Some("other.key"), "other.key: does not match"),
        ("pod.crt", Some("cut.key"), "cut.key: is not valid PEM"),
        (
            "pod.crt",
            Some("damaged.key"),
            "damaged.key: holds a private key that is damaged",
        ),
        (
            "pod.crt",
            Some("encrypted.key"),
            "encrypted.key: holds an encrypted private key",
        ),
        (
            "pod.crt",
            Some("legacy.key"),
            "legacy.key: holds an encrypted private key",
        ),
        ("pod.crt", Some("pod.crt"), "pod.crt: holds no private key"),
        (
            "short.crt",
            Some("short.key"),
            "short.key: holds a private key that is damaged or of a kind",
        ),
        ("pod.key", Some("pod.key"), "pod.key: holds no certificate"),
        (
            "damaged.crt",
            Some("pod.key"),
            "damaged.crt: certificate number 1 in it is malformed",
        ),
        ("empty", Some("pod.key"), "empty: holds no PEM block"),
        ("text", Some("pod.key"), "text: holds no PEM block"),
        (
            "none",
            None,
            "none: is a directory without tls.crt or server.crt or client.crt",
        ),
    ];
    for (certificate, key, said) in broken {
        let key = key.map(|key| pki.path(key));
        let error = compile(files(&pki.path(certificate), key.as_deref())).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(error.starts_with("listener: "), "{error}");
    }
    let authorities = [
        (
            "pod.crt",
            "pod.crt: CN=pod cannot be a CA: no basic constraint CA:TRUE",
        ),
        (
            "guide/client.crt",
            "cannot be a CA: X.509 v1 cannot say that it is a CA",
        ),
        ("pod.key", "pod.key: holds no certificate"),
        (
            "damaged.crt",
            "a certificate in it cannot be a CA: it is malformed",
        ),
    ];
    for (file, said) in authorities {
        let mut tls = listener(&pki, ClientAuth::Loose);
        tls.client_ca = vec![pki.path(file)];
        let error = compile(tls).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let mut tls = listener(&pki, ClientAuth::Loose);
    tls.client_ca.clear();
    let error = compile(tls).unwrap_err();
    assert!(
        error.contains("client-auth is loose, and no authority"),
        "{error}"
    );
}

#[test]
fn revocation_lists_that_do_not_do() {
    let pki = Pki::new();
    let authority = Authority::new();
    let no_lists = Authority::without_lists("No lists");
    authority.server("hnp.test").write(&pki, "server.pem");
    pki.write("clients.crt", &format!("{}{}", authority.pem, no_lists.pem));
    let week = Duration::days(7);
    let compiled = |list: &str| {
        let mut tls = listener(&pki, ClientAuth::Loose);
        tls.crl = vec![pki.write("crl.pem", list)];
        compile(tls)
    };
    let refused = [
        (authority.pem.clone(), "crl.pem: holds no revocation list"),
        (
            Authority::new().revoke(&[1], week),
            "is not signed by the authority whose name it has",
        ),
        (
            no_lists.revoke(&[1], week),
            "key usage does not include signing revocation lists",
        ),
        (
            "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n".to_owned(),
            "the revocation list in it is malformed",
        ),
    ];
    for (list, said) in refused {
        let error = compiled(&list).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let server = compiled(&Authority::named("Other").revoke(&[1], week)).unwrap();
    assert_eq!(server.warnings().len(), 1, "{:?}", server.warnings());
}

#[test]
fn the_end_of_each_is_known_and_warned_of() {
    let pki = Pki::new();
    let authority = Authority::new();
    let leaf = Leaf::server("hnp.test").days(-1, 13);
    authority.issue(&leaf).write(&pki, "server.pem");
    pki.write("clients.crt", &authority.pem);
    pki.write("crl.pem", &authority.revoke(&[], Duration::days(-1)));
    let mut tls = listener(&pki, ClientAuth::Strict);
    tls.crl.truncate(1);
    let server = compile(tls).unwrap();
    let now = UnixTime::now();
    let said: Vec<_> = server
        .certificates()
        .iter()
        .map(|one| {
            (
                one.role.as_str(),
                &*one.part,
                one.warning(now).unwrap_or_default(),
            )
        })
        .collect();
    let [ca, list, own] = said.as_slice() else {
        panic!("{said:?}");
    };
    assert_eq!((ca.0, ca.1, ca.2.as_str()), ("client-ca", "listener", ""));
    assert_eq!((list.0, list.1), ("crl", "listener"));
    assert!(list.2.contains("is past its next update"), "{}", list.2);
    assert_eq!((own.0, own.1), ("server", "listener"));
    assert!(own.2.contains("ends in 31"), "{}", own.2);
    let left = server.certificates()[2].seconds_left(now);
    assert!((12 * 86_400..=13 * 86_400).contains(&left), "{left}");

    let expired = Leaf::server("hnp.test").days(-2, -1);
    authority.issue(&expired).write(&pki, "server.pem");
    let server = compile(files(&pki.path("server.pem"), None)).unwrap();
    let warning = server.certificates()[0].warning(now).unwrap();
    assert!(warning.contains("has expired"), "{warning}");
}
