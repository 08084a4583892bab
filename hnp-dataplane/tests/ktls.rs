//! TLS streams and relays where the kernel does TLS (kTLS), with rustls' own connections as peers.
//!
//! On a kernel without it the same tests run, with the records made by HNP: each says which it was. With `HNP_EXPECT_KTLS=1` the
//! kernel must have it. `cargo xtask vm ktls` runs this program that way on kernels that do; it needs nothing but loopback,
//! io_uring and the modules for the ciphers (see there).

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use hnp_dataplane::relay::{Bounds, End, Ledger, Leg, Pools, relay};
use hnp_dataplane::signal::Signal;
use hnp_dataplane::stream::Stream;
use hnp_dataplane::tls::{self, RecordError, TlsStream, ktls};
use hnp_dataplane::uring::{self, Mechanism, Socket};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedCipherSuite,
};
use socket2::SockRef;

const BOTH: [Mechanism; 2] = [Mechanism::IoUring, Mechanism::Epoll];
const NAME: &str = "node.example";

#[test]
fn the_kernel_has_tls_where_it_must() {
    let expected = std::env::var("HNP_EXPECT_KTLS").is_ok_and(|value| value == "1");
    println!("{}", path());
    assert!(
        !expected || ktls::supported(),
        "this kernel should have TLS"
    );
}

#[test]
fn accepts_and_echoes() {
    for mechanism in BOTH {
        for suite in suites() {
            let (client, server) = (client(suite), server(suite));
            let data = pattern(1 << 20, 1);
            let sent = data.clone();
            let peer = move |socket| {
                let mut tls = client_peer(client, socket);
                let mut back = vec![0; sent.len()];
                // In two goes: what comes with the handshake's end is opened by HNP itself.
                let (first, second) = sent.split_at(1000);
                tls.write_all(first).unwrap();
                tls.read_exact(&mut back[..1000]).unwrap();
                tls.write_all(second).unwrap();
                tls.read_exact(&mut back[1000..]).unwrap();
                assert!(back == sent, "what came back differs");
                tls.conn.send_close_notify();
                tls.flush().unwrap();
                assert_eq!(
                    tls.read(&mut [0; 8]).unwrap(),
                    0,
                    "close_notify, not only a FIN"
                );
            };
            against(mechanism, peer, async |lower| {
                let stream = Stream::from(accept(lower, server).await);
                let mut got = Vec::new();
                let mut buffer = vec![0; 65_600];
                while got.len() < data.len() {
                    let room = if got.len() < 1000 { 1000 } else { buffer.len() };
                    let n = stream.read(&mut buffer[..room]).await.unwrap();
                    assert!(n > 0);
                    got.extend_from_slice(&buffer[..n]);
                    if got.len() <= 1000 {
                        stream.write_all(&got).await.unwrap();
                    }
                }
                assert!(got == data, "what came differs");
                assert_path(&stream, suite);
                stream.write_all(&got[1000..]).await.unwrap();
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
                stream.shutdown_write().unwrap();
                assert!(stream.try_write(b"x").is_err());
            });
        }
    }
}

/// The tickets come as handshake records behind the handshake.
#[test]
fn connects_and_resumes() {
    for suite in suites() {
        let (client, server) = (client(suite), server(suite));
        for resumed in [false, true] {
            let server = Arc::clone(&server);
            let peer = move |socket| {
                let mut tls = server_peer(server, socket);
                let mut there = [0; 10];
                tls.read_exact(&mut there).unwrap();
                tls.write_all(&there).unwrap();
                tls.conn.send_close_notify();
                tls.flush().unwrap();
                assert_eq!(tls.read(&mut [0; 8]).unwrap(), 0);
                tls.conn.handshake_kind()
            };
            let kind = against(BOTH[0], peer, async |lower| {
                let stream = connect(lower, &client).await;
                assert_eq!(stream.session().resumed, resumed);
                let stream = Stream::from(stream);
                stream.write_all(b"0123456789").await.unwrap();
                // A byte at a time: the kernel's records must not be lost in buffers that are too small for them.
                for expected in b"0123456789" {
                    let mut byte = [0];
                    assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
                    assert_eq!(byte[0], *expected);
                }
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
                stream.shutdown_write().unwrap();
            });
            let expected = if resumed {
                HandshakeKind::Resumed
            } else {
                HandshakeKind::Full
            };
            assert_eq!(kind, Some(expected));
        }
    }
}

/// The kernel can begin only where a record does, and what came with the handshake ends anywhere.
#[test]
fn takes_over_behind_what_came_with_the_handshake() {
    for cut in [0, 3, 100, 16_000, 16_406, 30_000] {
        let suite = suites()[0];
        let (client, server) = (client(suite), server(suite));
        let data = pattern(100_000, 2);
        let sent = data.clone();
        let (go_on, wait) = std::sync::mpsc::channel();
        let peer = move |mut socket: TcpStream| {
            let mut tls = ClientConnection::new(client, name()).unwrap();
            let mut flight = Vec::new();
            while tls.is_handshaking() {
                socket.write_all(&flight).unwrap();
                flight.clear();
                while tls.wants_write() {
                    tls.write_tls(&mut flight).unwrap();
                }
                if tls.is_handshaking() {
                    socket.write_all(&std::mem::take(&mut flight)).unwrap();
                    tls.read_tls(&mut socket).unwrap();
                    tls.process_new_packets().unwrap();
                }
            }
            while tls.wants_write() {
                tls.write_tls(&mut flight).unwrap();
            }
            let finished = flight.len();
            tls.set_buffer_limit(None);
            tls.writer().write_all(&sent).unwrap();
            while tls.wants_write() {
                tls.write_tls(&mut flight).unwrap();
            }
            let (first, second) = flight.split_at(finished + cut);
            socket.write_all(first).unwrap();
            wait.recv().unwrap();
            socket.write_all(second).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap();
        };
        against(BOTH[0], peer, async |lower| {
            let stream = Stream::from(accept(lower, server).await);
            go_on.send(()).unwrap();
            let mut got = Vec::new();
            let mut buffer = vec![0; 5000];
            let error = loop {
                match stream.read(&mut buffer).await {
                    Ok(n) => got.extend_from_slice(&buffer[..n]),
                    Err(error) => break error,
                }
                if got.len() > 60_000 && got.len() < 80_000 {
                    assert_path_eventually(&stream, suite);
                }
            };
            assert!(
                got == data,
                "{} of {} bytes, cut at {cut}",
                got.len(),
                data.len()
            );
            // There was no close_notify.
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        });
    }
}

#[test]
fn a_damaged_record_is_answered_by_its_alert() {
    for suite in suites() {
        let (client, server) = (client(suite), server(suite));
        let peer = move |socket: TcpStream| {
            let mut raw = socket.try_clone().unwrap();
            let mut tls = client_peer(client, socket);
            tls.write_all(b"fine").unwrap();
            tls.read_exact(&mut [0; 2]).unwrap();
            let mut record = vec![23, 3, 3, 0, 60];
            record.resize(65, 7);
            raw.write_all(&record).unwrap();
            tls.read(&mut [0; 8]).unwrap_err().to_string()
        };
        let heard = against(BOTH[0], peer, async |lower| {
            let stream = Stream::from(accept(lower, server).await);
            let mut buffer = [0; 1000];
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
            stream.write_all(b"ok").await.unwrap();
            let error = stream.read(&mut buffer).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert!(stream.read(&mut buffer).await.is_err());
        });
        assert!(heard.contains("BadRecordMac"), "{heard}");
    }
}

/// Linux 6.14 learnt to renew keys; before, the connection ends with an error that says so.
#[test]
fn a_key_update_works_or_says_that_it_does_not() {
    let suite = suites()
        .into_iter()
        .find(|suite| suite.tls13().is_some())
        .unwrap();
    let works = !ktls::enabled() || kernel_at_least(6, 14);
    println!("{}; key updates work: {works}", path());
    let (client, server) = (client(suite), server(suite));
    let peer = move |socket| {
        let mut tls = client_peer(client, socket);
        tls.write_all(b"one").unwrap();
        tls.read_exact(&mut [0; 2]).unwrap();
        tls.conn.refresh_traffic_keys().unwrap();
        tls.write_all(b"two").unwrap();
        tls.flush().unwrap();
        let mut back = [0; 2];
        let read = tls.read_exact(&mut back).map_err(|e| e.to_string());
        assert_eq!(read.is_ok(), works, "{read:?}");
        if let Err(error) = read {
            assert!(error.contains("InternalError"), "{error}");
        }
    };
    against(BOTH[0], peer, async |lower| {
        let stream = Stream::from(accept(lower, server).await);
        let mut buffer = [0; 1000];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
        stream.write_all(b"ok").await.unwrap();
        match stream.read(&mut buffer).await {
            Ok(n) => {
                assert!(works);
                assert_eq!(&buffer[..n], b"two");
                stream.write_all(b"ok").await.unwrap();
            }
            Err(error) => {
                assert!(!works, "{error}");
                let error = error
                    .into_inner()
                    .unwrap()
                    .downcast::<RecordError>()
                    .unwrap();
                assert!(matches!(*error, RecordError::KeyUpdate), "{error}");
            }
        }
    });
}

/// A writer stalls until the peer reads, and what it had no room for at the end, `close_notify`, comes too.
#[test]
fn waits_for_room_and_ends_in_order() {
    for mechanism in BOTH {
        for suite in suites() {
            let (client, server) = (client(suite), server(suite));
            let data = pattern(8 << 20, 3);
            let expected = data.clone();
            let (full, wait) = std::sync::mpsc::channel();
            let peer = move |socket| {
                let mut tls = client_peer(client, socket);
                tls.write_all(b"x").unwrap();
                let sent: usize = wait.recv().unwrap();
                let mut got = Vec::new();
                // Fails where close_notify is missing.
                tls.read_to_end(&mut got).unwrap();
                println!("{sent} bytes were written, {} came", got.len());
                sent > 0 && got.len() >= sent && expected.starts_with(&got)
            };
            let complete = against(mechanism, peer, async |lower| {
                SockRef::from(lower.socket())
                    .set_send_buffer_size(64 << 10)
                    .unwrap();
                let stream = Stream::from(accept(lower, server).await);
                assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 1);
                let mut sent = 0;
                loop {
                    match stream.try_write(&data[sent..]) {
                        Ok(0) => panic!("more fits than there is"),
                        Ok(n) => sent += n,
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => panic!("{e}"),
                    }
                }
                stream.shutdown_write().unwrap();
                full.send(sent).unwrap();
                // The peer closes once it has everything.
                let ended = stream.read(&mut [0; 10]).await;
                assert!(matches!(&ended, Ok(0)) || ended.is_err());
            });
            assert!(complete, "{suite:?}");
        }
    }
}

struct Counts;

impl Ledger for Counts {
    fn sent_up(&self, _: usize) {}
    fn sent_down(&self, _: usize) {}
}

/// TLS on both sides: where the kernel does it, the relay splices.
#[test]
fn relays_between_tls_and_tls() {
    for mechanism in BOTH {
        for suite in suites() {
            let (near_client, far_client) = ends();
            let (near_upstream, far_upstream) = ends();
            let (client_config, server_config) = (client(suite), server(suite));
            let (ours, node) = (client(suite), server(suite));
            let len = 4 << 20;
            let (up, down) = (pattern(len, 4), pattern(len, 5));
            let client = thread::spawn({
                let (up, down) = (up.clone(), down.clone());
                move || {
                    let mut tls = client_peer(client_config, far_client);
                    tls.write_all(&up).unwrap();
                    tls.conn.send_close_notify();
                    tls.flush().unwrap();
                    let mut got = Vec::new();
                    tls.read_to_end(&mut got).unwrap();
                    assert!(got == down, "what came down differs: {} bytes", got.len());
                }
            });
            let upstream = thread::spawn(move || {
                let mut tls = server_peer(server_config, far_upstream);
                let mut got = Vec::new();
                tls.read_to_end(&mut got).unwrap();
                assert!(got == up, "what came up differs: {} bytes", got.len());
                tls.write_all(&down).unwrap();
                tls.conn.send_close_notify();
                tls.flush().unwrap();
                assert_eq!(tls.read(&mut [0; 1]).unwrap(), 0);
            });
            let pools = uring::run(mechanism, async {
                let client = accept(stream(near_client), node).await;
                let upstream = connect(stream(near_upstream), &ours).await;
                let client = Leg::new(client.into(), Vec::new());
                let upstream = Leg::new(upstream.into(), Vec::new());
                let pools = Pools::default();
                let stop = Signal::default();
                let bounds = Bounds {
                    idle: Duration::from_secs(60),
                    until: None,
                    stop: &stop,
                };
                let end = relay(&client, &upstream, &bounds, &pools, &Counts).await;
                assert!(matches!(end, End::Finished { .. }), "{end:?}");
                pools.counts()
            })
            .unwrap();
            client.join().unwrap();
            upstream.join().unwrap();
            println!("{} {suite:?} {}: {pools:?}", mechanism.name(), path());
            // Pipes that were used and came back empty.
            assert_eq!(pools.pipes_spare > 0, ktls::enabled(), "{pools:?}");
        }
    }
}

/// Which way the records of these tests go.
fn path() -> &'static str {
    if ktls::enabled() {
        "records: made by the kernel"
    } else {
        "records: made by HNP, for this kernel has no TLS"
    }
}

fn assert_path(stream: &Stream, suite: SupportedCipherSuite) {
    let in_kernel = stream.spliceable().is_some();
    println!("{suite:?}: {}", path());
    assert_eq!(in_kernel, ktls::enabled(), "{suite:?}");
}

fn assert_path_eventually(stream: &Stream, suite: SupportedCipherSuite) {
    // Something that is opened may wait here while the kernel has the rest.
    if stream.spliceable().is_some() {
        assert!(ktls::enabled(), "{suite:?}");
    }
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap().to_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
    (next(), next()) >= (major, minor)
}

fn suites() -> Vec<SupportedCipherSuite> {
    let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    // The server's key is of P-256.
    let fits = |suite: &SupportedCipherSuite| !format!("{suite:?}").contains("RSA");
    all.iter().copied().filter(fits).collect()
}

struct Pki {
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name
            .push(DnType::CommonName, "HNP test CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots
            .add(ca.self_signed(&ca_key).unwrap().der().clone())
            .unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        Pki {
            roots: Arc::new(roots),
            certificate: params.signed_by(&key, &issuer).unwrap().der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    })
}

fn provider(suite: SupportedCipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![suite];
    Arc::new(provider)
}

fn server(suite: SupportedCipherSuite) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pki().certificate.clone()], pki().key.clone_key())
        .unwrap();
    config.enable_secret_extraction = true;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

fn client(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(Arc::clone(&pki().roots))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

fn client_peer(
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

async fn accept(lower: Stream, config: Arc<ServerConfig>) -> TlsStream {
    tls::accept(lower, Vec::new(), |_| Ok(config))
        .await
        .unwrap()
}

async fn connect(lower: Stream, config: &Arc<ClientConfig>) -> TlsStream {
    tls::connect(lower, Arc::clone(config), name())
        .await
        .unwrap()
}

fn ends() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    // A test that hangs should say where.
    far.set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    (near, far)
}

fn stream(near: TcpStream) -> Stream {
    near.set_nonblocking(true).unwrap();
    Socket::from_fd(near.into()).unwrap().into()
}

/// Runs `test` on a worker's stream, while `peer` plays the other end on a thread of its own.
fn against<P: Send + 'static>(
    mechanism: Mechanism,
    peer: impl FnOnce(TcpStream) -> P + Send + 'static,
    test: impl AsyncFnOnce(Stream),
) -> P {
    let (near, far) = ends();
    let peer = thread::spawn(move || peer(far));
    uring::run(mechanism, async { test(stream(near)).await }).unwrap();
    peer.join().unwrap()
}

/// Bytes that do not repeat.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}
