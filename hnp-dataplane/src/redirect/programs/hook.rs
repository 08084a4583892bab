//! The programs in the object, and the hooks that they are for.

use std::fs::File;

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSockAddr, ProgramError, ProgramFd, ProgramInfo, SockOps,
        links::FdLink,
    },
};
use hnp_common::{
    CONNECT4, CONNECT6, GETPEERNAME4, GETPEERNAME6, GETSOCKNAME4, GETSOCKNAME6, SENDMSG4, SENDMSG6,
    SOCK_OPS,
};

/// A program, and the hook it is for.
#[derive(Debug)]
pub(in crate::redirect) struct Hook {
    /// Its name in the object.
    pub(in crate::redirect) name: &'static str,
    /// The ELF section that says which hook it is for.
    pub(super) section: &'static str,
    /// The number of the attachment's type (`enum bpf_attach_type`), where the program reads the policy: under this, the
    /// kernel keeps it.
    pub(super) policy: Option<u32>,
    /// Whether it is needed only where QUIC is refused.
    pub(in crate::redirect) quic: bool,
}

const fn hook(name: &'static str, section: &'static str, policy: Option<u32>, quic: bool) -> Hook {
    Hook {
        name,
        section,
        policy,
        quic,
    }
}

/// In the order in which they are attached: what redirects comes last, when all that it relies on is there.
pub(in crate::redirect) const HOOKS: [Hook; 9] = [
    hook(SOCK_OPS, "sockops", None, false),
    hook(GETPEERNAME4, "cgroup/getpeername4", None, false),
    hook(GETPEERNAME6, "cgroup/getpeername6", None, false),
    hook(GETSOCKNAME4, "cgroup/getsockname4", None, false),
    hook(GETSOCKNAME6, "cgroup/getsockname6", None, false),
    hook(SENDMSG4, "cgroup/sendmsg4", Some(14), true),
    hook(SENDMSG6, "cgroup/sendmsg6", Some(15), true),
    hook(CONNECT4, "cgroup/connect4", Some(10), false),
    hook(CONNECT6, "cgroup/connect6", Some(11), false),
];

impl Hook {
    pub(super) fn load(&self, ebpf: &mut Ebpf) -> Result<(), ProgramError> {
        match self.sock_ops(ebpf) {
            Some(program) => program?.load(),
            None => self.sock_addr(ebpf)?.load(),
        }
    }

    /// The loaded program.
    pub(super) fn loaded<'a>(
        &self,
        ebpf: &'a Ebpf,
    ) -> Result<(ProgramInfo, &'a ProgramFd), ProgramError> {
        let program = ebpf.program(self.name).ok_or(ProgramError::NotLoaded)?;
        Ok((program.info()?, program.fd()?))
    }

    pub(super) fn attach(&self, ebpf: &mut Ebpf, cgroup: &File) -> Result<FdLink, ProgramError> {
        // With links, the kernel takes no flags (`Single`), and many may be attached all the same.
        let mode = CgroupAttachMode::Single;
        let link = match self.sock_ops(ebpf) {
            Some(program) => {
                let program = program?;
                let id = program.attach(cgroup, mode)?;
                program.take_link(id)?.try_into()
            }
            None => {
                let program = self.sock_addr(ebpf)?;
                let id = program.attach(cgroup, mode)?;
                program.take_link(id)?.try_into()
            }
        };
        // Fails before Linux 5.7 only, which has no such links.
        link.map_err(|_| ProgramError::UnexpectedProgramType)
    }

    fn sock_ops<'a>(&self, ebpf: &'a mut Ebpf) -> Option<Result<&'a mut SockOps, ProgramError>> {
        (self.name == SOCK_OPS).then(|| {
            let program = ebpf.program_mut(self.name);
            program.ok_or(ProgramError::NotLoaded)?.try_into()
        })
    }

    fn sock_addr<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut CgroupSockAddr, ProgramError> {
        let program = ebpf.program_mut(self.name);
        program.ok_or(ProgramError::NotLoaded)?.try_into()
    }
}
