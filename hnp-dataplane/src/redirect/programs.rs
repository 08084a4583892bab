//! The programs in the kernel, and what they are told.

use std::{fs::File, path::Path, sync::atomic::AtomicU32, sync::atomic::Ordering};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, PerCpuHashMap, PerCpuValues, cgroup_storage,
        cgroup_storage::CgroupStorageKey, lpm_trie::Key,
    },
    programs::{
        CgroupAttachMode, CgroupSockAddr, ProgramError, ProgramType, SockOps, links::FdLink,
    },
    sys::{BpfHelper, is_helper_supported},
    util::nr_cpus,
};
use hnp_common::{
    CONNECT4, CONNECT6, COUNTERS, Counter, Counters, DESTINATIONS, EVENTS, GETPEERNAME4,
    GETPEERNAME6, GETSOCKNAME4, GETSOCKNAME6, HAS_SET_RETVAL, POLICIES, Policy, RULES, RuleKey,
    SENDMSG4, SENDMSG6, SETTINGS, SOCK_OPS, SOCKETS, Segments, Settings,
};

use super::{
    Attached, CompiledRules, Destinations, Events, Pins, PodPolicy, RedirectError, object,
    undisturbed::{again, undisturbed},
};

/// A program, and the hook it is for.
#[derive(Debug)]
pub(super) struct Hook {
    /// Its name in the object.
    pub(super) name: &'static str,
    /// The ELF section that says which hook it is for.
    section: &'static str,
    /// The number of the attachment's type (`enum bpf_attach_type`), where the program reads the policy: under this, the
    /// kernel keeps it.
    policy: Option<u32>,
    /// Whether it is needed only where QUIC is refused.
    pub(super) quic: bool,
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
pub(super) const HOOKS: [Hook; 9] = [
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

/// The maps that outlive the process where it pins.
pub(super) const MAPS: [&str; 7] = [
    POLICIES,
    RULES,
    SOCKETS,
    DESTINATIONS,
    COUNTERS,
    SETTINGS,
    EVENTS,
];

/// The number of a set of rules in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesId(pub(super) u32);

/// HNP's programs, loaded and verified. Dropping this unloads them, as soon as nothing is attached any more.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    pins: Option<Pins>,
    next_rules: AtomicU32,
}

impl Programs {
    /// Loads the embedded programs. Maps and attachments end with this process.
    ///
    /// # Errors
    /// When the build left them out, when privilege is missing, or when the verifier refuses one.
    pub fn load() -> Result<Self, RedirectError> {
        undisturbed(|| Self::load_with(None))
    }

    /// Loads the embedded programs, with the maps that are pinned there; those that are not are made and pinned.
    ///
    /// # Errors
    /// As [`Programs::load`]; and when the directory cannot be used.
    pub fn load_pinned(pins: Pins) -> Result<Self, RedirectError> {
        undisturbed(|| Self::load_with(Some(pins)))
    }

    /// Whether the kernel lets programs choose the error of a denied call (`bpf_set_retval`, Linux 5.18): `ECONNREFUSED` then, else
    /// `EPERM`. Without the privilege to ask it is no.
    #[must_use]
    pub fn can_say_why() -> bool {
        // Asked for a type that every kernel of the supported range lets ask. An error counts as no: EPERM is refusal too.
        is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
            .unwrap_or(false)
    }

    fn load_with(pins: Option<Pins>) -> Result<Self, RedirectError> {
        let object = object::embedded()?;
        let has_set_retval = u8::from(Self::can_say_why());
        let mut loader = EbpfLoader::new();
        loader.override_global(HAS_SET_RETVAL, &has_set_retval, true);
        if let Some(pins) = &pins {
            for map in MAPS {
                loader.map_pin_path(map, pins.map(map));
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

    /// Puts rules into the kernel, for policies to refer to.
    ///
    /// # Errors
    /// When the kernel does not take them: the map is full, mostly.
    pub fn add_rules(&mut self, rules: &CompiledRules) -> Result<RulesId, RedirectError> {
        let id = self.next_rules.fetch_add(1, Ordering::Relaxed);
        let doing = "store rules for the eBPF programs";
        let mut map: LpmTrie<_, RuleKey, Segments> = self.map_mut(RULES)?;
        for (network, segments) in &rules.prefixes {
            let key = RuleKey {
                rules: id,
                address: std::net::IpAddr::V6(network.network()).into(),
            };
            let bits = u32::BITS + u32::from(network.prefix_len());
            map.insert(&Key::new(bits, key), segments, 0)
                .map_err(|error| RedirectError::of_map(doing, error))?;
        }
        Ok(RulesId(id))
    }

    /// Removes rules. Policies that still refer to them treat every connection as if HNP were gone.
    ///
    /// # Errors
    /// When the kernel does not let the map be changed.
    pub fn remove_rules(&mut self, id: RulesId) -> Result<(), RedirectError> {
        let keys = self.rule_keys()?;
        let mut map: LpmTrie<_, RuleKey, Segments> = self.map_mut(RULES)?;
        for key in keys.into_iter().filter(|key| key.data().rules == id.0) {
            map.remove(&key)
                .map_err(|error| RedirectError::of_map("remove rules", error))?;
        }
        Ok(())
    }

    /// How many prefixes the rules in the kernel have, of all sets together.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn rules_len(&self) -> Result<usize, RedirectError> {
        Ok(self.rule_keys()?.len())
    }

    fn rule_keys(&self) -> Result<Vec<Key<RuleKey>>, RedirectError> {
        let map: LpmTrie<_, RuleKey, Segments> = self.map(RULES)?;
        map.keys()
            .collect::<Result<_, _>>()
            .map_err(|error| RedirectError::of_map("read rules", error))
    }

    /// Attaches the programs to a cgroup v2 directory, as pod number `pod` (from 1): they then hold for every process in it
    /// and below. Where pins are kept, what is pinned for the cgroup is taken over, and what is new is pinned.
    ///
    /// # Errors
    /// When the directory cannot be opened or is no cgroup v2, or when privilege is missing.
    pub fn attach(
        &mut self,
        cgroup: &Path,
        pod: u32,
        policy: &PodPolicy,
    ) -> Result<Attached, RedirectError> {
        let mut attached = Attached::open(cgroup, pod, self.pins.as_ref())?;
        self.apply(&mut attached, policy)?;
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
            if (!hook.quic || policy.deny_quic) && !attached.has(hook.name) {
                let doing = format!("attach eBPF programs to {}", attached.path.display());
                let link = hook
                    .attach(&mut self.ebpf, &attached.directory)
                    .map_err(|error| RedirectError::of_program(&doing, hook.name, error))?;
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

    /// A handle on the original destinations. Each thread takes one of its own.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn destinations(&self) -> Result<Destinations, RedirectError> {
        let map: HashMap<MapData, _, _> = self.handle(DESTINATIONS, Map::LruHashMap)?;
        Ok(Destinations::new(map))
    }

    /// The reader of events. One at a time: two would share the events out between them.
    ///
    /// # Errors
    /// When no descriptor is free, or memory cannot be mapped.
    pub fn events(&self) -> Result<Events, RedirectError> {
        Ok(Events::new(self.handle(EVENTS, Map::RingBuf)?))
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

    fn map<'a, T>(&'a self, name: &str) -> Result<T, RedirectError>
    where
        T: TryFrom<&'a Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.map(name).ok_or_else(|| missing("map", name))?;
        map.try_into()
            .map_err(|error| RedirectError::of_map(&format!("use the eBPF map {name}"), error))
    }

    fn map_mut<'a, T>(&'a mut self, name: &str) -> Result<T, RedirectError>
    where
        T: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
    {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| missing("map", name))?;
        map.try_into()
            .map_err(|error| RedirectError::of_map(&format!("use the eBPF map {name}"), error))
    }

    /// Another descriptor of a map, which lives on without this.
    fn handle<T>(&self, name: &str, kind: fn(MapData) -> Map) -> Result<T, RedirectError>
    where
        T: TryFrom<Map, Error = aya::maps::MapError>,
    {
        use std::os::fd::AsFd as _;
        let doing = format!("use the eBPF map {name}");
        let fd = match self.ebpf.map(name) {
            Some(Map::LruHashMap(data) | Map::RingBuf(data)) => data.fd().as_fd(),
            _ => return Err(missing("map", name)),
        };
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| RedirectError::of_map(&doing, aya::maps::MapError::IoError(error)))?;
        MapData::from_fd(fd)
            .and_then(|data| kind(data).try_into())
            .map_err(|error| RedirectError::of_map(&doing, error))
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

impl Hook {
    fn load(&self, ebpf: &mut Ebpf) -> Result<(), ProgramError> {
        match self.sock_ops(ebpf) {
            Some(program) => program?.load(),
            None => self.sock_addr(ebpf)?.load(),
        }
    }

    fn attach(&self, ebpf: &mut Ebpf, cgroup: &File) -> Result<FdLink, ProgramError> {
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

fn missing(kind: &str, name: &str) -> RedirectError {
    RedirectError::Mismatch {
        what: format!("{kind} {name}"),
    }
}
