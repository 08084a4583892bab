//! Handshakes with rustls' own buffered connections on the other side.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ServerConnection, StreamOwned};

use super::*;
use crate::tls::testing::{BOTH, NAME, Terms, against, ends, pattern, pki, stranger};

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

pub(super) fn client_peer(
    config: Arc<ClientConfig>,
    socket: TcpStream,
) -> StreamOwned<ClientConnection, TcpStream> {
    StreamOwned::new(ClientConnection::new(config, name()).unwrap(), socket)
}

fn server_peer(
    config: Arc<ServerConfig>,
    socket: TcpStream,
) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config).unwrap(), socket)
}

fn variants() -> Vec<Terms> {
    let mut all = Terms::all();
    for mut terms in [Terms::tls12(), Terms::tls13()] {
        terms.mutual = true;
        all.push(terms);
    }
    all
}

#[test]
fn accepts_every_suite_and_version_and_echoes() {
    for mechanism in BOTH {
        for terms in variants() {
            let mut server = terms.server();
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
            let server = Arc::new(server);
            let mut client = terms.client();
            client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let client = Arc::new(client);
            let peer = move |socket| {
                let mut tls = client_peer(client, socket);
                tls.write_all(b"ping").unwrap();
                let mut back = [0; 4];
                tls.read_exact(&mut back).unwrap();
                tls.conn.send_close_notify();
                tls.flush().unwrap();
                assert_eq!(
                    tls.read(&mut [0; 8]).unwrap(),
                    0,
                    "close_notify, not only a FIN"
                );
                back
            };
            let (session, back) = against(mechanism, peer, async |socket| {
                let stream = accept(socket, Vec::new(), |hello| {
                    assert_eq!(hello.server_name.as_deref(), Some(NAME));
                    assert_eq!(
                        hello.alpn,
                        [Box::from(*b"h2") as Box<[u8]>, Box::from(*b"http/1.1")]
                    );
                    Ok(server)
                });
                let stream = Stream::from(stream.await.unwrap());
                let mut buffer = [0; 64];
                let n = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..n]).await.unwrap();
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
                stream.shutdown_write().unwrap();
                stream.session().unwrap().clone()
            });
            assert_eq!(&back, b"ping");
            assert_eq!(session.version, terms.version.version);
            assert!(terms.suite.is_none_or(|suite| suite == session.suite));
            assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(session.server_name.as_deref(), Some(NAME));
            assert!(!session.resumed);
            if terms.mutual {
                assert_eq!(session.peer, [pki().client_certificate().clone()]);
            } else {
                assert_eq!(session.peer, []);
            }
        }
    }
}

#[test]
fn connects_with_every_suite_and_version_and_echoes() {
    for mechanism in BOTH {
        for terms in variants() {
            let server = Arc::new(terms.server());
            let client = Arc::new(terms.client());
            let peer = move |socket| {
                let mut tls = server_peer(server, socket);
                let mut there = [0; 4];
                tls.read_exact(&mut there).unwrap();
                tls.write_all(&there).unwrap();
                assert_eq!(
                    tls.read(&mut [0; 8]).unwrap(),
                    0,
                    "close_notify, not only a FIN"
                );
                tls.conn.send_close_notify();
                tls.flush().unwrap();
            };
            let (session, ()) = against(mechanism, peer, async |socket| {
                let stream = connect(socket, client, name()).await.unwrap();
                let stream = Stream::from(stream);
                stream.write_all(b"ping").await.unwrap();
                let mut buffer = [0; 64];
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
                assert_eq!(&buffer[..4], b"ping");
                stream.shutdown_write().unwrap();
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
                stream.session().unwrap().clone()
            });
            assert_eq!(session.version, terms.version.version);
            assert!(terms.suite.is_none_or(|suite| suite == session.suite));
            assert_eq!(session.server_name.as_deref(), Some(NAME));
            assert_eq!(session.peer, [pki().server_certificate().clone()]);
        }
    }
}

/// Writes and reads at once, so that neither side's buffers can fill for good.
fn exchange_big(terms: &Terms, len: usize) {
    let server = Arc::new(terms.server());
    let client = Arc::new(terms.client());
    let up = pattern(len, 1);
    let down = pattern(len, 2);
    let (there, back) = (up.clone(), down.clone());
    let peer = move |socket| {
        let mut tls = client_peer(client, socket);
        tls.write_all(&up).unwrap();
        let mut got = vec![0; down.len()];
        tls.read_exact(&mut got).unwrap();
        assert!(got == down, "what came down differs");
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    };
    let (got, ()) = against(BOTH[0], peer, async |socket| {
        let stream = accept(socket, Vec::new(), |_| Ok(server)).await.unwrap();
        let stream = Stream::from(stream);
        let mut got = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while got.len() < len {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "ended after {} of {len}", got.len());
            got.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(&back).await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        got
    });
    assert!(got == there, "what went up differs");
}

#[test]
fn moves_much_both_ways() {
    for terms in Terms::all() {
        exchange_big(&terms, (8 << 20) + 17);
    }
}

/// Connects twice with the same configurations: once in full, once resumed.
#[test]
fn resumes_what_clients_bring() {
    for terms in variants() {
        let server = Arc::new(terms.server());
        let client = Arc::new(terms.client());
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (client, server) = (Arc::clone(&client), Arc::clone(&server));
            let peer = move |socket| {
                let mut tls = client_peer(client, socket);
                // Reads the tickets, too.
                tls.read_exact(&mut [0; 2]).unwrap();
                assert_eq!(tls.conn.handshake_kind(), Some(expected));
            };
            let (session, ()) = against(BOTH[0], peer, async |socket| {
                let stream = accept(socket, Vec::new(), |_| Ok(server)).await.unwrap();
                let stream = Stream::from(stream);
                stream.write_all(b"ok").await.unwrap();
                stream.session().unwrap().clone()
            });
            assert_eq!(session.resumed, expected == HandshakeKind::Resumed);
            assert_eq!(session.peer.len(), usize::from(terms.mutual));
        }
    }
}

/// The tickets come behind the handshake, so that our own records must hand them to rustls.
#[test]
fn resumes_with_the_tickets_of_servers() {
    for terms in variants() {
        let server = Arc::new(terms.server());
        let client = Arc::new(terms.client());
        for resumed in [false, true] {
            let (client, server) = (Arc::clone(&client), Arc::clone(&server));
            let peer = move |socket| {
                let mut tls = server_peer(server, socket);
                tls.write_all(b"ok").unwrap();
                let _ = tls.read(&mut [0; 1]);
            };
            let (session, ()) = against(BOTH[0], peer, async |socket| {
                let stream = connect(socket, client, name()).await.unwrap();
                let stream = Stream::from(stream);
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 2);
                stream.session().unwrap().clone()
            });
            assert_eq!(session.resumed, resumed, "{:?}", session.suite);
            assert_eq!(session.peer.len(), 1);
        }
    }
}

/// What a client sends along with its last flight comes with the very read that ends the handshake.
#[test]
fn loses_nothing_that_came_with_the_last_flight() {
    for (terms, received) in [
        (Terms::tls13(), false),
        (Terms::tls12(), false),
        (Terms::tls13(), true),
    ] {
        for mechanism in BOTH {
            let server = Arc::new(terms.server());
            let client = Arc::new(terms.client());
            let body = pattern(40_000, 3);
            let sent = body.clone();
            let peer = move |mut socket: TcpStream| {
                let mut tls = ClientConnection::new(client, name()).unwrap();
                let mut last = Vec::new();
                while tls.is_handshaking() {
                    let mut flight = Vec::new();
                    while tls.wants_write() {
                        tls.write_tls(&mut flight).unwrap();
                    }
                    socket.write_all(&flight).unwrap();
                    tls.read_tls(&mut socket).unwrap();
                    tls.process_new_packets().unwrap();
                }
                tls.writer().write_all(&sent).unwrap();
                tls.send_close_notify();
                while tls.wants_write() {
                    tls.write_tls(&mut last).unwrap();
                }
                socket.write_all(&last).unwrap();
                socket.read_to_end(&mut Vec::new()).unwrap();
            };
            let (got, ()) = against(mechanism, peer, async |socket| {
                let mut first = Vec::new();
                if received {
                    first = vec![0; 100];
                    let n = socket.read(&mut first).await.unwrap();
                    first.truncate(n);
                }
                let stream = accept(socket, first, |_| Ok(server)).await.unwrap();
                let stream = Stream::from(stream);
                let mut got = Vec::new();
                let mut buffer = [0; 1000];
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => return got,
                        n => got.extend_from_slice(&buffer[..n]),
                    }
                }
            });
            assert!(got == body, "{} of {} bytes", got.len(), body.len());
        }
    }
}

#[test]
fn refuses_a_name_with_the_alert_that_was_chosen() {
    for mechanism in BOTH {
        let client = Arc::new(Terms::tls13().client());
        let peer = move |socket| client_peer(client, socket).write_all(b"x").unwrap_err();
        let (error, told) = against(mechanism, peer, async |socket| {
            let refused = accept(socket, Vec::new(), |_| {
                Err(AlertDescription::UnrecognisedName)
            });
            refused.await.unwrap_err()
        });
        assert!(
            matches!(&error, HandshakeError::UnknownName(Some(name)) if **name == *NAME),
            "{error}"
        );
        assert!(told.to_string().contains("UnrecognisedName"), "{told}");
    }
}

#[test]
fn tells_a_client_that_its_certificate_does_not_do() {
    for mechanism in BOTH {
        for mut terms in [Terms::tls12(), Terms::tls13()] {
            terms.mutual = true;
            let server = Arc::new(terms.server());
            let client = Arc::new(terms.client_of(stranger()));
            let peer = move |socket| {
                let mut tls = client_peer(client, socket);
                // With TLS 1.3 the client thinks that all is well, and sends more than is ever read.
                let written = tls.write_all(&[0; 100_000]);
                tls.read(&mut [0; 8]).and(written).unwrap_err()
            };
            let (error, told) = against(mechanism, peer, async |socket| {
                accept(socket, Vec::new(), |_| Ok(server))
                    .await
                    .unwrap_err()
            });
            assert!(
                matches!(
                    error,
                    HandshakeError::Tls(rustls::Error::InvalidCertificate(_))
                ),
                "{error}"
            );
            assert!(told.to_string().contains("UnknownCA"), "{told}");
        }
    }
}

#[test]
fn hears_that_its_certificate_does_not_do() {
    for mut terms in [Terms::tls12(), Terms::tls13()] {
        terms.mutual = true;
        let server = Arc::new(terms.server());
        let client = Arc::new(terms.client_of(stranger()));
        let peer = move |socket| {
            let mut tls = server_peer(server, socket);
            tls.read(&mut [0; 8]).unwrap_err()
        };
        let (error, _) = against(BOTH[0], peer, async |socket| {
            match connect(socket, client, name()).await {
                Err(error) => error.to_string(),
                Ok(stream) => {
                    let stream = Stream::from(stream);
                    let error = stream.read(&mut [0; 8]).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    error.to_string()
                }
            }
        });
        assert!(error.contains("UnknownCA"), "{error}");
    }
}

#[test]
fn tells_a_server_that_its_certificate_does_not_do() {
    let server = Arc::new(Terms::tls13().server());
    let client = Arc::new(Terms::tls13().client());
    let peer = move |socket| server_peer(server, socket).read(&mut [0; 8]).unwrap_err();
    let (error, told) = against(BOTH[0], peer, async |socket| {
        let other = ServerName::try_from("other.example").unwrap();
        connect(socket, client, other).await.unwrap_err()
    });
    assert!(
        matches!(
            error,
            HandshakeError::Tls(rustls::Error::InvalidCertificate(_))
        ),
        "{error}"
    );
    assert!(told.to_string().contains("alert"), "{told}");
}

/// Whoever leaves in the midst, talks something else, or too long.
#[test]
fn ends_when_the_client_does_not_speak_tls_or_leaves() {
    let endless = [22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    let endless = endless.into_iter().chain(vec![0; 100_000]).collect();
    let cases = [
        ("leaves at once", Vec::new(), true),
        ("leaves within its hello", vec![22, 3, 1, 1, 0, 1, 0], true),
        ("speaks HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("never ends its hello", endless, false),
    ];
    let server = Arc::new(Terms::tls13().server());
    for (case, bytes, closed) in cases {
        let server = Arc::clone(&server);
        let peer = move |mut socket: TcpStream| {
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.read_to_end(&mut Vec::new());
        };
        let (error, ()) = against(BOTH[0], peer, async |socket| {
            let accepted = accept(socket, Vec::new(), |_| Ok(server)).await;
            accepted.unwrap_err()
        });
        let as_closed = matches!(error, HandshakeError::Closed);
        assert_eq!(as_closed, closed, "{case}: {error:?}");
    }
}

#[test]
fn takes_a_handshake_byte_by_byte() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        let server = Arc::new(terms.server());
        let client = Arc::new(terms.client());
        let (near, far) = ends();
        let trickle = std::thread::spawn(move || {
            // Between the client and us stands one who passes single bytes on.
            let (client_side, client_end) = ends();
            let peer = std::thread::spawn(move || {
                let mut tls = client_peer(client, client_end);
                tls.write_all(b"ping").unwrap();
                let mut back = [0; 4];
                tls.read_exact(&mut back).unwrap();
                back
            });
            let (mut from, mut to) = (client_side.try_clone().unwrap(), far.try_clone().unwrap());
            let up = std::thread::spawn(move || {
                let mut byte = [0];
                while from.read(&mut byte).is_ok_and(|n| n == 1) {
                    if to.write_all(&byte).is_err() {
                        return;
                    }
                }
            });
            let (mut from, mut to) = (far, client_side);
            let mut byte = [0];
            while from.read(&mut byte).is_ok_and(|n| n == 1) {
                if to.write_all(&byte).is_err() {
                    break;
                }
            }
            let back = peer.join().unwrap();
            drop(to);
            let _ = up.join();
            back
        });
        near.set_nonblocking(true).unwrap();
        crate::uring::run(BOTH[0], async move {
            let socket = crate::uring::Socket::from_fd(near.into()).unwrap().into();
            let stream = accept(socket, Vec::new(), |_| Ok(server)).await.unwrap();
            let stream = Stream::from(stream);
            let mut buffer = [0; 64];
            let n = stream.read(&mut buffer).await.unwrap();
            stream.write_all(&buffer[..n]).await.unwrap();
            stream.shutdown_write().unwrap();
        })
        .unwrap();
        assert_eq!(&trickle.join().unwrap(), b"ping");
    }
}
