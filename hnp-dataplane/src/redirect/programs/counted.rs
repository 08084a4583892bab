//! What the programs count, and what the kernel says of them.

use aya::maps::PerCpuHashMap;
use hnp_common::{COUNTERS, Counter, Counters};

use super::{super::RedirectError, HOOKS, Programs};

impl Programs {
    /// The numbers of the pods that are counted, those of an earlier process included.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn pods(&self) -> Result<Vec<u32>, RedirectError> {
        let counters: PerCpuHashMap<_, u32, Counters> = self.map(COUNTERS)?;
        counters
            .keys()
            .collect::<Result<_, _>>()
            .map_err(|error| RedirectError::of_map("read the pods' counters", error))
    }

    /// A pod's counters; `None` for a pod that has none.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn counted(&self, pod: u32) -> Result<Option<[u64; 16]>, RedirectError> {
        let counters: PerCpuHashMap<_, u32, Counters> = self.map(COUNTERS)?;
        match counters.get(&pod, 0) {
            Ok(per_cpu) => {
                let mut sums = [0; 16];
                for cpu in per_cpu.iter() {
                    for (sum, value) in sums.iter_mut().zip(cpu.values) {
                        *sum += value;
                    }
                }
                Ok(Some(sums))
            }
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(RedirectError::of_map("read a pod's counters", error)),
        }
    }

    /// One of a pod's counters; 0 for a pod that has none.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn count(&self, pod: u32, counter: Counter) -> Result<u64, RedirectError> {
        Ok(self
            .counted(pod)?
            .map_or(0, |counters| counters[counter as usize]))
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
                id: info.id(),
                section: HOOKS
                    .iter()
                    .find(|hook| hook.name == name)
                    .map_or("", |hook| hook.section),
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
    /// Its number in the kernel.
    pub id: u32,
    /// The ELF section it came in, which names the hook it is attached to.
    pub section: &'static str,
    /// Instructions after the kernel's rewriting.
    pub translated: Option<u32>,
    /// Instructions that the verifier walked through, on all paths; it gives up at a million.
    pub verified: Option<u32>,
    /// Size of what the just-in-time compiler made of it, in bytes; 0 when that is off.
    pub machine_code_bytes: u32,
}
