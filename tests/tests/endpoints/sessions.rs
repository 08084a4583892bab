//! Sessions: resumed at the endpoint that they were made at, for as long as their certificate is trusted, and nowhere else.

use super::*;

/// A session at `account`'s endpoint with its certificate; the client's own store has its tickets afterwards.
fn visit(tls: &Tls, node: &Node, account: &Account) -> Secured<std::net::TcpStream> {
    let mut stream = tls.connect(node.address(), &account.host()).unwrap();
    let path = format!("/{}/head", account.name);
    assert_eq!(stream.get(&account.host(), &path).unwrap().status, 200);
    stream
}

#[test]
fn a_session_is_resumed_with_its_identity_at_its_own_endpoint() {
    let gateway = Gateway::new();
    let acme = &gateway.accounts[0];
    for auth in ClientAuth::BOTH {
        let node = gateway.start(auth);
        for versions in VERSIONS {
            let sessions = SharedSessions::new();
            let switch = Switch::on(acme.clients.valid());
            let tls = Tls::of(&[&gateway.authority], None, versions)
                .showing(switch.clone())
                .resuming(sessions.clone());
            assert!(!visit(&tls, &node, acme).resumed());
            // What is resumed needs no certificate: that was shown then.
            switch.off();
            // More often than there are workers: tickets are all workers' own.
            for _ in 0..6 {
                let mark = node.log().mark();
                let stream = visit(&tls, &node, acme);
                assert!(stream.resumed(), "{auth:?} {versions:?}\n{}", node.log());
                let line = node
                    .log()
                    .await_line_after(mark, &["status=200", "resumed=true"]);
                assert!(line.contains("identity=valid"), "{line}");
            }
        }
    }
}

#[test]
fn a_session_of_one_account_is_nothing_at_anothers_endpoint() {
    let gateway = Gateway::new();
    let [acme, beta, _] = &gateway.accounts[..] else {
        panic!()
    };
    for auth in ClientAuth::BOTH {
        let node = gateway.start(auth);
        for versions in VERSIONS {
            let context = format!("{auth:?} {versions:?}");
            let sessions = SharedSessions::new();
            let switch = Switch::on(acme.clients.valid());
            let tls = Tls::of(&[&gateway.authority], None, versions)
                .showing(switch.clone())
                .resuming(sessions.clone());
            visit(&tls, &node, acme);
            switch.off();
            let offered = sessions.offered();
            let mark = node.log().mark();
            let got = tls
                .connect(node.address(), &beta.host())
                .and_then(|mut stream| {
                    assert!(!stream.resumed(), "{context}: resumed");
                    stream.get(&beta.host(), "/beta/head")
                });
            // Not for want of a ticket.
            assert!(
                sessions.offered() > offered,
                "{context}: nothing was offered"
            );
            match auth {
                ClientAuth::Strict => assert_eq!(
                    got,
                    Err(Refusal::Alert(AlertDescription::CertificateRequired)),
                    "{context}"
                ),
                _ => {
                    assert_eq!(got.unwrap().status, 200, "{context}");
                    let sni = format!("sni={}", beta.host());
                    let line = node.log().await_line_after(mark, &[&sni, "status=200"]);
                    assert!(line.contains("resumed=false"), "{context}: {line}");
                    assert!(!line.contains("identity="), "{context}: {line}");
                }
            }
        }
    }
}

#[test]
fn openssl_offers_a_session_of_one_account_to_another() {
    let gateway = Gateway::new();
    let [acme, beta, _] = &gateway.accounts[..] else {
        panic!()
    };
    let node = gateway.start(ClientAuth::Strict);
    let directory = node.directory().to_owned();
    acme.clients.valid().write(&directory, "acme-client");
    fs::write(directory.join("gateway-ca.crt"), gateway.authority.pem()).unwrap();
    let s_client = |host: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        command
            .current_dir(&directory)
            .args(["s_client", "-ign_eof", "-CAfile", "gateway-ca.crt"])
            .args(["-verify_return_error", "-servername", host])
            .args(["-connect", &node.address().to_string()])
            .args(arguments);
        let path = host.split('.').next().unwrap();
        let request = directory.join("request");
        fs::write(
            &request,
            format!("GET /{path}/head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
        .unwrap();
        let input = fs::File::open(request).unwrap().into();
        let outcome = process::run_with(&mut command, DEADLINE, input, process::read_all);
        format!("{}\n{}", outcome.text(), outcome.stderr)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let first = s_client(
            &acme.host(),
            &[
                version,
                "-cert",
                "acme-client.crt",
                "-key",
                "acme-client.key",
                "-sess_out",
                "session.pem",
            ],
        );
        assert!(first.contains("HTTP/1.1 200"), "{first}");
        // At home it is resumed, without a certificate.
        let again = s_client(&acme.host(), &[version, "-sess_in", "session.pem"]);
        assert!(again.contains("Reused, "), "{again}");
        assert!(again.contains("HTTP/1.1 200"), "{again}");
        let abroad = s_client(&beta.host(), &[version, "-sess_in", "session.pem"]);
        assert!(!abroad.contains("Reused, "), "{abroad}");
        assert!(!abroad.contains("HTTP/1.1 200"), "{abroad}");
        assert!(abroad.contains("alert"), "{abroad}");
    }
}

#[test]
fn a_session_does_not_outlive_the_trust_in_its_certificate() {
    let gateway = Gateway::new();
    let acme = &gateway.accounts[0];
    for versions in VERSIONS {
        // Revoked, and then another authority in the place of the first.
        for file in ["acme.crl", "acme-ca.crt"] {
            let context = format!("{versions:?} {file}");
            let mut node = gateway.start(ClientAuth::Strict);
            let sessions = SharedSessions::new();
            let switch = Switch::on(acme.clients.valid());
            let tls = Tls::of(&[&gateway.authority], None, versions)
                .showing(switch.clone())
                .resuming(sessions.clone());
            visit(&tls, &node, acme);
            assert!(visit(&tls, &node, acme).resumed(), "{context}");
            let content = match file {
                "acme.crl" => acme.clients.authority.crl(&[acme.clients.valid()]),
                _ => gateway.accounts[1].clients.authority.pem().to_owned(),
            };
            hnp_tests::pki::authority::replace(&node.directory().join(file), content);
            node.signal(Signal::SIGHUP);
            node.log().await_line(&["reloaded"]);
            let got = tls.get(node.address(), &acme.host(), "/acme/head");
            assert!(matches!(got, Err(Refusal::Alert(_))), "{context}: {got:?}");
        }
    }
}

/// A ticket is good for hours, a certificate may end in between: the client is told, as it would be by a handshake.
#[test]
fn a_resumed_session_of_an_expired_certificate_is_refused_by_an_alert() {
    let gateway = Gateway::new();
    let acme = &gateway.accounts[0];
    let node = gateway.start(ClientAuth::Strict);
    for versions in VERSIONS {
        let left = Duration::from_secs(4);
        let pair = acme.clients.authority.issue(&Leaf {
            ends_in: Some(left),
            ..Leaf::default()
        });
        let ends = Instant::now() + left;
        let sessions = SharedSessions::new();
        let tls = Tls::of(&[&gateway.authority], Some(&pair), versions).resuming(sessions.clone());
        assert!(!visit(&tls, &node, acme).resumed());
        assert!(visit(&tls, &node, acme).resumed(), "{versions:?}");
        // The last second of its life counts whole.
        thread::sleep(ends + Duration::from_secs(1) - Instant::now());
        let (mark, offered) = (node.log().mark(), sessions.offered());
        let got = tls.get(node.address(), &acme.host(), "/acme/head");
        let expired = Refusal::Alert(AlertDescription::CertificateExpired);
        assert_eq!(got, Err(expired), "{versions:?}\n{}", node.log());
        assert_eq!(sessions.offered(), offered + 1, "{versions:?}");
        node.log().await_line_after(mark, &["expired"]);
    }
}
