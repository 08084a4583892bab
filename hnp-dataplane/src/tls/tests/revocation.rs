//! Revocation lists, and what authorities may and may not.

use std::sync::Arc;

use rustls::AlertDescription as Alert;
use time::{Duration, OffsetDateTime};

use super::clients::{config, listener};
use super::handshake::{Outcome, TLS13, client, with};
use super::pki::{Authority, Leaf, Pki, Shown};
use crate::config::model::ClientAuth;
use crate::tls::Server;

const WEEK: Duration = Duration::days(7);

/// A listener of HNP's, with whom it lets in.
struct Scene {
    pki: Pki,
    own: Authority,
    server: Arc<Server>,
}

impl Scene {
    fn new(authorities: &[&str], lists: &[String]) -> Self {
        let pki = Pki::new();
        let own = Authority::named("HNP");
        own.server("hnp.test").write(&pki, "server.pem");
        pki.write("clients.crt", &authorities.concat());
        let mut tls = listener(&pki, ClientAuth::Loose);
        let lists = lists.iter().enumerate();
        tls.crl = lists
            .map(|(index, list)| pki.write(&format!("{index}.crl"), list))
            .collect();
        let server = Server::compile(&config(tls), None).unwrap().unwrap();
        Self { pki, own, server }
    }

    fn show(&self, shown: &Shown) -> Outcome {
        let client = client(&self.own.pem, Some(shown), TLS13);
        with(&client, "hnp.test", &self.server)
    }

    #[track_caller]
    fn lets_in(&self, shown: &Shown) {
        let outcome = self.show(shown);
        assert_eq!(outcome.server, Ok(()));
    }

    #[track_caller]
    fn refuses(&self, shown: &Shown, alert: Alert) {
        let outcome = self.show(shown);
        assert_eq!(outcome.alert(), Some(alert), "{outcome:?}");
    }
}

fn serial(serial: u64) -> Leaf {
    Leaf::client("pod").serial(serial)
}

#[test]
fn an_authority_without_a_list_revokes_nothing() {
    let (listed, other) = (Authority::named("Listed"), Authority::named("Other"));
    let scene = Scene::new(&[&listed.pem, &other.pem], &[listed.revoke(&[7], WEEK)]);
    scene.refuses(&listed.issue(&serial(7)), Alert::CertificateRevoked);
    scene.lets_in(&listed.issue(&serial(8)));
    scene.lets_in(&other.issue(&serial(7)));
}

/// As during the change from one authority to the next, made with the same commands.
#[test]
fn namesakes_have_lists_of_their_own() {
    let (old, new) = (Authority::new(), Authority::new());
    let lists = [old.revoke(&[7], WEEK), new.revoke(&[8], WEEK)];
    let scene = Scene::new(&[&old.pem, &new.pem], &lists);
    for (authority, gone, good) in [(&old, 7, 8), (&new, 8, 7)] {
        scene.refuses(&authority.issue(&serial(gone)), Alert::CertificateRevoked);
        scene.lets_in(&authority.issue(&serial(good)));
    }
}

#[test]
fn one_list_has_to_be_current_and_all_count() {
    let authority = Authority::new();
    let late = authority.revoke(&[7], Duration::hours(-1));
    let scene = Scene::new(&[&authority.pem], std::slice::from_ref(&late));
    scene.refuses(&authority.issue(&serial(7)), Alert::CertificateRevoked);
    scene.refuses(&authority.issue(&serial(9)), Alert::UnknownCA);
    let scene = Scene::new(&[&authority.pem], &[late, authority.revoke(&[8], WEEK)]);
    scene.refuses(&authority.issue(&serial(7)), Alert::CertificateRevoked);
    scene.refuses(&authority.issue(&serial(8)), Alert::CertificateRevoked);
    scene.lets_in(&authority.issue(&serial(9)));
}

#[test]
fn an_intermediate_revokes_and_is_revoked() {
    let authority = Authority::new();
    let below = authority.intermediate("Below");
    let chain = |serial_number| below.issue(&serial(serial_number)).and(&below.pem);
    let scene = Scene::new(&[&authority.pem], &[below.revoke(&[7], WEEK)]);
    assert_eq!(scene.server.warnings().len(), 1);
    scene.refuses(&chain(7), Alert::CertificateRevoked);
    scene.lets_in(&chain(8));
    // An authority's list of that name, by another key, says nothing.
    let namesake = authority.intermediate("Below");
    let scene = Scene::new(&[&authority.pem], &[namesake.revoke(&[7], WEEK)]);
    scene.lets_in(&chain(7));
    let own = below.serial();
    let scene = Scene::new(&[&authority.pem], &[authority.revoke_all(&[own], WEEK)]);
    scene.refuses(&chain(8), Alert::CertificateRevoked);
}

/// OpenSSL makes v1 lists unless it is told otherwise, and v2 with a number.
#[test]
fn lists_of_either_version_are_of_use() {
    for settings in ["", "crlnumber=crlnumber"] {
        let pki = Pki::new();
        pki.guide("guide");
        let gone = pki.v1("guide", "gone", "rsa:2048", "");
        let good = pki.shown("guide", "client");
        pki.revoke("guide", "gone", settings);
        let list = pki.read("guide/crl.pem");
        let scene = Scene::new(&[&pki.read("guide/ca.crt")], &[list]);
        scene.refuses(&gone, Alert::CertificateRevoked);
        scene.lets_in(&good);
        drop(scene.pki);
    }
}

#[test]
fn an_authority_that_has_expired_lets_nobody_in() {
    let expired = Authority::with("Expired", |params| {
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    });
    let scene = Scene::new(&[&expired.pem], &[]);
    scene.refuses(&expired.client("pod"), Alert::CertificateExpired);
    let pki = Pki::new();
    pki.shell(
        "mkdir v1; cd v1
         openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 1 -keyout ca.key -out now.crt
         openssl req -new -key ca.key -subj /CN=x -out ca.csr
         printf 'basicConstraints=CA:TRUE\\n' > ca.ext
         openssl x509 -req -in ca.csr -signkey ca.key -days -1 -extfile ca.ext -out ca.crt",
    );
    let pod = pki.v1("v1", "pod", "rsa:2048", "");
    let scene = Scene::new(&[&pki.read("v1/ca.crt")], &[]);
    scene.refuses(&pod, Alert::CertificateExpired);
    // Renewed, with the same key.
    let both = [pki.read("v1/ca.crt"), pki.read("v1/now.crt")].concat();
    Scene::new(&[&both], &[]).lets_in(&pod);
}

/// v1 has no field for the names that the authority may issue for.
#[test]
fn an_authority_for_certain_names_issues_no_v1() {
    let pki = Pki::new();
    pki.shell(
        "mkdir v1; cd v1
         openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -addext 'nameConstraints=critical,permitted;DNS:acme.test' -keyout ca.key -out ca.crt",
    );
    let pod = pki.v1("v1", "pod", "rsa:2048", "");
    let scene = Scene::new(&[&pki.read("v1/ca.crt")], &[]);
    scene.refuses(&pod, Alert::CertificateUnknown);
}
