//! Which pods are intercepted: what the kernel and the workers are told of them, and what is cleaned up after them.
//!
//! Everything here is quick and blocks: it belongs on the control thread, never on a worker.

mod predecessor;
mod report;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::listeners::listen;
use super::place::Place;
use super::protocol::PodReport;
use super::{InterceptError, KernelRules, Observers, Order, Pod, Settings};
use crate::admin::metrics::Pods;
use crate::redirect::{Attached, Events, NetNs, Pins, PodPolicy, Programs, RulesId, cgroup2_mount};
pub use report::COUNTERS;
use report::Reports;

/// How long without a heartbeat until the kernel takes HNP for gone, although it listens.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// How old a destination is that nobody will ask for any more: accepting takes no longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The pods that are intercepted.
pub struct Interceptor {
    programs: Programs,
    workers: Vec<UnboundedSender<Order>>,
    backlog: u32,
    observers: Observers,
    books: Arc<Pods>,
    settings: Settings,
    /// What the kernel is told to report.
    reports: Reports,
    /// By the cgroup's number.
    served: BTreeMap<u64, Served>,
    last_number: u32,
    /// Pins that could not be taken over, and of which that was said.
    left: HashSet<u64>,
    /// Pins of other versions that there were at the start.
    others: Vec<Pins>,
    ticks: u64,
}

struct Served {
    pod: Arc<Pod>,
    attached: Attached,
    kernel: KernelRules,
    rules: RulesId,
    ports: (u16, u16),
}

impl Interceptor {
    /// Intercepts nothing yet. `workers` are told which pods to serve; `backlog` is that of the listeners in them.
    ///
    /// # Errors
    /// The kernel's maps cannot be used.
    pub fn new(
        programs: Programs,
        workers: Vec<UnboundedSender<Order>>,
        backlog: u32,
        (observers, books): (Observers, Arc<Pods>),
        settings: Settings,
    ) -> Result<Interceptor, InterceptError> {
        for worker in &workers {
            // A worker that is gone ends the process.
            let _ = worker.send(Order::Destinations(programs.destinations()?));
        }
        let last_number = programs.pods()?.into_iter().max().unwrap_or(0);
        let mut interceptor = Interceptor {
            programs,
            workers,
            backlog,
            reports: Reports::wanted(settings.report, &observers),
            observers,
            books,
            settings,
            served: BTreeMap::new(),
            last_number,
            left: HashSet::new(),
            others: Vec::new(),
            ticks: 0,
        };
        interceptor.programs.beat(nanoseconds(STALE_AFTER))?;
        Ok(interceptor)
    }

    /// The kernel's reports. There is one reader.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn events(&self) -> Result<Events, InterceptError> {
        Ok(self.programs.events()?)
    }

    /// Whoever observes.
    #[must_use]
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Intercepts the pod of a process.
    ///
    /// # Errors
    /// As [`Interceptor::attach`].
    pub fn attach_process(&mut self, pid: u32) -> Result<PodReport, InterceptError> {
        self.attach(&Place::cgroup_of_process(pid)?)
    }

    /// Intercepts the pod of a cgroup. One that is intercepted already stays so.
    ///
    /// # Errors
    /// What is no pod, or not one that can be intercepted; the kernel's.
    pub fn attach(&mut self, cgroup: &Path) -> Result<PodReport, InterceptError> {
        let place = Place::of_cgroup(cgroup)?;
        // A process that HNP shares the host's PID namespace with; where it does not, its own is what there is to compare with.
        let init = NetNs::of_process(1).ok();
        if NetNs::home()?.is(&place.netns) || init.is_some_and(|init| init.is(&place.netns)) {
            return Err(InterceptError::HostNetwork { path: place.cgroup });
        }
        self.serve(place.cgroup, place.number, place.label.into(), place.netns)
    }

    /// Intercepts a cgroup in this very process' network namespace, for a command that HNP starts itself.
    ///
    /// # Errors
    /// As [`Interceptor::attach`].
    pub fn attach_here(&mut self, cgroup: &Path, label: &str) -> Result<PodReport, InterceptError> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(cgroup).map_err(|error| InterceptError::NoCgroup {
            path: cgroup.to_owned(),
            why: error.to_string(),
        })?;
        let netns = NetNs::open(Path::new("/proc/self/ns/net"))?;
        self.serve(cgroup.to_owned(), metadata.ino(), label.into(), netns)
    }

    fn serve(
        &mut self,
        cgroup: PathBuf,
        id: u64,
        label: Arc<str>,
        netns: NetNs,
    ) -> Result<PodReport, InterceptError> {
        if let Some(served) = self.served.get(&id) {
            return Ok(self.report(served));
        }
        let addresses = netns.addresses()?;
        let kernel = self.settings.rules.kernel(&addresses)?;
        let listening = listen(&netns, self.workers.len(), self.backlog).map_err(|error| {
            InterceptError::Listen {
                path: cgroup.clone(),
                error,
            }
        })?;
        let number = match self.programs.pod_of(id)? {
            Some(number) if self.served.values().all(|one| one.pod.number != number) => number,
            _ => {
                self.last_number += 1;
                self.last_number
            }
        };
        let rules = self.programs.add_rules(&kernel.compiled)?;
        // Cgroups may be called alike, names are to tell pods apart.
        let label = match self.served.values().any(|one| one.pod.label == label) {
            true => format!("{label}-{number}").into(),
            false => label,
        };
        let workers = self.workers.len();
        let books = self.books.enter(number, Arc::clone(&label), workers);
        let pod = Arc::new(Pod {
            number,
            label,
            cgroup,
            netns,
            cookie: listening.cookie,
            addresses,
            books,
            observers: self.observers.clone(),
        });
        // Whoever is redirected from here on finds a listener, and a worker at it.
        for (worker, listeners) in self.workers.iter().zip(listening.by_worker) {
            let _ = worker.send(Order::Serve {
                pod: Arc::clone(&pod),
                listeners,
            });
        }
        let policy = self.policy(&pod, rules, listening.ports);
        match self.programs.attach(&pod.cgroup, number, &policy) {
            Ok(attached) => {
                predecessor::report(&pod.label, &attached);
                let served = Served {
                    pod,
                    attached,
                    kernel,
                    rules,
                    ports: listening.ports,
                };
                let report = self.report(&served);
                self.served.insert(id, served);
                Ok(report)
            }
            Err(error) => {
                self.stop(number);
                self.books.leave(number);
                let _ = self.programs.remove_rules(rules);
                Err(error.into())
            }
        }
    }

    fn policy(&self, pod: &Pod, rules: RulesId, (port4, port6): (u16, u16)) -> PodPolicy {
        let v4 = pod.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = pod.addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        });
        PodPolicy {
            source4: v4,
            source6: v6,
            without_hnp: self.settings.without_hnp,
            deny_quic: self.settings.deny_quic,
            deny_bound: self.settings.deny_bound,
            report_refusals: self.reports.ends,
            report_direct: self.reports.ends,
            report_beginnings: self.reports.beginnings,
            ..PodPolicy::new(rules, port4, port6)
        }
    }

    /// Leaves a pod alone from now on: by its name, or its cgroup. What it has connected through HNP ends.
    ///
    /// # Errors
    /// There is no such pod, or the kernel refuses.
    pub fn detach(&mut self, name: &str) -> Result<PodReport, InterceptError> {
        let path = Path::new(name);
        let below = cgroup2_mount()?.join(path.strip_prefix("/").unwrap_or(path));
        let found = self.served.iter().find(|(_, served)| {
            *served.pod.label == *name || served.pod.cgroup == path || served.pod.cgroup == below
        });
        let Some(id) = found.map(|(id, _)| *id) else {
            return Err(InterceptError::Unknown {
                name: name.to_owned(),
            });
        };
        self.end(id, true)
    }

    /// Leaves all pods alone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach_all(&mut self) -> Result<Vec<PodReport>, InterceptError> {
        let all: Vec<u64> = self.served.keys().copied().collect();
        let ended = all.into_iter().map(|id| self.end(id, true)).collect();
        if let Some(pins) = self.programs.pins().cloned() {
            // Those that could not be taken over as well.
            for cgroup in pins.cgroups()? {
                pins.remove_pod(cgroup)?;
            }
            for other in pins.others()? {
                other.remove()?;
            }
        }
        ended
    }

    fn end(&mut self, id: u64, alive: bool) -> Result<PodReport, InterceptError> {
        let Some(served) = self.served.remove(&id) else {
            return Err(InterceptError::Unknown {
                name: id.to_string(),
            });
        };
        let report = self.report(&served);
        let Served {
            pod,
            attached,
            rules,
            ..
        } = served;
        let detached = match alive {
            true => self.programs.detach(attached),
            false => self.programs.forget(attached),
        };
        self.stop(pod.number);
        self.books.leave(pod.number);
        self.programs.remove_rules(rules)?;
        detached?;
        for other in &self.others {
            // Else it would be taken over again.
            other.remove_pod(id)?;
        }
        Ok(report)
    }

    fn stop(&self, pod: u32) {
        for worker in &self.workers {
            let _ = worker.send(Order::Stop(pod));
        }
    }

    /// The pods that are intercepted.
    #[must_use]
    pub fn list(&self) -> Vec<PodReport> {
        self.served.values().map(|one| self.report(one)).collect()
    }

    fn report(&self, served: &Served) -> PodReport {
        let counted = self.counted(served.pod.number).into_iter();
        PodReport {
            pod: served.pod.label.to_string(),
            cgroup: served.pod.cgroup.clone(),
            port4: served.ports.0,
            port6: served.ports.1,
            programs: Some(served.attached.version()),
            from_before: None,
            counters: counted
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }

    /// Other rules, or another policy, for new connections.
    ///
    /// # Errors
    /// The kernel refuses; pods before the one at fault have the new ones already.
    pub fn configure(&mut self, settings: Settings) -> Result<(), InterceptError> {
        self.reports = Reports::wanted(settings.report, &self.observers);
        let rules_changed = settings.rules != self.settings.rules;
        self.settings = settings;
        self.apply(rules_changed)
    }

    /// Tells the kernel what to report: observers came or went.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn observed(&mut self) -> Result<(), InterceptError> {
        let reports = Reports::wanted(self.settings.report, &self.observers);
        if reports == self.reports {
            return Ok(());
        }
        self.reports = reports;
        self.apply(false)
    }

    fn apply(&mut self, new_rules: bool) -> Result<(), InterceptError> {
        let all: Vec<u64> = self.served.keys().copied().collect();
        for id in all {
            let Some(mut served) = self.served.remove(&id) else {
                continue;
            };
            let applied = self.apply_to(&mut served, new_rules);
            self.served.insert(id, served);
            applied?;
        }
        Ok(())
    }

    fn apply_to(&mut self, served: &mut Served, new_rules: bool) -> Result<(), InterceptError> {
        let mut old = None;
        if new_rules {
            let kernel = self.settings.rules.kernel(&served.pod.addresses)?;
            let rules = self.programs.add_rules(&kernel.compiled)?;
            old = Some(std::mem::replace(&mut served.rules, rules));
            served.kernel = kernel;
        }
        let policy = self.policy(&served.pod, served.rules, served.ports);
        self.programs.apply(&mut served.attached, &policy)?;
        // No policy refers to them any more.
        if let Some(old) = old {
            self.programs.remove_rules(old)?;
        }
        Ok(())
    }

    /// Once a second: says that HNP lives, if its workers do; forgets pods that are no more.
    pub fn tick(&mut self, alive: bool) {
        self.ticks += 1;
        let done = self.try_tick(alive);
        if let Err(error) = done {
            tracing::warn!("interception cannot be tended: {error}");
        }
    }

    fn try_tick(&mut self, alive: bool) -> Result<(), InterceptError> {
        if alive {
            self.programs.beat(nanoseconds(STALE_AFTER))?;
        }
        let gone: Vec<u64> = self
            .served
            .iter()
            .filter(|(_, served)| !served.attached.is_alive())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let report = self.end(id, false)?;
            tracing::info!(pod = report.pod, "the pod is gone: its connections end");
        }
        self.adopt()?;
        self.supersede()?;
        if self.ticks.is_multiple_of(FORGOTTEN_AFTER.as_secs()) {
            self.programs.destinations()?.sweep(FORGOTTEN_AFTER)?;
        }
        Ok(())
    }

    /// What the kernel counted of a pod.
    #[must_use]
    pub fn counted(&self, pod: u32) -> Vec<(&'static str, u64)> {
        let counted = self.programs.counted(pod).ok().flatten();
        let counted = counted.unwrap_or_default();
        let named = COUNTERS.iter();
        named
            .map(|(counter, name)| (*name, counted[*counter as usize]))
            .collect()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
