//! The client's first message, read before there is a configuration.

use std::io::{self, ErrorKind};

use rustls::AlertDescription;
use rustls::server::{Accepted, Acceptor};

use super::buffers::Buffers;
use super::{HandshakeError, Hello};
use crate::stream::Stream;

/// Longest first message that is waited for.
const LONGEST: usize = 64 << 10;

/// Waits until the first message is complete in the buffer, where it stays, and reads it.
pub(super) async fn read(lower: &Stream, buffers: &mut Buffers) -> Result<Hello, HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        if let Some(hello) = feed(&mut acceptor, &mut fed, buffers)? {
            return Ok(hello);
        }
        if fed > LONGEST {
            buffers
                .outgoing
                .extend_from_slice(&refusal(AlertDescription::DecodeError));
            let what = "the client's first message is too long";
            return Err(io::Error::new(ErrorKind::InvalidData, what).into());
        }
        if buffers.incoming.receive(lower).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
}

/// Feeds what has been received since the last time.
fn feed(
    acceptor: &mut Acceptor,
    fed: &mut usize,
    buffers: &mut Buffers,
) -> Result<Option<Hello>, HandshakeError> {
    while let mut rest = &buffers.incoming.filled()[*fed..]
        && !rest.is_empty()
    {
        // Reading from memory fails only when rustls' own buffer is full, and that means as much.
        *fed += acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Some(said(&accepted))),
            Err((error, mut alert)) => {
                let before = buffers.outgoing.len();
                // Writing to memory cannot fail.
                let _ = alert.write_all(&mut buffers.outgoing);
                // For what is no message at all, rustls has no alert.
                if buffers.outgoing.len() == before {
                    let alert = refusal(AlertDescription::DecodeError);
                    buffers.outgoing.extend_from_slice(&alert);
                }
                return Err(error.into());
            }
        }
    }
    Ok(None)
}

/// What the first message says, if it is complete in `bytes`, which begin with it.
///
/// # Errors
/// It is none.
pub fn peek(mut bytes: &[u8]) -> Result<Option<Hello>, rustls::Error> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        if acceptor.read_tls(&mut bytes).is_err() {
            return Err(rustls::Error::HandshakeNotComplete);
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Some(said(&accepted))),
            Err((error, _)) => return Err(error),
        }
    }
    Ok(None)
}

fn said(accepted: &Accepted) -> Hello {
    let hello = accepted.client_hello();
    Hello {
        server_name: hello
            .server_name()
            .map(|name| name.to_ascii_lowercase().into()),
        alpn: hello.alpn().into_iter().flatten().map(Box::from).collect(),
    }
}

/// A fatal alert before there are keys.
#[must_use]
pub fn refusal(alert: AlertDescription) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert.into()]
}
