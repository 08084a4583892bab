//! The control thread's part: what happens beside the traffic.

pub mod watch;
