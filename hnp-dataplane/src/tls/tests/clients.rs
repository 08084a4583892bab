//! What clients show, against LOOSE and STRICT, in TLS 1.2 and 1.3.

use rcgen::{KeyPair, RsaKeySize};
use rustls::AlertDescription as Alert;
use time::Duration;

use super::handshake::{TLS12, TLS13, client, with};
use super::pki::{Authority, Leaf, Pki, Shown};
use crate::config::model::{ClientAuth, Config, ListenerTls, Mode, TlsVersion};
use crate::tls::Server;

/// What a client shows, and what comes of it: its name, or an alert.
struct Case {
    what: &'static str,
    shown: Shown,
    outcome: Result<&'static str, Alert>,
}

/// A server whose clients are of three authorities, two of which have the same name: a v3 one of rcgen's, the guide's, and an intermediate
/// whose root is not known to it.
struct Scene {
    pki: Pki,
    authority: Authority,
    cases: Vec<Case>,
}

pub(super) fn listener(pki: &Pki, auth: ClientAuth) -> ListenerTls {
    ListenerTls {
        certificate: pki.path("server.pem"),
        key: None,
        client_auth: auth,
        client_ca: vec![pki.path("clients.crt")],
        crl: vec![pki.path("crl.pem"), pki.path("guide/crl.pem")],
        min_version: TlsVersion::Tls12,
    }
}

pub(super) fn config(tls: ListenerTls) -> Config {
    let mut config = Config {
        modes: vec![Mode::EndToEndMtls],
        ..Config::default()
    };
    config.listener.tls = Some(tls);
    config
}

impl Scene {
    fn new() -> Self {
        let pki = Pki::new();
        let authority = Authority::new();
        authority.server("hnp.test").write(&pki, "server.pem");
        let guide = pki.guide("guide");
        let mut cases = Vec::new();
        let mut add = |what, shown, outcome| {
            cases.push(Case {
                what,
                shown,
                outcome,
            });
        };

        add("v3", authority.client("pod"), Ok("pod"));
        for (what, key) in [
            ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
            ("Ed25519", &rcgen::PKCS_ED25519),
        ] {
            add(
                what,
                authority.issue(&Leaf::client("pod").key(key)),
                Ok("pod"),
            );
        }
        for (what, size) in [
            ("RSA 2048", RsaKeySize::_2048),
            ("RSA 3072", RsaKeySize::_3072),
            ("RSA 4096", RsaKeySize::_4096),
        ] {
            let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
            let leaf = Leaf::client("pod").with_key(key);
            add(what, authority.issue(&leaf), Ok("pod"));
        }
        let below = authority.intermediate("Below");
        let chain = below.client("pod").and(&below.pem);
        add("below an intermediate", chain, Ok("pod"));
        add(
            "without its intermediate",
            below.client("pod"),
            Err(Alert::UnknownCA),
        );
        let leaf = Leaf::client("pod").days(-10, -1);
        add(
            "expired",
            authority.issue(&leaf),
            Err(Alert::CertificateExpired),
        );
        let leaf = Leaf::client("pod").days(1, 10);
        add(
            "not yet valid",
            authority.issue(&leaf),
            Err(Alert::CertificateExpired),
        );
        let leaf = Leaf::client("pod").serial(77);
        add(
            "revoked",
            authority.issue(&leaf),
            Err(Alert::CertificateRevoked),
        );
        let other = Authority::named("Other");
        add(
            "of another authority",
            other.client("pod"),
            Err(Alert::UnknownCA),
        );
        add(
            "of another authority, which is shown too",
            other.client("pod").and(&other.pem),
            Err(Alert::UnknownCA),
        );
        let namesake = Authority::new();
        add(
            "of a namesake",
            namesake.client("pod"),
            Err(Alert::UnknownCA),
        );
        add(
            "for servers",
            authority.server("pod"),
            Err(Alert::UnsupportedCertificate),
        );
        let client = authority.client("pod");
        let below_client = Authority::of(&client).client("pod").and(&client.chain);
        add(
            "as an authority",
            below_client,
            Err(Alert::CertificateUnknown),
        );
        let leaf = Leaf::client("pod").change(|params| {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        add(
            "an authority's own",
            authority.issue(&leaf),
            Err(Alert::CertificateUnknown),
        );

        add("v1", guide, Ok("Client"));
        for (name, key) in [
            ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
            ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
            ("ed25519", "ed25519"),
            ("rsa4096", "rsa:4096"),
        ] {
            add(
                "v1 with other keys",
                pki.v1("guide", name, key, ""),
                Ok(name),
            );
        }
        let expired = pki.v1("guide", "old", "rsa:2048", "-days -1");
        add("v1 expired", expired, Err(Alert::CertificateExpired));
        let revoked = pki.v1("guide", "gone", "rsa:2048", "");
        pki.revoke("guide", "gone", "");
        add("v1 revoked", revoked, Err(Alert::CertificateRevoked));
        let sha1 = pki.v1("guide", "weak", "rsa:2048", "-sha1");
        add("v1 signed with SHA-1", sha1, Err(Alert::DecryptError));
        let elsewhere = pki.guide("elsewhere");
        add("v1 of a namesake", elsewhere.clone(), Err(Alert::UnknownCA));
        let other = pki.shown("elsewhere", "ca");
        add("a namesake itself", other, Err(Alert::CertificateUnknown));
        let v1 = pki.shown("guide", "client");
        let leaf = Authority::of(&v1).client("pod").and(&v1.chain);
        add("v1 as an authority", leaf, Err(Alert::UnknownCA));
        let more = authority.client("pod").and(&v1.chain);
        add("beside a v1 certificate", more, Ok("pod"));
        let mut broken = v1.clone();
        broken.key = elsewhere.key;
        add("v1 without its key", broken, Err(Alert::DecryptError));

        pki.write(
            "clients.crt",
            &format!("{}{}", authority.pem, pki.read("guide/ca.crt")),
        );
        pki.write("crl.pem", &authority.revoke(&[77], Duration::days(7)));
        Self {
            pki,
            authority,
            cases,
        }
    }

    fn server(&self, auth: ClientAuth) -> std::sync::Arc<Server> {
        let config = config(listener(&self.pki, auth));
        Server::compile(&config, None).unwrap().unwrap()
    }
}

#[test]
fn loose_and_strict_judge_what_is_shown_alike() {
    let scene = Scene::new();
    for auth in [ClientAuth::Loose, ClientAuth::Strict] {
        let server = scene.server(auth);
        for version in [TLS12, TLS13] {
            for case in &scene.cases {
                let what = format!("{}, {auth:?}, {:?}", case.what, version.version);
                let client = client(&scene.authority.pem, Some(&case.shown), version);
                let outcome = with(&client, "hnp.test", &server);
                match case.outcome {
                    Ok(name) => {
                        assert_eq!(outcome.server, Ok(()), "{what}");
                        let identity = outcome.identity(&server).unwrap();
                        assert_eq!(identity.name(), name, "{what}");
                    }
                    Err(alert) => {
                        assert!(outcome.server.is_err(), "{what}");
                        assert_eq!(outcome.alert(), Some(alert), "{what}: {outcome:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn only_strict_wants_a_certificate() {
    let scene = Scene::new();
    for version in [TLS12, TLS13] {
        let client = client(&scene.authority.pem, None, version);
        let server = scene.server(ClientAuth::Loose);
        let outcome = with(&client, "hnp.test", &server);
        assert_eq!(outcome.server, Ok(()));
        assert_eq!(outcome.identity(&server), None);
        let outcome = with(&client, "hnp.test", &scene.server(ClientAuth::Strict));
        assert_eq!(outcome.alert(), Some(Alert::CertificateRequired));
    }
}
