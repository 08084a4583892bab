//! The eBPF half: loading HNP's programs into the kernel, attaching them to pods' cgroups, telling them what to do, and
//! finding out where a redirected connection was meant to go.
//!
//! ```text
//! object        what the build embedded: the programs, or why there are none
//! programs      loaded into the kernel: rules, policies, counters, heartbeat
//! builds        whose programs are attached: this build's, or another's
//! bpf           the system call, where aya does not make it
//! attached      to a cgroup, by links that may be pinned and so outlive this process
//! pins          where pins are, and which of them nobody needs any more
//! policy        what becomes of a pod's connections
//! rules         address and port to action: the first rule that matches, compiled for the kernel's longest prefix
//! destinations  where a redirected connection was meant to go
//! events        what the programs report
//! existing      connections from before the programs were attached
//! netns         a listener inside a pod's network namespace
//! cgroup        where cgroup v2 is mounted
//! undisturbed   loading while signals come and go
//! fault         what can go wrong, and whose fault it is
//! ```

mod attached;
mod bpf;
mod builds;
mod cgroup;
mod destinations;
mod events;
mod existing;
mod fault;
mod netns;
mod object;
mod pins;
mod policy;
mod programs;
mod rules;
mod undisturbed;

pub(crate) use self::pins::BPF_FS;
pub use self::{
    attached::{Attached, Replaced},
    cgroup::{cgroup_paths, cgroup2_mount},
    destinations::{Destinations, OriginalDestination},
    events::{Events, Observed},
    existing::Existing,
    fault::RedirectError,
    netns::{NetNs, NetnsCookie},
    pins::Pins,
    policy::{PodPolicy, WithoutHnp},
    programs::{ProgramReport, Programs, RulesId},
    rules::{CompiledRules, Rule, RulesError},
};
pub use hnp_common::{Action, Counter, EventKind};
