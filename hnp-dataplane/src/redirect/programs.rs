//! The programs in the kernel, and what they are told.

mod counted;
mod hook;
mod maps;
mod replace;
mod rules;

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, LpmTrie, PerCpuHashMap, PerCpuValues, cgroup_storage,
        cgroup_storage::CgroupStorageKey, lpm_trie::Key,
    },
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
    util::nr_cpus,
};
use hnp_common::{
    BUILD, COUNTERS, Counters, POLICIES, Policy, RULES, RuleKey, SETTINGS, Segments, Settings,
};

use self::hook::Hook;
pub use self::{counted::ProgramReport, rules::RulesId};
pub(super) use self::{hook::HOOKS, maps::MAPS};
use super::{
    Attached, Pins, PodPolicy, RedirectError,
    builds::{self, Known},
    object,
    undisturbed::{again, undisturbed},
};

/// HNP's programs, loaded and verified. Dropping this unloads them, as soon as nothing is attached any more.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    pins: Option<Pins>,
    version: String,
    known: Known,
    next_rules: AtomicU32,
}

impl Programs {
    /// Loads the embedded programs. Maps and attachments end with this process.
    ///
    /// # Errors
    /// When the build left them out, when privilege is missing, or when the verifier refuses one.
    pub fn load() -> Result<Self, RedirectError> {
        Self::load_object(object::embedded()?, None)
    }

    /// Loads the embedded programs, with the maps that are pinned there; those that are not are made and pinned.
    ///
    /// # Errors
    /// As [`Programs::load`]; and when the directory cannot be used.
    pub fn load_pinned(pins: Pins) -> Result<Self, RedirectError> {
        Self::load_object(object::embedded()?, Some(pins))
    }

    /// The embedded programs.
    ///
    /// # Errors
    /// When the build left them out.
    pub fn embedded() -> Result<&'static [u8], RedirectError> {
        object::embedded()
    }

    /// Loads other programs than the embedded ones: those of another build, in a test of what happens then.
    ///
    /// # Errors
    /// As [`Programs::load_pinned`].
    pub fn load_object(object: &[u8], pins: Option<Pins>) -> Result<Self, RedirectError> {
        undisturbed(|| Self::load_with(object, pins))
    }

    /// Which build of HNP they are of.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the kernel lets programs choose the error of a denied call (`bpf_set_retval`, Linux 5.18): `ECONNREFUSED` then, else
    /// `EPERM`. Without the privilege to ask it is no.
    #[must_use]
    pub fn can_say_why() -> bool {
        // Asked for a type that every kernel of the supported range lets ask. An error counts as no: EPERM is refusal too.
        is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
            .unwrap_or(false)
    }

    fn load_with(object: &[u8], pins: Option<Pins>) -> Result<Self, RedirectError> {
        let version = builds::version(object);
        let build = builds::build(Self::can_say_why(), &version);
        let mut loader = EbpfLoader::new();
        loader.override_global(BUILD, &build, true);
        if let Some(pins) = &pins {
            maps::fit(pins)?;
            for map in &MAPS {
                loader.map_pin_path(map.name, pins.map(map.name));
            }
        }
        let mut ebpf = loader
            .load(object)
            .map_err(|error| RedirectError::of_object("create eBPF maps", error))?;
        for hook in &HOOKS {
            again(|| hook.load(&mut ebpf)).map_err(|error| {
                RedirectError::of_program("load eBPF programs", hook.name, error)
            })?;
        }
        let programs = Self {
            ebpf,
            pins,
            version,
            known: Known::default(),
            next_rules: AtomicU32::new(1),
        };
        // Numbers of an earlier process are in use still.
        let last = programs
            .rule_keys()?
            .iter()
            .map(|key| key.data().rules)
            .max();
        programs
            .next_rules
            .store(last.unwrap_or(0) + 1, Ordering::Relaxed);
        Ok(programs)
    }

    /// Attaches the programs to a cgroup v2 directory, as pod number `pod` (from 1): they then hold for every process in it
    /// and below. Where pins are kept, what is pinned for the cgroup is taken over, and what is new is pinned. Programs of another
    /// build are replaced; where one cannot be, [`Attached::replaced`] says why, and it goes on working.
    ///
    /// # Errors
    /// When the directory cannot be opened or is no cgroup v2, or when privilege is missing.
    pub fn attach(
        &mut self,
        cgroup: &Path,
        pod: u32,
        policy: &PodPolicy,
    ) -> Result<Attached, RedirectError> {
        let mut attached = Attached::open(cgroup, pod, &self.version, self.pins.as_ref())?;
        self.replace(&mut attached);
        self.apply(&mut attached, policy)?;
        if let Some(pins) = &self.pins {
            // Hooks that only another build has.
            pins.retain(attached.cgroup, |name| attached.has(name))?;
        }
        Ok(attached)
    }

    /// Gives an attached pod another policy. New connections follow it, as a whole.
    ///
    /// # Errors
    /// As [`Programs::attach`].
    pub fn apply(
        &mut self,
        attached: &mut Attached,
        policy: &PodPolicy,
    ) -> Result<(), RedirectError> {
        {
            let doing = "make a pod's counters";
            let mut counters: PerCpuHashMap<_, u32, Counters> = self.map_mut(COUNTERS)?;
            if counters.get(&attached.pod, 0).is_err() {
                let cpus = nr_cpus().map_err(|(_, error)| RedirectError::Path {
                    doing: "count the CPUs in",
                    path: "/sys/devices/system/cpu/possible".into(),
                    error,
                })?;
                let zero = PerCpuValues::try_from(vec![Counters::default(); cpus]);
                let zero = zero.map_err(|error| RedirectError::Path {
                    doing: "count the CPUs in",
                    path: "/sys/devices/system/cpu/possible".into(),
                    error,
                })?;
                counters
                    .insert(attached.pod, zero, 0)
                    .map_err(|error| RedirectError::of_map(doing, error))?;
            }
        }
        let encoded = policy.encode(attached.pod);
        for hook in &HOOKS {
            let worn = attached.link(hook.name).map(|link| link.worn);
            if worn.unwrap_or(!hook.quic || policy.deny_quic) {
                let doing = format!("attach eBPF programs to {}", attached.path.display());
                let link = hook
                    .attach(&mut self.ebpf, &attached.directory)
                    .map_err(|error| RedirectError::of_program(&doing, hook.name, error))?;
                if worn.is_some() {
                    // Both are attached for a moment: the second finds what the first has rewritten to be loopback. The old
                    // one goes when the new one knows its policy.
                    self.write_policy(attached.cgroup, hook, encoded)?;
                    attached.replaced.programs += 1;
                }
                attached.add(hook.name, link, self.pins.as_ref())?;
            }
            if attached.has(hook.name) {
                self.write_policy(attached.cgroup, hook, encoded)?;
            }
        }
        Ok(())
    }

    /// Detaches a pod for good, pins included. What it has connected lives on.
    ///
    /// # Errors
    /// When a pin cannot be removed, or the kernel does not let its maps be changed.
    pub fn detach(&mut self, attached: Attached) -> Result<(), RedirectError> {
        let (cgroup, pod) = (attached.cgroup, attached.pod);
        for hook in &HOOKS {
            if attached.has(hook.name) {
                // The kernel keeps the storage as long as cgroup and map live, and hands it to whoever attaches next.
                self.write_policy(cgroup, hook, Policy::default())?;
            }
        }
        attached.end(self.pins.as_ref())?;
        let mut counters: PerCpuHashMap<_, u32, Counters> = self.map_mut(COUNTERS)?;
        // Gone already is as good.
        let _ = counters.remove(&pod);
        Ok(())
    }

    /// As [`Programs::detach`], of a cgroup that is no more: the kernel has detached it by itself.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn forget(&mut self, attached: Attached) -> Result<(), RedirectError> {
        let pod = attached.pod;
        attached.end(self.pins.as_ref())?;
        let mut counters: PerCpuHashMap<_, u32, Counters> = self.map_mut(COUNTERS)?;
        let _ = counters.remove(&pod);
        Ok(())
    }

    /// Removes the pins of pods whose cgroup is no more; how many there were.
    ///
    /// # Errors
    /// When the directory of pins or the cgroups cannot be read.
    pub fn sweep(&mut self) -> Result<usize, RedirectError> {
        self.pins.as_ref().map_or(Ok(0), Pins::sweep)
    }

    fn write_policy(
        &mut self,
        cgroup: u64,
        hook: &Hook,
        policy: Policy,
    ) -> Result<(), RedirectError> {
        let Some(attach_type) = hook.policy else {
            return Ok(());
        };
        #[expect(deprecated, reason = "see `hnp-ebpf`'s maps")]
        let mut map: cgroup_storage::CgroupStorage<_, Policy> = self.map_mut(POLICIES)?;
        map.insert(CgroupStorageKey::new(cgroup, attach_type), policy, 0)
            .map_err(|error| RedirectError::of_map("store a pod's policy", error))
    }

    /// The number of the pod whose policy a cgroup has, if it has one: of an earlier process.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn pod_of(&self, cgroup: u64) -> Result<Option<u32>, RedirectError> {
        #[expect(deprecated, reason = "see `hnp-ebpf`'s maps")]
        let map: cgroup_storage::CgroupStorage<_, Policy> = self.map(POLICIES)?;
        for hook in &HOOKS {
            let Some(attach_type) = hook.policy else {
                continue;
            };
            if let Ok(policy) = map.get(CgroupStorageKey::new(cgroup, attach_type), 0)
                && policy.pod != 0
            {
                return Ok(Some(policy.pod));
            }
        }
        Ok(None)
    }

    /// Forgets what an earlier process has left: counters of pods, and rules, but for those given.
    ///
    /// # Errors
    /// When the kernel does not let the maps be changed.
    pub fn retain(&mut self, pods: &[u32], rules: &[RulesId]) -> Result<(), RedirectError> {
        for pod in self.pods()? {
            if !pods.contains(&pod) {
                let mut counters: PerCpuHashMap<_, u32, Counters> = self.map_mut(COUNTERS)?;
                let _ = counters.remove(&pod);
            }
        }
        let keys = self.rule_keys()?;
        let mut map: LpmTrie<_, RuleKey, Segments> = self.map_mut(RULES)?;
        let unused = |key: &&Key<RuleKey>| !rules.contains(&RulesId(key.data().rules));
        for key in keys.iter().filter(unused) {
            map.remove(key)
                .map_err(|error| RedirectError::of_map("remove rules", error))?;
        }
        Ok(())
    }

    /// Where programs are pinned, if they are.
    #[must_use]
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// Says that HNP lives. With `stale_after` in nanoseconds, the programs treat HNP as gone once that long has passed
    /// without another call; with 0, they look for the listener only.
    ///
    /// # Errors
    /// When the kernel does not let the map be changed.
    pub fn beat(&mut self, stale_after: u64) -> Result<(), RedirectError> {
        let mut map: Array<_, Settings> = self.map_mut(SETTINGS)?;
        let settings = Settings {
            heartbeat: monotonic(),
            stale_after,
        };
        map.set(0, settings, 0)
            .map_err(|error| RedirectError::of_map("write the heartbeat", error))
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns`.
#[expect(
    unsafe_code,
    reason = "the standard library hides the number behind `Instant`"
)]
pub(super) fn monotonic() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `now` during the call. It cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
