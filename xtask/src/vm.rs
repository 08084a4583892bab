//! `cargo xtask vm`: tests on the kernels that Debian ships, whatever kernel this machine has.

mod apt;
mod cpio;
mod image;
mod kernel;
mod machine;

use std::{
    env::consts::ARCH,
    fs, iter,
    path::{Path, PathBuf},
    process::ExitCode,
    slice,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use self::{
    apt::Release,
    image::{Contents, Step},
    kernel::{SHIPPED, Shipped},
    machine::Machine,
};
use crate::{
    install::{self, Debian},
    shell::{bold, say, target},
    test::{
        self,
        build::{self, Built},
    },
};

/// Boots Debian's kernels in QEMU and runs tests there that depend on the kernel. Ends with a line `N passed, N failed`.
///
/// The machine is emulated and slow; a kernel is up after some five seconds. A test that skips itself, a program that dies
/// and a machine that does not end by itself count as failed.
#[derive(clap::Args)]
#[command(
    after_help = "Kernels are fetched once, from where this machine installs Debian packages; to fetch newer ones, remove \
                  target/vm.\n\n\
                  Examples:\n  cargo xtask vm                      # every suite on every kernel\n  \
                  cargo xtask vm ktls --kernel 6.1    # one suite on one"
)]
pub(crate) struct Args {
    /// Runs only this suite.
    #[arg(value_enum)]
    suite: Option<Suite>,
    /// On this kernel only: 6.1, 6.12 or all.
    #[arg(long, default_value = "all", value_parser = kernels)]
    kernel: Kernels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// TLS whose records the kernel makes, and the node with it.
    Ktls,
    /// The event loop on io_uring, and the node on it.
    Uring,
    /// The eBPF programs.
    Ebpf,
}

#[derive(Clone)]
struct Kernels(Vec<Shipped>);

fn kernels(name: &str) -> Result<Kernels, String> {
    let wanted = |one: &Shipped| name == "all" || name == one.version;
    let found: Vec<_> = SHIPPED.into_iter().filter(wanted).collect();
    if found.is_empty() {
        let versions = SHIPPED.map(|one| one.version).join(", ");
        return Err(format!("there are {versions} and all"));
    }
    Ok(Kernels(found))
}

/// What a suite is made of.
struct Plan {
    /// What cargo builds.
    cargo: &'static [&'static str],
    /// The test programs among what it built, by suite, with arguments.
    programs: &'static [(&'static str, &'static [&'static str])],
    environment: &'static [(&'static str, &'static str)],
    modules: &'static [&'static str],
    /// Programs of this machine that the tests start.
    tools: &'static [Debian],
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Ktls => "ktls",
            Self::Uring => "uring",
            Self::Ebpf => "ebpf",
        }
    }

    fn plan(self) -> Plan {
        match self {
            Self::Ktls => Plan {
                cargo: &["--test", "ktls", "--test", "kernel_tls"],
                programs: &[
                    ("ktls", &["--show-output"]),
                    // The node itself.
                    ("kernel_tls", &["--show-output"]),
                ],
                environment: &[("HNP_EXPECT_KTLS", "1")],
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
                tools: &[],
            },
            Self::Uring => Plan {
                cargo: &["--lib", "--test", "bytes", "--test", "leaks"],
                programs: &[
                    ("hnp-dataplane", &["uring::"]),
                    ("bytes", &[]),
                    // Emulated, ten thousand tunnels take longer than the timeouts of a test.
                    ("leaks", &["--skip=ten_thousand_short_tunnels"]),
                ],
                environment: &[("HNP_TEST_BACKEND", "io_uring")],
                modules: &[],
                tools: &[],
            },
            Self::Ebpf => Plan {
                cargo: &["--test", "redirect", "--test", "capture_load"],
                programs: &[("redirect", &[]), ("capture_load", &[])],
                // Emulated, 20,000 would take longer than all the rest.
                environment: &[("HNP_TEST_CONNECTIONS", "1000")],
                // Pods are joined to the world by the first; by the others, sockets are listed and closed.
                modules: &["veth", "inet_diag", "tcp_diag"],
                // busybox has simpler ones.
                tools: &[
                    Debian {
                        package: "iproute2",
                        brings: "ip",
                        why: "makes the pods of tests",
                    },
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
                ],
            },
        }
    }
}

/// A machine switches itself off after this, or is switched off a little later.
const LIMIT: Duration = Duration::from_secs(15 * 60);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if ARCH != "x86_64" {
        bail!("the kernels and QEMU are for x86_64, and this machine is {ARCH}");
    }
    let suites = match args.suite {
        Some(suite) => vec![suite],
        None => Suite::value_variants().to_vec(),
    };
    install::bpf_tools()?;
    machine::install()?;
    let directory = target().join("vm");
    let mut kernels = Vec::new();
    for shipped in &args.kernel.0 {
        let here = directory.join(shipped.version);
        kernels.push((here.clone(), shipped.fetch(&here)?));
    }
    let busybox = busybox(&directory.join("busybox"))?;

    let mut outcomes = Vec::new();
    for suite in suites {
        let plan = suite.plan();
        install::debian(plan.tools)?;
        say(bold(&format!("building {}", suite.name())));
        let built = build::only(plan.cargo)?;
        let steps = plan.steps(&built)?;
        for (here, kernel) in &kernels {
            say(bold(&format!("{} on Linux {}", suite.name(), kernel.name)));
            let image = here.join(suite.name()).with_extension("cpio");
            Contents {
                busybox: &busybox,
                modules: &kernel.modules(plan.modules)?,
                steps: &steps,
                tools: plan.tools,
                programs: slice::from_ref(&built.node),
                limit: LIMIT,
            }
            .write(&image)?;
            let machine = Machine {
                kernel,
                image: &image,
                console: image.with_extension("console"),
                name: format!("Linux {}", kernel.name),
                limit: LIMIT + Duration::from_secs(60),
            };
            outcomes.extend(machine.run()?);
            fs::remove_file(&image)
                .with_context(|| format!("cannot remove {}", image.display()))?;
        }
    }
    println!("\n{}", bold("Summary"));
    Ok(test::summary(&outcomes))
}

impl Plan {
    fn steps(&self, built: &Built) -> Result<Vec<Step>> {
        let step = |(suite, arguments): &(&str, &[&str])| {
            let program = built
                .programs
                .iter()
                .find(|program| program.suite == *suite)
                .with_context(|| format!("there is no test program {suite}"))?;
            let mut environment = vec![
                ("HNP_TEST_SKIPPED", "/tmp/skipped".to_owned()),
                (
                    "CARGO_MANIFEST_DIR",
                    program.directory.display().to_string(),
                ),
                ("HNP_TEST_BINARY", built.node.display().to_string()),
                ("HNP_CI_NO_SKIP", "1".to_owned()),
                ("RUST_BACKTRACE", "1".to_owned()),
            ];
            let own = self.environment.iter().copied();
            environment.extend(own.map(|(name, value)| (name, value.to_owned())));
            let filters = arguments.iter().filter(|word| !word.starts_with('-'));
            Ok(Step {
                name: iter::once(suite)
                    .chain(filters)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" "),
                program: program.executable.clone(),
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
                environment,
                directory: program.directory.clone(),
            })
        };
        self.programs.iter().map(step).collect()
    }
}

/// A shell and all that it starts, in one static program. That of this machine, if any, need not be static.
fn busybox(directory: &Path) -> Result<PathBuf> {
    let tree = directory.join("tree");
    if !tree.exists() {
        say("fetching Debian package busybox-static (the shell of the machine that tests run on)");
        Release::open("bookworm", directory.join("apt"))?.unpack("busybox-static", &tree)?;
    }
    ["bin/busybox", "usr/bin/busybox"]
        .map(|path| tree.join(path))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no busybox in {}", tree.display()))
}
