//! `modes`: every subset against everything that a client may begin with. What is not listed is refused by naming the mode that would
//! serve it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::net::TcpStream;

use hnp_tests::exchange::{self, Response};
use hnp_tests::manager::{ClientAuth, Manager};
use hnp_tests::material::Material;
use hnp_tests::pki::Shown;
use hnp_tests::tls::Versions;
use hnp_tests::{Node, Server, origin};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Connect,
    Absolute,
    Origin,
    TlsConnect,
    TlsAbsolute,
    TlsOrigin,
    Garbage,
}

const ALL: [Begins; 7] = [
    Begins::Connect,
    Begins::Absolute,
    Begins::Origin,
    Begins::TlsConnect,
    Begins::TlsAbsolute,
    Begins::TlsOrigin,
    Begins::Garbage,
];

const MODES: [&str; 3] = ["tunnel", "reverse-proxy", "end-to-end-mtls"];

/// What is to come of it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Served {
        mode: &'static str,
    },
    /// Refused, and told of one of these modes.
    Refused {
        would_serve: &'static [&'static str],
    },
    /// Not HTTP at all.
    Malformed,
}

fn fate(begins: Begins, modes: &[&str]) -> Fate {
    let listed = |mode: &str| modes.contains(&mode);
    match begins {
        Begins::Garbage => Fate::Malformed,
        Begins::Connect | Begins::TlsConnect if listed("tunnel") => Fate::Served { mode: "tunnel" },
        Begins::Absolute | Begins::TlsAbsolute if listed("tunnel") => {
            Fate::Served { mode: "forward" }
        }
        Begins::Connect | Begins::TlsConnect | Begins::Absolute | Begins::TlsAbsolute => {
            Fate::Refused {
                would_serve: &["tunnel"],
            }
        }
        // The certificate tells.
        Begins::TlsOrigin if listed("end-to-end-mtls") => Fate::Served {
            mode: "end-to-end-mtls",
        },
        Begins::Origin | Begins::TlsOrigin if listed("reverse-proxy") => Fate::Served {
            mode: "reverse-proxy",
        },
        Begins::Origin => Fate::Refused {
            would_serve: &["reverse-proxy"],
        },
        Begins::TlsOrigin => Fate::Refused {
            would_serve: &["end-to-end-mtls", "reverse-proxy"],
        },
    }
}

struct Scene {
    node: Node,
    manager: Manager,
    plain: Server,
}

impl Scene {
    fn new(modes: &[&str]) -> Scene {
        let material = Material::shared();
        let manager = material.manager(ClientAuth::Strict);
        let node = material
            .node(ClientAuth::Loose, &manager.url(), Shown::Valid)
            .config(&format!("modes = {modes:?}"))
            .start();
        Scene {
            node,
            manager,
            plain: origin::plain(),
        }
    }

    /// Sends it; the response, from whomever it is.
    fn begin(&self, begins: Begins) -> Response {
        let plain = self.plain.address();
        let request = match begins {
            Begins::Connect | Begins::TlsConnect => {
                format!("CONNECT {plain} HTTP/1.1\r\nHost: {plain}\r\n\r\n")
            }
            Begins::Absolute | Begins::TlsAbsolute => format!(
                "GET http://{plain}/head HTTP/1.1\r\nHost: {plain}\r\nConnection: close\r\n\r\n"
            ),
            Begins::Origin | Begins::TlsOrigin => {
                "GET /head HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned()
            }
            // SOCKS 5.
            Begins::Garbage => "\x05\x01\x00\r\n\r\n".to_owned(),
        };
        let over_tls = matches!(
            begins,
            Begins::TlsConnect | Begins::TlsAbsolute | Begins::TlsOrigin
        );
        if over_tls {
            let stream = Material::shared()
                .pod(Shown::Valid, Versions::Both)
                .connect(self.node.address(), "localhost")
                .unwrap();
            self.ask(stream, begins, &request)
        } else {
            let stream = TcpStream::connect(self.node.address()).unwrap();
            stream.set_read_timeout(Some(hnp_tests::DEADLINE)).unwrap();
            self.ask(stream, begins, &request)
        }
    }

    fn ask(
        &self,
        mut stream: impl std::io::Read + std::io::Write,
        begins: Begins,
        request: &str,
    ) -> Response {
        stream.write_all(request.as_bytes()).unwrap();
        if !matches!(begins, Begins::Connect | Begins::TlsConnect) {
            return exchange::read_response(&mut stream).unwrap();
        }
        let mut response = exchange::read_response_head(&mut stream).unwrap();
        if response.status != 200 {
            exchange::read_body(&mut stream, &response.head, false, |part| {
                response.body.extend_from_slice(part);
            })
            .unwrap();
            return response;
        }
        stream
            .write_all(b"GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        exchange::read_response(&mut stream).unwrap()
    }
}

fn every_beginning_with(modes: &[&str]) {
    let scene = Scene::new(modes);
    for begins in ALL {
        let context = format!("{modes:?} {begins:?}");
        let mark = scene.node.log().mark();
        let (accepted, asked) = (scene.plain.accepted(), scene.manager.requests().len());
        let response = scene.begin(begins);
        match fate(begins, modes) {
            Fate::Served { mode } => {
                assert_eq!(response.status, 200, "{context}: {}", response.text());
                let field = format!("mode={mode} ");
                let line = scene
                    .node
                    .log()
                    .await_line_after(mark, &["log=access", "status=200"]);
                assert!(line.contains(&field), "{context}: {line}");
                let over_tls = format!("{begins:?}").starts_with("Tls");
                assert_eq!(
                    line.contains("identity=valid"),
                    over_tls,
                    "{context}: {line}"
                );
            }
            Fate::Refused { would_serve } => {
                let text = response.text();
                assert!(
                    matches!(response.status, 400 | 403),
                    "{context}: {response:?} {text}"
                );
                for mode in would_serve {
                    assert!(text.contains(mode), "{context}: no {mode} in {text}");
                }
                let proxy_status = response.header("proxy-status").unwrap_or_default();
                assert!(
                    proxy_status.starts_with("hnp; error="),
                    "{context}: {response:?}"
                );
                let status = format!("status={}", response.status);
                scene
                    .node
                    .log()
                    .await_line_after(mark, &["log=access", &status]);
                assert_eq!(scene.plain.accepted(), accepted, "{context}");
                assert_eq!(scene.manager.requests().len(), asked, "{context}");
            }
            Fate::Malformed => {
                assert_eq!(response.status, 400, "{context}: {response:?}");
            }
        }
    }
}

#[test]
fn one_mode() {
    for mode in MODES {
        every_beginning_with(&[mode]);
    }
}

#[test]
fn two_modes() {
    for left_out in MODES {
        let modes: Vec<&str> = MODES.into_iter().filter(|mode| *mode != left_out).collect();
        every_beginning_with(&modes);
    }
}

#[test]
fn all_modes() {
    every_beginning_with(&MODES);
}

/// Between two modes that could both serve it, the certificate decides what a request is called.
#[test]
fn without_a_certificate_a_request_over_tls_is_the_reverse_proxys_where_that_is_listed() {
    for (modes, mode) in [
        (&["reverse-proxy", "end-to-end-mtls"][..], "reverse-proxy"),
        (&["end-to-end-mtls"], "end-to-end-mtls"),
    ] {
        let scene = Scene::new(modes);
        let response = Material::shared()
            .pod(Shown::Nothing, Versions::Both)
            .get(scene.node.address(), "localhost", "/head")
            .unwrap();
        assert_eq!(response.status, 200, "{modes:?}");
        let line = scene.node.log().await_line(&["log=access", "status=200"]);
        assert!(line.contains(&format!("mode={mode} ")), "{modes:?}: {line}");
    }
}
