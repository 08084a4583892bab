//! Waiting on the control thread for a descriptor to become readable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is waited for, edge by edge: who waits reads all there is before waiting again.
pub(crate) struct Ready {
    fd: AsyncFd<OwnedFd>,
}

impl Ready {
    /// Of the file that `file` has open; the runtime is the one that this is called on.
    pub(crate) fn of(file: &impl AsFd) -> io::Result<Ready> {
        let fd = file.as_fd().try_clone_to_owned()?;
        #[expect(unsafe_code, reason = "tokio has no safe way to register a descriptor")]
        // SAFETY: an `OwnedFd` names an open file for as long as it lives; nobody replaces it in there.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
        Ok(Ready { fd })
    }

    /// Waits until there is something to read.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.fd.readable().await?.clear_ready();
        Ok(())
    }
}
