//! Which name a client asks for, by the first that it says: the SNI of a ClientHello, the `Host` of an HTTP/1 head.

use std::future::Future;
use std::io;
use std::time::Duration;

use crate::http::head::{HeadLimits, RequestParser};
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::tls;
use crate::uring;

/// What a client has said.
#[derive(Debug)]
pub(super) struct Seen {
    /// All that came, for whoever is served next.
    pub(super) received: Vec<u8>,
    /// The name in it.
    pub(super) name: Option<Box<str>>,
}

/// Bytes in which a name must be found.
const LONGEST: usize = 64 << 10;

/// How long the rest of a name may take whose beginning has come, where nothing depends on it.
const WHOLE: Duration = Duration::from_millis(100);

/// What begins a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads until the name is known, or it is known that there is none, or `limit` is over.
///
/// # Errors
/// The connection broke.
pub(super) async fn name(client: &Stream, head: &HeadLimits, limit: Duration) -> io::Result<Seen> {
    more(client, head, limit, Vec::new()).await
}

/// As [`name`], after what was received already.
async fn more(
    client: &Stream,
    head: &HeadLimits,
    limit: Duration,
    mut received: Vec<u8>,
) -> io::Result<Seen> {
    let mut name = None;
    let reading = async {
        let mut buffer = vec![0; 4096];
        loop {
            match look(&received, head) {
                Look::Found(found) => {
                    name = Some(found);
                    return Ok(());
                }
                Look::More if received.len() < LONGEST => {}
                Look::More | Look::Nothing => return Ok(()),
            }
            match client.read(&mut buffer).await? {
                0 => return Ok(()),
                got => received.extend_from_slice(&buffer[..got]),
            }
        }
    };
    // Who is silent has no name.
    match uring::timeout(limit, reading).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(Seen { received, name }),
    }
}

/// Listens for the name between two ends that are connected already, for those who observe: nobody waits for it. Who speaks second has
/// none; one whose name does not come at once keeps it to itself. Both may be silent `until` that is over.
///
/// # Errors
/// The client's connection broke.
pub(super) async fn overhear(
    client: &Stream,
    upstream: &Stream,
    head: &HeadLimits,
    until: impl Future<Output = ()>,
) -> io::Result<Seen> {
    let nothing = Seen {
        received: Vec::new(),
        name: None,
    };
    if upstream.may_have_more() {
        return Ok(nothing);
    }
    let mut received = vec![0; 4096];
    // It reads at once: whoever watched the client during the dial may have been told already that there is something.
    let got = tokio::select! {
        biased;
        got = client.read(&mut received) => got?,
        _ = upstream.readable() => return Ok(nothing),
        () = until => return Ok(nothing),
    };
    received.truncate(got);
    match got {
        0 => Ok(nothing),
        _ => more(client, head, WHOLE, received).await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Found(Box<str>),
    Nothing,
    More,
}

fn look(bytes: &[u8], limits: &HeadLimits) -> Look {
    match bytes {
        [] => Look::More,
        [TLS_HANDSHAKE, ..] => match tls::peek(bytes) {
            Ok(Some(hello)) => match hello.server_name {
                Some(name) => canonical(name.as_bytes()),
                None => Look::Nothing,
            },
            Ok(None) => Look::More,
            Err(_) => Look::Nothing,
        },
        // A method begins with a letter; no other protocol is known to begin so and to say a name.
        [first, ..] if first.is_ascii_uppercase() => {
            match RequestParser::new().parse(bytes, limits) {
                Ok(Some((head, _))) => match head.host() {
                    Some(host) => canonical(host),
                    None => Look::Nothing,
                },
                Ok(None) => Look::More,
                Err(_) => Look::Nothing,
            }
        }
        _ => Look::Nothing,
    }
}

/// As rules and targets have it; an address is no name.
fn canonical(host: &[u8]) -> Look {
    match Target::parse_authority_or(host, 80) {
        Ok(Target {
            host: Host::Name(name),
            ..
        }) => Look::Found(name),
        _ => Look::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::uring::{Mechanism, Socket};

    /// A stream of a worker's, and its peer.
    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (own, _) = listener.accept().unwrap();
        own.set_nonblocking(true).unwrap();
        let own = Socket::from_fd(OwnedFd::from(own)).unwrap();
        (own.into(), peer)
    }

    #[test]
    fn what_came_during_a_slow_dial_is_overheard() {
        for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
            let seen = uring::run(mechanism, async {
                let (client, mut application) = pair();
                let (upstream, _server) = pair();
                application
                    .write_all(b"GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n")
                    .unwrap();
                // As during a dial: the event that something has come goes to who asks whether the client is still there.
                let dial = uring::sleep(Duration::from_millis(50));
                tokio::select! {
                    () = dial => {}
                    error = client.broken() => panic!("{error}"),
                }
                let never = std::future::pending();
                let limits = HeadLimits::default();
                let heard = overhear(&client, &upstream, &limits, never);
                uring::timeout(Duration::from_secs(20), heard).await
            });
            let seen = seen.unwrap().expect("it is heard at once").unwrap();
            assert_eq!(seen.name.as_deref(), Some("slow.test"), "{mechanism:?}");
            assert!(seen.received.ends_with(b"slow.test\r\n\r\n"));
        }
    }
}
