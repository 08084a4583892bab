//! The commands of bpf(2) about links that aya keeps to itself.
#![expect(
    unsafe_code,
    reason = "aya 0.14 replaces the programs of XDP and TCX links only, and shows no link's descriptor"
)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `enum bpf_cmd` of the kernel's `bpf.h`.
const OBJ_GET: libc::c_long = 7;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// What is pinned there.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    /// The beginning of `union bpf_attr`, as `BPF_OBJ_*` have it.
    #[repr(C)]
    struct Get {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = call(
        OBJ_GET,
        &Get {
            pathname: path.as_ptr() as u64,
            bpf_fd: 0,
            file_flags: 0,
        },
    )?;
    // SAFETY: the kernel has just made it, for this call alone, and closes it on exec by itself.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program behind a link, in its place and all at once: whatever runs through the link sees the one or the other
/// (Linux 5.7, commit 0c991ebc8c69).
///
/// The kernel does not look at cgroup storage: a cgroup's link keeps the storage that it was attached with. A program that finds
/// none, or one of another map, reads what is not there. So both must use the same map of storage, or neither.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    /// As `BPF_LINK_UPDATE` has it.
    #[repr(C)]
    struct Update {
        link_fd: i32,
        new_prog_fd: i32,
        flags: u32,
        old_prog_fd: u32,
    }
    let attributes = Update {
        link_fd: link.as_raw_fd(),
        new_prog_fd: program.as_raw_fd(),
        flags: 0,
        old_prog_fd: 0,
    };
    call(LINK_UPDATE, &attributes).map(drop)
}

/// Detaches a link at once, whoever else holds it (Linux 5.9, commit 73b11c2ab072). Removing its last pin does the same, but later:
/// the kernel waits until nobody can be at the file any more.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    /// As `BPF_LINK_DETACH` has it.
    #[repr(C)]
    struct Detach {
        link_fd: i32,
    }
    let attributes = Detach {
        link_fd: link.as_raw_fd(),
    };
    call(LINK_DETACH, &attributes).map(drop)
}

/// `Attributes` must be the beginning of `union bpf_attr`, as the command has it: see bpf(2).
fn call<Attributes>(command: libc::c_long, attributes: &Attributes) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as it is told to during the call and takes the rest for zero; it writes to none of
    // them for these commands, and keeps no pointer. What they point to lives as long as the call, too.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as i32),
    }
}
