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
    let mut received = Vec::new();
    let mut name = None;
    let reading = async {
        let mut buffer = vec![0; 4096];
        loop {
            let got = client.read(&mut buffer).await?;
            received.extend_from_slice(&buffer[..got]);
            match look(&received, head) {
                Look::Found(found) => {
                    name = Some(found);
                    return Ok(());
                }
                Look::More if got > 0 && received.len() < LONGEST => {}
                Look::More | Look::Nothing => return Ok(()),
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
    tokio::select! {
        biased;
        spoken = client.readable() => spoken?,
        _ = upstream.readable() => return Ok(nothing),
        () = until => return Ok(nothing),
    }
    name(client, head, WHOLE).await
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
