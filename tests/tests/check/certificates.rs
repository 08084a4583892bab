//! The group `certificates`: what cannot be loaded, is not valid, or is for something else.

use hnp_tests::manager::ClientAuth;
use hnp_tests::material::Material;
use hnp_tests::pki::{Leaf, Shown};

use crate::Host;

#[test]
fn certificates_that_end_are_said_in_time() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Loose);
    let with = |until: i64| {
        let pair = material.agents.authority.issue(&Leaf {
            name: "ending",
            from: -30,
            until,
            ..Leaf::default()
        });
        Host::with_manager(&manager.url(), Some(&pair)).check(&[])
    };
    let found = with(5);
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns("certificates/client-certificate", &["ending", "hours"]);
    with(-1)
        .fails("certificates/client-certificate", &["ending", "expired at"])
        .fails("upstream/client-certificate", &["CertificateExpired"]);
    let later = material.agents.authority.issue(&Leaf {
        name: "later",
        from: 2,
        ..Leaf::default()
    });
    Host::with_manager(&manager.url(), Some(&later))
        .check(&[])
        .fails(
            "certificates/client-certificate",
            &["not valid before", "clock"],
        );
}

#[test]
fn a_certificate_for_something_else_is_a_warning() {
    let material = Material::shared();
    let mut host = Host::new("");
    let client = material.pods.authority.client("no server");
    host.config += "[listener.tls]\ncertificate = \"c.crt\"\nkey = \"c.key\"\n";
    host.file("c.crt", &client.certificate);
    host.file("c.key", &client.key);
    let found = host.check(&[]);
    assert_eq!(found.code, 0, "{found:#?}");
    found.warns(
        "certificates/server-certificate",
        &["listener", "clientAuth", "issue it anew"],
    );
}

#[test]
fn every_pair_that_cannot_be_loaded_is_named() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let mut pair = material.agents.pair(Shown::Valid).unwrap().clone();
    pair.key = material.agents.pair(Shown::Revoked).unwrap().key.clone();
    let mut host = Host::with_manager(&manager.url(), Some(&pair));
    host.config += "[listener.tls]\ncertificate = \"junk.crt\"\nkey = \"junk.crt\"\n";
    host.file("junk.crt", "this is no PEM");
    host.check(&[])
        .fails(
            "certificates/loads",
            &[
                "upstream",
                "client.key",
                "does not match",
                "key that the certificate",
            ],
        )
        .fails("certificates/loads", &["listener", "junk.crt"])
        .fails("upstream/tried", &["certificates"]);
}
