//! Taking over what a process of another build has attached: other programs behind the same links.

use std::os::fd::AsFd as _;

use aya::maps::Map;
use hnp_common::POLICIES;

use super::{
    super::{Attached, RedirectError, attached::Link, bpf, builds::Identity},
    HOOKS, Hook, Programs,
};

/// What is done about a link.
enum Outcome {
    /// This build's program is behind it.
    Own,
    /// It is now, in the place of another.
    Replaced,
    /// Its program cannot be replaced: another link has to take its place.
    Worn,
}

impl Programs {
    /// Puts this build's programs behind the links of another. Each is replaced at once, and any mixture works: they use the same
    /// maps. In the order in which they are attached: what redirects comes last.
    pub(super) fn replace(&mut self, attached: &mut Attached) {
        for hook in &HOOKS {
            let Some(link) = attached.link(hook.name) else {
                continue;
            };
            let mut version = None;
            let outcome = self.replace_one(hook, link, &mut version);
            match outcome {
                Ok(Outcome::Own) => continue,
                Ok(Outcome::Replaced) => attached.replaced.programs += 1,
                // Counted when it was done.
                Ok(Outcome::Worn) => attached.wear(hook.name),
                Err(error) => attached.replaced.failed.push(error),
            }
            attached.replaced.versions.extend(version);
        }
    }

    fn replace_one(
        &mut self,
        hook: &Hook,
        link: &Link,
        version: &mut Option<String>,
    ) -> Result<Outcome, RedirectError> {
        let Some(pin) = link.pin() else {
            return Ok(Outcome::Own);
        };
        let attached = link.program()?;
        let (info, program) = hook.loaded(&self.ebpf).map_err(|error| {
            RedirectError::of_program("ask about eBPF programs", hook.name, error)
        })?;
        if attached == info.id() {
            return Ok(Outcome::Own);
        }
        let own = Identity::of(&info);
        let other = self.known.identity(attached);
        if own.is_some() && own.as_ref() == other {
            return Ok(Outcome::Own);
        }
        *version = other.and_then(Identity::version);
        // A link keeps the cgroup storage that it was attached with.
        let policies = match self.ebpf.map(POLICIES) {
            Some(Map::CgroupStorage(data)) => data.info().map(|info| info.id()).ok(),
            _ => None,
        };
        let same_storage = match (&own, other, policies) {
            (Some(own), Some(other), Some(map)) => own.uses(map) == other.uses(map),
            _ => false,
        };
        if !same_storage {
            return Ok(Outcome::Worn);
        }
        let replaced = bpf::pinned(pin).and_then(|link| bpf::update(link.as_fd(), program.as_fd()));
        match replaced {
            Ok(()) => Ok(Outcome::Replaced),
            // Somebody has detached it.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(Outcome::Worn),
            Err(error) => Err(RedirectError::of_replacing(pin, hook.name, error)),
        }
    }
}
