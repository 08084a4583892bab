//! What an earlier HNP has left: its pods are served on, its programs replaced.

use std::mem;

use hnp_common::ABI;

use super::{InterceptError, Interceptor};
use crate::redirect::{Attached, Pins, RulesId, cgroup_paths, cgroup2_mount};

impl Interceptor {
    /// Takes over what an earlier HNP has left pinned, and forgets what that no longer needs.
    ///
    /// # Errors
    /// The pins or the kernel's maps cannot be used. A pod that cannot be taken over is said, and left as it is.
    pub fn take_over(&mut self) -> Result<(), InterceptError> {
        self.adopt()?;
        if let Some(pins) = self.programs.pins() {
            // Only those that are there now: an HNP of another version that comes later is to be left its own.
            self.others = pins.others()?;
        }
        for other in &self.others {
            announce(other)?;
        }
        self.supersede()?;
        let pods: Vec<u32> = self.served.values().map(|one| one.pod.number).collect();
        // Pods that were left may come back: their rules must not go.
        if self.left.is_empty() {
            let rules: Vec<RulesId> = self.served.values().map(|one| one.rules).collect();
            self.programs.retain(&pods, &rules)?;
        }
        Ok(())
    }

    /// Serves the pinned pods that are not served yet; removes the pins of those that are no more.
    pub(super) fn adopt(&mut self) -> Result<(), InterceptError> {
        let Some(pins) = self.programs.pins().cloned() else {
            return Ok(());
        };
        let mut strange = pins.cgroups()?;
        strange.retain(|number| !self.served.contains_key(number));
        if strange.is_empty() {
            return Ok(());
        }
        let paths = cgroup_paths(&cgroup2_mount()?, &strange);
        for number in strange {
            let Some(path) = paths.get(&number) else {
                pins.remove_pod(number)?;
                self.left.remove(&number);
                continue;
            };
            match self.attach(path) {
                Ok(report) => {
                    self.left.remove(&number);
                    tracing::info!(pod = report.pod, cgroup = %path.display(), "taken over: the pod is intercepted again");
                }
                Err(error) => {
                    if self.left.insert(number) {
                        tracing::warn!(
                            "a pod that an earlier HNP intercepted cannot be taken over yet: {error}"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Serves the pods that an HNP with other maps has left, and lets go of its programs and maps.
    pub(super) fn supersede(&mut self) -> Result<(), InterceptError> {
        let mut others = mem::take(&mut self.others);
        let mut result = Ok(());
        others.retain(|other| match self.supersede_one(other) {
            Ok(done) => !done,
            Err(error) => {
                result = Err(error);
                true
            }
        });
        self.others = others;
        result
    }

    /// One step for each of its pods; `true` when nothing is left of it.
    fn supersede_one(&mut self, other: &Pins) -> Result<bool, InterceptError> {
        let numbers = other.cgroups()?;
        let paths = cgroup_paths(&cgroup2_mount()?, &numbers);
        for number in numbers {
            let Some(path) = paths.get(&number) else {
                other.remove_pod(number)?;
                continue;
            };
            // Its programs stay attached until this HNP's are: a connection finds the one or the other.
            if let Err(error) = self.attach(path) {
                if self.left.insert(number) {
                    tracing::warn!(
                        "a pod that another version of HNP intercepted cannot be taken over yet, and keeps its programs: {error}"
                    );
                }
                continue;
            }
            self.left.remove(&number);
            if other.withdraw(number)? {
                tracing::info!(
                    cgroup = %path.display(),
                    "replaced the programs of an HNP whose maps are of version {}",
                    other.abi()
                );
            }
        }
        if !other.cgroups()?.is_empty() {
            return Ok(false);
        }
        let waiting = match other.waiting() {
            Some(count) => count.to_string(),
            None => "an unknown number of".to_owned(),
        };
        tracing::info!(
            "the maps of version {} are removed; {waiting} connections that were redirected by them had not been accepted",
            other.abi()
        );
        other.clone().remove()?;
        Ok(true)
    }
}

/// Says what will happen.
fn announce(other: &Pins) -> Result<(), InterceptError> {
    let (pods, abi) = (other.cgroups()?.len(), other.abi());
    if other.are_newer() {
        tracing::warn!(
            "{pods} pods have programs of a newer HNP, whose maps are of version {abi}; this one knows version {ABI}. It replaces \
             them by its own, and its counters begin at zero: if that is not intended, start the newer one"
        );
    } else {
        tracing::info!(
            "{pods} pods have programs of an older HNP, whose maps are of version {abi}, not {ABI}: they are replaced, and counters \
             begin at zero"
        );
    }
    Ok(())
}

/// Says what became of another build's programs.
pub(super) fn report(pod: &str, attached: &Attached) {
    let replaced = attached.replaced();
    if replaced.programs > 0 {
        let versions: Vec<&str> = replaced.versions.iter().map(String::as_str).collect();
        let versions = match &*versions {
            [] => "an unknown version".to_owned(),
            some => format!("version {}", some.join(", ")),
        };
        tracing::info!(
            pod,
            "replaced {} programs of {versions} by those of {}",
            replaced.programs,
            attached.version()
        );
    }
    for error in &replaced.failed {
        tracing::warn!(pod, "{error}");
    }
}
