//! What is not data: alerts, and handshake messages after the handshake.

use rustls::AlertDescription;

use super::RecordError;
use super::fault::broke;

/// The alert that ends a direction.
pub(super) const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// A `KeyUpdate` that asks for none in return (RFC 8446 section 4.6.3).
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// Longest handshake message that is accepted.
const LONGEST_MESSAGE: usize = 64 << 10;

/// What an alert asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Alert {
    /// The peer sends nothing more.
    CloseNotify,
    /// Nothing.
    Ignored,
}

/// Reads an alert (RFC 8446 section 6, RFC 5246 section 7.2).
pub(super) fn alert(payload: &[u8], tls13: bool) -> Result<Alert, RecordError> {
    let &[level, code] = payload else {
        return Err(broke(
            AlertDescription::DecodeError,
            "an alert of a wrong length",
        ));
    };
    match AlertDescription::from(code) {
        AlertDescription::CloseNotify => Ok(Alert::CloseNotify),
        AlertDescription::UserCanceled => Ok(Alert::Ignored),
        // TLS 1.3 has no warnings: whatever the level says, the rest is fatal.
        _ if level == 1 && !tls13 => Ok(Alert::Ignored),
        other => Err(RecordError::Alert(other)),
    }
}

/// A handshake message that may come after the handshake.
#[derive(Debug)]
pub(super) enum Message {
    /// A TLS 1.3 session ticket: the message's body.
    Ticket(Vec<u8>),
    /// The peer uses the next key from now on.
    KeyUpdate {
        /// And wants the same of us.
        requested: bool,
    },
    /// TLS 1.2: the peer wants to negotiate again.
    Renegotiation,
}

/// Takes the next complete message off `bytes`.
pub(super) fn next(
    bytes: &mut Vec<u8>,
    tls13: bool,
    client: bool,
) -> Result<Option<Message>, RecordError> {
    let &[kind, a, b, c, ..] = &bytes[..] else {
        return Ok(None);
    };
    let wanted = match (tls13, client) {
        (true, true) => kind == 4 || kind == 24,
        (true, false) => kind == 24,
        // HelloRequest and ClientHello.
        (false, true) => kind == 0,
        (false, false) => kind == 1,
    };
    if !wanted {
        let what = "a handshake message that does not belong here";
        return Err(broke(AlertDescription::UnexpectedMessage, what));
    }
    let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if len > LONGEST_MESSAGE || (kind == 24 && len != 1) || (kind == 0 && len != 0) {
        return Err(broke(
            AlertDescription::DecodeError,
            "a handshake message of a wrong length",
        ));
    }
    if bytes.len() < 4 + len {
        return Ok(None);
    }
    let mut message: Vec<u8> = bytes.drain(..4 + len).collect();
    Ok(Some(match kind {
        4 => Message::Ticket(message.split_off(4)),
        24 => {
            if !bytes.is_empty() {
                // RFC 8446 section 5.1: a message must not reach over a change of keys.
                let what = "something behind a KeyUpdate in its record";
                return Err(broke(AlertDescription::UnexpectedMessage, what));
            }
            let requested = match message[4] {
                0 => false,
                1 => true,
                _ => {
                    let what = "a KeyUpdate that says neither yes nor no";
                    return Err(broke(AlertDescription::IllegalParameter, what));
                }
            };
            Message::KeyUpdate { requested }
        }
        _ => Message::Renegotiation,
    }))
}
