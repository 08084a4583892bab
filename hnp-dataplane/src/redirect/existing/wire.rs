//! Netlink's messages about sockets: `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Message types and flags.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// `INET_DIAG_CGROUP_ID`, which the kernel adds unasked since Linux 5.8.
const CGROUP_ID: u16 = 21;

/// States of TCP in which a program holds a connection: ESTABLISHED, SYN_SENT, FIN_WAIT1 and 2, CLOSE_WAIT.
const OPEN: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8;
const LISTEN: u8 = 10;

const HEADER: usize = 16;
/// `struct inet_diag_msg`, in front of the attributes.
const SOCKET: usize = 72;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4 = 2,
    V6 = 10,
}

/// `struct inet_diag_sockid`: addresses, and the cookie by which the kernel knows this very socket.
pub(super) type Id = [u8; 48];

/// One socket.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) family: Family,
    pub(super) listens: bool,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) cgroup: u64,
    pub(super) id: Id,
}

/// Asks for every open and listening socket.
pub(super) fn list(family: Family) -> Vec<u8> {
    request(
        SOCK_DIAG_BY_FAMILY,
        REQUEST | DUMP,
        family,
        OPEN | 1 << LISTEN,
        &[0; 48],
    )
}

/// Asks for the end of one.
pub(super) fn destroy(family: Family, id: &Id) -> Vec<u8> {
    request(SOCK_DESTROY, REQUEST | ACK, family, 0, id)
}

/// `struct inet_diag_req_v2` behind its header.
fn request(kind: u16, flags: u16, family: Family, states: u32, id: &Id) -> Vec<u8> {
    const LENGTH: u32 = (HEADER + 8 + size_of::<Id>()) as u32;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and sender: one question at a time, and the kernel knows who asks.
    bytes.extend([0; 8]);
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// What one read brings.
pub(super) enum Message<'a> {
    Data(&'a [u8]),
    /// The last one, with an errno or 0.
    End(i32),
}

pub(super) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 4)?;
        let data = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some(match kind {
            DONE | ERROR => Message::End(u32_at(data, 0).map_or(0, |code| -(code as i32))),
            _ => Message::Data(data),
        })
    }
}

/// The socket that a message tells about. One that no program holds any more has no inode, and is left out.
pub(super) fn found(message: &[u8]) -> Option<Found> {
    let family = match *message.first()? {
        2 => Family::V4,
        10 => Family::V6,
        _ => return None,
    };
    let id: Id = message.get(4..52)?.try_into().ok()?;
    let inode = u32_at(message, 68)?;
    let address = |at: usize| -> Option<IpAddr> {
        let bytes = id.get(at..at + 16)?;
        Some(match family {
            Family::V4 => Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?).into(),
            Family::V6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        })
    };
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    (inode != 0).then_some(Found {
        family,
        listens: message[1] == LISTEN,
        local: SocketAddr::new(address(4)?, port(0)),
        remote: SocketAddr::new(address(20)?, port(2)),
        cgroup: attribute(message.get(SOCKET..)?, CGROUP_ID).unwrap_or(0),
        id,
    })
}

/// An attribute that is a number of 64 bits.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<u64> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == wanted {
            return Some(u64::from_ne_bytes(value.try_into().ok()?));
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_or_nonsense_ends_the_reading() {
        for bytes in [&[0_u8; 16][..], &[255; 16], &[16, 0, 0], &[]] {
            assert!(Messages::new(bytes).all(|one| matches!(one, Message::Data([]))));
            assert!(found(bytes).is_none());
        }
        assert_eq!(attribute(&[0; 64], CGROUP_ID), None);
        assert_eq!(attribute(&[3, 0, 9, 0, 0], CGROUP_ID), None);
    }
}
