//! The first bytes of a connection: what is spoken, and the handshake that begins where that is TLS.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hnp_dataplane::flow::first_bytes::{Protocol, detect};
use hnp_dataplane::stream::Stream;
use hnp_dataplane::tls::{self, HandshakeError, provider};
use hnp_dataplane::uring::{self, Mechanism, Socket};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// What is detected does not depend on how much more has come already.
pub fn detection(bytes: &[u8]) {
    let whole = detect(bytes);
    for length in 0..bytes.len().min(64) {
        let part = detect(&bytes[..length]);
        assert!(
            part.is_none() || part == whole,
            "{length} bytes are {part:?}, all of them {whole:?}"
        );
    }
}

/// A client that sends these bytes, the first `split` of them before HNP looks, and nothing more: its handshake comes to an end, and
/// never to a session, for nothing in them proves that the client knows a key.
pub fn handshake(bytes: &[u8], split: usize) {
    if detect(bytes) != Some(Protocol::Tls) {
        return;
    }
    let (received, rest) = bytes.split_at(split.clamp(1, bytes.len()));
    let (mut client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    // It holds far more than a fuzzer's input.
    client.write_all(rest).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let outcome = uring::run(Mechanism::Epoll, async {
        let socket = Stream::from(Socket::from_fd(server.into()).unwrap());
        let choose = |hello: &tls::Hello| {
            if let Some(name) = &hello.server_name {
                assert_eq!(**name, *name.to_ascii_lowercase());
            }
            Ok(Arc::clone(&SERVER))
        };
        let accepted = tls::accept(socket, received.to_vec(), choose);
        uring::timeout(Duration::from_secs(5), accepted).await
    });
    match outcome.unwrap() {
        Ok(Err(HandshakeError::UnknownName(_))) => panic!("nobody refused a name"),
        Ok(Err(_)) => {}
        Ok(Ok(_)) => panic!("a session with a client that cannot have a key"),
        Err(_) => panic!("a handshake that goes on after its client has left"),
    }
}

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["fuzz.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
});
