//! The eBPF half: loading HNP's programs into the kernel, attaching them to a pod's cgroup, reading what they count.
//!
//! ```text
//! object    what the build embedded: the programs, or why there are none
//! programs  loaded into the kernel, not yet attached to anything
//! cgroup    where cgroup v2 is mounted
//! fault     what can go wrong, and whose fault it is
//! ```
//!
//! Nothing is redirected so far: the programs count `connect()` calls and let them pass.

mod cgroup;
mod fault;
mod object;
mod programs;

pub use self::{
    cgroup::cgroup2_mount,
    fault::RedirectError,
    programs::{Attached, ProgramReport, Programs},
};
