//! The one call that has no safe wrapper.
#![expect(
    unsafe_code,
    reason = "nix reads the type of a TLS record from a control message, but cannot write it into one"
)]

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Room for one control message with a byte in it, aligned for its header.
#[repr(C, align(8))]
struct Control([u8; 32]);

/// Has the kernel seal `bytes` as a record of its own of this content type. A record that fits is sent whole or not at all.
///
/// # Errors
/// `WouldBlock` where there is no room; the kernel's.
pub(in crate::tls) fn send_record(socket: &impl AsFd, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(bytes)];
    let mut control = Control([0; 32]);
    // SAFETY: an all-zero msghdr is a valid one: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes: 24 bytes for one, which `Control` has.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as _;
    // SAFETY: `message` names 24 bytes of control data, so that there is room for one header, which is aligned by `Control`; header
    // and data are written within them.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        *libc::CMSG_DATA(header) = kind;
    }
    let fd = socket.as_fd().as_raw_fd();
    loop {
        // SAFETY: `parts`, of the ABI of iovec, the bytes that it names and `control` live to the end of the call, which only reads
        // them; the kernel keeps no pointer once it has returned.
        let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::Error::other("the kernel cut a TLS record")),
            Err(_) => {}
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
