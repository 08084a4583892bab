//! What the suites are made of, and what of them an emulated machine is spared.

use crate::install::Debian;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Suite {
    /// TLS whose records the kernel makes, and the node with it.
    Ktls,
    /// The event loop on io_uring, and the node on it.
    Uring,
    /// The eBPF programs.
    Ebpf,
    /// Transparent interception, `hnp exec`, `hnp observe` and what `hnp check` says of the kernel, as their users meet them, with real
    /// clients; on both backends.
    Intercept,
    /// What `direct` flows cost a pod, in instructions, the kernel's included.
    Cost,
}

/// What a suite is made of.
pub(super) struct Plan {
    /// What cargo builds.
    pub(super) cargo: &'static [&'static str],
    /// The test programs among what it built.
    pub(super) programs: Vec<Program>,
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// Each program runs once on each of these backends; once, where there is none.
    pub(super) backends: &'static [&'static str],
    pub(super) modules: &'static [&'static str],
    pub(super) tools: Tools,
    pub(super) clock: Clock,
    /// After so many minutes the machine switches itself off.
    pub(super) minutes: u64,
}

/// One test program of a suite.
pub(super) struct Program {
    pub(super) suite: &'static str,
    /// Its arguments: flags, and what the names of its tests contain.
    pub(super) arguments: &'static [&'static str],
    /// Tests that are left out, each with the reason: the summary says so.
    pub(super) without: &'static [(&'static str, &'static str)],
}

/// Programs of this machine that the tests start.
#[derive(Clone, Copy)]
pub(super) enum Tools {
    /// These alone, beside busybox, which has simpler ones.
    Few(&'static [Debian]),
    /// All that `cargo xtask test` installs: the machine has this one's files before it, at the same paths. What it writes is
    /// gone with it.
    All,
}

/// What the machine's clock goes by.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    /// The time of this machine.
    Time,
    /// The instructions that are executed, the kernel's and those of all programs, on one processor: each takes a nanosecond.
    Instructions,
}

impl Program {
    const fn all(suite: &'static str) -> Self {
        Self {
            suite,
            arguments: &[],
            without: &[],
        }
    }
}

/// Pods are joined to the world by the first; by the others, sockets are listed and closed.
const PODS: &[&str] = &["veth", "inet_diag", "tcp_diag"];

const IPROUTE: Debian = Debian {
    package: "iproute2",
    brings: "ip",
    why: "makes the pods of tests",
};

impl Suite {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ktls => "ktls",
            Self::Uring => "uring",
            Self::Ebpf => "ebpf",
            Self::Intercept => "intercept",
            Self::Cost => "cost",
        }
    }

    pub(super) fn plan(self) -> Plan {
        match self {
            Self::Ktls => Plan {
                cargo: &["--test", "ktls", "--test", "kernel_tls"],
                // The second is the node itself.
                programs: vec![
                    Program {
                        suite: "ktls",
                        arguments: &["--show-output"],
                        without: &[],
                    },
                    Program {
                        suite: "kernel_tls",
                        arguments: &["--show-output"],
                        without: &[],
                    },
                ],
                environment: &[("HNP_EXPECT_KTLS", "1")],
                backends: &[],
                // The kernel would load these when they are asked for, had it a modprobe.
                modules: &[
                    "tls",
                    "gcm",
                    "ctr",
                    "ghash-generic",
                    "aesni-intel",
                    "chacha20poly1305",
                    "chacha_generic",
                    "poly1305_generic",
                ],
                tools: Tools::Few(&[]),
                clock: Clock::Time,
                minutes: 15,
            },
            Self::Uring => Plan {
                cargo: &["--lib", "--test", "bytes", "--test", "leaks"],
                programs: vec![
                    Program {
                        suite: "hnp-dataplane",
                        arguments: &["uring::"],
                        without: &[],
                    },
                    Program::all("bytes"),
                    Program {
                        suite: "leaks",
                        arguments: &[],
                        without: &[(
                            "ten_thousand_short_tunnels",
                            "emulated, they take longer than the timeouts of a test",
                        )],
                    },
                ],
                environment: &[],
                backends: &["io_uring"],
                modules: &[],
                tools: Tools::Few(&[]),
                clock: Clock::Time,
                minutes: 15,
            },
            Self::Ebpf => Plan {
                cargo: &["--test", "redirect", "--test", "capture_load"],
                programs: vec![Program::all("redirect"), Program::all("capture_load")],
                // Emulated, 20,000 would take longer than all the rest.
                environment: &[("HNP_TEST_CONNECTIONS", "1000")],
                backends: &[],
                modules: PODS,
                tools: Tools::Few(&[
                    IPROUTE,
                    Debian {
                        package: "util-linux",
                        brings: "nsenter",
                        why: "starts programs in the pods of tests",
                    },
                    Debian {
                        package: "coreutils",
                        brings: "sleep",
                        why: "is a pod's process in tests",
                    },
                    Debian {
                        package: "util-linux",
                        brings: "setpriv",
                        why: "takes privileges from tests",
                    },
                ]),
                clock: Clock::Time,
                minutes: 15,
            },
            Self::Intercept => Plan {
                cargo: &[
                    "--test",
                    "intercept",
                    "--test",
                    "exec",
                    "--test",
                    "observe",
                    "--test",
                    "capture_clients",
                    "--test",
                    "check",
                ],
                programs: vec![
                    // What it says of the kernel; the rest does not depend on it.
                    Program {
                        suite: "check",
                        arguments: &["kernel::"],
                        without: &[],
                    },
                    Program::all("intercept"),
                    Program::all("exec"),
                    Program::all("observe"),
                    Program::all("capture_clients"),
                ],
                // What waits 30 s elsewhere may wait longer here.
                environment: &[("HNP_TEST_PATIENCE", "8")],
                backends: &["io_uring", "epoll"],
                modules: PODS,
                tools: Tools::All,
                clock: Clock::Time,
                minutes: 60,
            },
            Self::Cost => Plan {
                cargo: &["--test", "cost"],
                programs: vec![Program {
                    suite: "cost",
                    arguments: &["--ignored", "--test-threads=1", "--show-output"],
                    without: &[],
                }],
                environment: &[],
                backends: &[],
                modules: &["veth"],
                tools: Tools::Few(&[IPROUTE]),
                clock: Clock::Instructions,
                minutes: 15,
            },
        }
    }
}
