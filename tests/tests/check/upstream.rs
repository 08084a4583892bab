//! The group `upstream`: each step of the way to it, and what ends it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hnp_tests::dns::{Answer, NameServer};
use hnp_tests::manager::ClientAuth;
use hnp_tests::material::Material;
use hnp_tests::parent::{Manners, ParentProxy};
use hnp_tests::pki::Shown;
use hnp_tests::process::Process;
use hnp_tests::{Port, Server, node, wait};

use crate::Host;

#[test]
fn an_upstream_that_is_not_there() {
    let nobody = Port::take();
    Host::with_upstream(&format!("http://{}", nobody.address()))
        .check(&[])
        .fails(
            "upstream/connection",
            &["connection refused", "check the port"],
        );
}

#[test]
fn a_name_that_does_not_resolve_and_name_servers_that_do_not_answer() {
    let dns = NameServer::start().with_answer("silent.test", Answer::Silence);
    for (name, parts) in [
        ("missing.test", ["NXDOMAIN", "spelling"]),
        ("silent.test", ["did not answer within", "name servers"]),
    ] {
        let started = Instant::now();
        Host::new(&format!(
            "[upstream]\nurl = \"https://{name}\"\n{}",
            dns.config()
        ))
        .check(&[])
        .fails("upstream/name", &parts)
        .fails("upstream/name", &[name]);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
}

#[test]
fn an_upstream_that_says_nothing_is_not_waited_for_for_long() {
    let (silent, accepted) = Server::handing_over();
    let started = Instant::now();
    Host::with_upstream(&format!("https://{}", silent.address()))
        .check(&[])
        .fails("upstream/tls", &["not done within"]);
    // Whoever has connected was kept until here.
    drop(accepted);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_manager_of_another_authority_or_another_name() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let mut host = Host::with_upstream(&manager.url());
    host.config += "ca = \"other.crt\"\n";
    host.file("other.crt", material.pods.authority.pem());
    host.check(&[])
        .fails("upstream/tls", &["no authority that HNP knows", "`ca`"])
        .is_ok("upstream/connection");
    host = Host::with_manager(&manager.url(), None);
    host.config += "server-name = \"manager.test\"\n";
    host.check(&[])
        .fails("upstream/tls", &["not for manager.test", "server-name"]);
}

#[test]
fn a_manager_that_refuses_our_certificate_or_misses_one() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Strict);
    let nginx = material.nginx(ClientAuth::Strict);
    for url in [manager.url(), nginx.url()] {
        for version in ["1.2", "1.3"] {
            let with = |shown| {
                let mut host = Host::with_manager(&url, material.agents.pair(shown));
                host.config += &format!("min-version = \"{version}\"\n");
                host.check(&[])
            };
            with(Shown::Stranger).fails("upstream/client-certificate", &["trust the authority"]);
            with(Shown::Nothing).fails(
                "upstream/client-certificate",
                &["wants a client certificate", "set certificate and key"],
            );
            let found = with(Shown::V1);
            assert_eq!(found.code, 0, "{found:#?}");
            found.is_ok("upstream/client-certificate");
        }
    }
}

#[test]
fn an_upstream_of_http2_alone() {
    let material = Material::shared();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = material.server.write(directory.path(), "server");
    for secure in [true, false] {
        let port = Port::take();
        let mut nghttpd = Command::new("nghttpd");
        nghttpd
            .arg("--address=127.0.0.1")
            .arg(port.number().to_string());
        match secure {
            true => nghttpd.arg(&key).arg(&certificate),
            false => nghttpd.arg("--no-tls"),
        };
        let child = nghttpd.stdin(Stdio::null()).spawn();
        let _nghttpd = Process::new(child.expect("`cargo xtask test` installs nghttpd"));
        wait::until("nghttpd to listen", || {
            match node::is_listening(port.number()) {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
        let host = match secure {
            true => Host::with_manager(&format!("https://{}", port.address()), None),
            false => Host::new(&format!(
                "[upstream]\nurl = \"http://{}\"\nprotocol = \"h2\"\n",
                port.address()
            )),
        };
        let found = host.check(&[]);
        assert_eq!(found.code, 0, "{found:#?}");
        found.says("upstream/answer", "ok", &["HTTP/2"]);
    }
}

#[test]
fn what_a_parent_proxy_answers_is_explained() {
    let material = Material::shared();
    let manager = material.manager(ClientAuth::Off);
    let through = |manners, user: &str| {
        let parent = ParentProxy::start(manners);
        let mut host = Host::with_manager(&manager.url(), None);
        let address = parent.server.address();
        host.config += &format!("[upstream.parent]\nurl = \"http://{user}{address}\"\n");
        host.check(&[])
    };
    let authenticate = || Manners::Authenticate(manager.address(), "Basic dXNlcjpwYXNz".to_owned());
    through(authenticate(), "").fails("upstream/parent", &["407", "username and password-file"]);
    let found = through(authenticate(), "user:pass@");
    assert_eq!(found.code, 0, "{found:#?}");
    found.is_ok("upstream/parent").is_ok("upstream/tls");
    through(Manners::Answer("HTTP/1.1 403 No\r\n\r\n"), "")
        .fails("upstream/parent", &["refuses the target (403)", "policy"]);
    through(Manners::Answer("HTTP/1.1 502 No\r\n\r\n"), "")
        .fails("upstream/parent", &["cannot reach"]);
    through(Manners::Answer("SSH-2.0-x\r\n"), "").fails("upstream/parent", &["host and port"]);
}

#[test]
fn an_endpoints_upstream_is_tried_as_well() {
    let material = Material::shared();
    let nobody = Port::take();
    let host = Host::new(&format!(
        "[[endpoints]]\nserver-name = \"acme.test\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\nprefix = \"/acme\"\nupstream = \"http://{}\"\n",
        nobody.address()
    ));
    let pair = material.hnp.server(&["acme.test"]);
    host.file("a.crt", &pair.certificate);
    host.file("a.key", &pair.key);
    host.check(&[])
        .fails("upstream/connection", &["upstream of acme.test", "refused"])
        .says(
            "certificates/server-certificate",
            "ok",
            &["endpoint acme.test"],
        );
}

#[test]
fn an_upstream_that_policy_denies() {
    Host::new(
        "[upstream]\nurl = \"http://127.0.0.1:9\"\n[[policy.deny]]\ncidrs = [\"127.0.0.0/8\"]\n",
    )
    .check(&[])
    .fails("upstream/policy", &["policy.deny"]);
}
