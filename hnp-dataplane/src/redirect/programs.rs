//! The programs in the kernel.

use std::{collections::BTreeMap, fs::File, path::Path};

use aya::{
    Ebpf,
    maps::PerCpuHashMap,
    programs::{CgroupAttachMode, CgroupSockAddr, cgroup_sock_addr::CgroupSockAddrLink},
};
use hnp_common::{CONNECT4, CONNECT6, CONNECTS, ConnectKey};

use super::{RedirectError, object};

/// The programs, each with the ELF section that says which hook it is for.
const HOOKS: [(&str, &str); 2] = [(CONNECT4, "cgroup/connect4"), (CONNECT6, "cgroup/connect6")];

/// HNP's programs, loaded and verified. Dropping this unloads them, as soon as nothing is attached any more.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
}

/// Programs attached to a cgroup. Dropping this detaches them.
#[derive(Debug)]
#[must_use = "the programs are detached when this is dropped"]
pub struct Attached {
    /// Each link holds a descriptor; the kernel detaches when the last one is closed.
    _links: Vec<CgroupSockAddrLink>,
}

impl Programs {
    /// Loads the embedded programs.
    ///
    /// # Errors
    /// When the build left them out, when privilege is missing, or when the verifier refuses one.
    pub fn load() -> Result<Self, RedirectError> {
        let object = object::embedded()?;
        let mut ebpf = Ebpf::load(object)
            .map_err(|error| RedirectError::of_object("create eBPF maps", error))?;
        for (name, _) in HOOKS {
            hook(&mut ebpf, name)?
                .load()
                .map_err(|error| RedirectError::of_program("load eBPF programs", name, error))?;
        }
        Ok(Self { ebpf })
    }

    /// Attaches the programs to a cgroup v2 directory: they then run for every process in it and below.
    ///
    /// # Errors
    /// When the directory cannot be opened or is no cgroup v2, or when privilege is missing.
    pub fn attach(&mut self, cgroup: &Path) -> Result<Attached, RedirectError> {
        let directory = File::open(cgroup).map_err(|error| RedirectError::Path {
            doing: "open the cgroup",
            path: cgroup.to_owned(),
            error,
        })?;
        let doing = format!("attach eBPF programs to {}", cgroup.display());
        let mut links = Vec::new();
        for (name, _) in HOOKS {
            let hook = hook(&mut self.ebpf, name)?;
            // With links, the kernel takes no flags (`Single`), and many may be attached all the same.
            let link = hook
                .attach(&directory, CgroupAttachMode::Single)
                .and_then(|id| hook.take_link(id))
                .map_err(|error| RedirectError::of_program(&doing, name, error))?;
            links.push(link);
        }
        Ok(Attached { _links: links })
    }

    /// How many `connect()` calls were made in the cgroups attached to, since loading.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn connects(&self) -> Result<BTreeMap<ConnectKey, u64>, RedirectError> {
        let doing = format!("read the eBPF map {CONNECTS}");
        let map = self
            .ebpf
            .map(CONNECTS)
            .ok_or_else(|| missing("map", CONNECTS))?;
        let map: PerCpuHashMap<_, ConnectKey, u64> = map
            .try_into()
            .map_err(|error| RedirectError::of_map(&doing, error))?;
        map.iter()
            .map(|entry| entry.map(|(key, per_cpu)| (key, per_cpu.iter().sum())))
            .collect::<Result<_, _>>()
            .map_err(|error| RedirectError::of_map(&doing, error))
    }

    /// What the kernel says of each loaded program, for people who tune them.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn reports(&self) -> Result<Vec<ProgramReport>, RedirectError> {
        let mut reports = Vec::new();
        for (name, program) in self.ebpf.programs() {
            let info = program.info().map_err(|error| {
                RedirectError::of_program("ask about eBPF programs", name, error)
            })?;
            reports.push(ProgramReport {
                name: name.to_owned(),
                section: HOOKS
                    .iter()
                    .find(|(hook, _)| *hook == name)
                    .map_or("", |(_, section)| section),
                translated: info
                    .size_translated()
                    .map(|bytes| bytes / INSTRUCTION_BYTES),
                verified: info.verified_instruction_count(),
                machine_code_bytes: info.size_jitted(),
            });
        }
        reports.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(reports)
    }
}

/// An eBPF instruction's size. Wide ones count as two.
const INSTRUCTION_BYTES: u32 = 8;

/// A loaded program, as the kernel sees it. A number is `None` where the kernel is too old to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramReport {
    /// Its name in the object.
    pub name: String,
    /// The ELF section it came in, which names the hook it is attached to.
    pub section: &'static str,
    /// Instructions after the kernel's rewriting.
    pub translated: Option<u32>,
    /// Instructions that the verifier walked through, on all paths; it gives up at a million.
    pub verified: Option<u32>,
    /// Size of what the just-in-time compiler made of it, in bytes; 0 when that is off.
    pub machine_code_bytes: u32,
}

fn hook<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr, RedirectError> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| missing("program", name))?;
    program
        .try_into()
        .map_err(|_| missing("connect hook", name))
}

fn missing(kind: &str, name: &str) -> RedirectError {
    RedirectError::Mismatch {
        what: format!("{kind} {name}"),
    }
}
