//! Transparent interception: pods' connections, redirected by eBPF (see [`redirect`](crate::redirect)), served by the workers.
//!
//! ```text
//!  hnp intercept ──▶ server ──▶ interceptor ──▶ kernel: programs at the pod's cgroup, its policy, its rules
//!                    (socket)   which pods      workers: orders, with listeners in the pod's network namespace
//!  hnp observe   ◀── observers ◀── ends of connections, from the workers and from the kernel
//! ```
//!
//! What becomes of a captured connection is [`flow::captured`](crate::flow::captured)'s.

pub mod client;
pub mod event;
mod fault;
pub mod interceptor;
mod listeners;
mod place;
pub mod pod;
pub mod protocol;
mod rules;
pub mod server;
mod settings;

pub use event::{Event, Observers};
pub use fault::InterceptError;
pub use interceptor::Interceptor;
pub use pod::{Order, Pod};
pub use rules::{KernelRules, RuleError, Rules, Verdict};
pub use settings::{Intercepted, Settings};
