//! `cargo xtask vm`: tests on the kernels that Debian ships, whatever kernel this machine has.

mod apt;
mod cpio;
mod image;
mod kernel;
mod machine;
mod plan;

use std::{
    env::{self, consts::ARCH},
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
    image::{Contents, Files, Step},
    kernel::{SHIPPED, Shipped},
    machine::Machine,
    plan::{Plan, Program, Suite, Tools},
};
use crate::{
    install,
    shell::{bold, say, target},
    test::{
        self,
        build::{self, Built},
    },
};

/// Boots Debian's kernels in QEMU and runs tests there that depend on the kernel. Ends with a line `N passed, N failed`.
///
/// The machine is emulated and slow; a kernel is up after some seven seconds. A test that skips itself, a program that dies
/// and a machine that does not end by itself count as failed. For `intercept`, whose tests start clients of many kinds, the
/// machine sees all files of this one; it cannot write them. For `cost` its clock goes on with each instruction, not with time.
#[derive(clap::Args)]
#[command(
    after_help = "Kernels are fetched once, from where this machine installs Debian packages; to fetch newer ones, remove \
                  target/vm.\n\n\
                  Examples:\n  cargo xtask vm                      # every suite on every kernel\n  \
                  cargo xtask vm ktls --kernel 6.1    # one suite on one\n  \
                  cargo xtask vm cost --kernel 6.12   # count a direct flow's instructions"
)]
pub(crate) struct Args {
    /// Runs only this suite.
    #[arg(value_enum)]
    suite: Option<Suite>,
    /// On this kernel only: 6.1, 6.12 or all.
    #[arg(long, default_value = "all", value_parser = kernels)]
    kernel: Kernels,
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
    for suite in &suites {
        let plan = suite.plan();
        match plan.tools {
            Tools::Few(tools) => install::debian(tools)?,
            Tools::All => test::tools::install()?,
        }
        say(bold(&format!("building {}", suite.name())));
        let built = build::only(plan.cargo)?;
        let steps = plan.steps(&built)?;
        let limit = Duration::from_secs(plan.minutes * 60);
        for (here, kernel) in &kernels {
            say(bold(&format!("{} on Linux {}", suite.name(), kernel.name)));
            let image = here.join(suite.name()).with_extension("cpio");
            Contents {
                busybox: &busybox,
                modules: &kernel.modules(&plan.modules())?,
                steps: &steps,
                files: match plan.tools {
                    Tools::Few(tools) => Files::Own {
                        tools,
                        programs: slice::from_ref(&built.node),
                    },
                    Tools::All => Files::Shared,
                },
                limit,
            }
            .write(&image)?;
            let machine = Machine {
                kernel,
                image: &image,
                console: image.with_extension("console"),
                name: format!("Linux {}", kernel.name),
                shares: matches!(plan.tools, Tools::All),
                clock: plan.clock,
                limit: limit + Duration::from_secs(60),
            };
            outcomes.extend(machine.run()?);
            fs::remove_file(&image)
                .with_context(|| format!("cannot remove {}", image.display()))?;
        }
    }
    println!("\n{}", bold("Summary"));
    for suite in &suites {
        for program in suite.plan().programs {
            for (test, reason) in program.without {
                println!("left out of {}: {test}: {reason}", program.suite);
            }
        }
    }
    Ok(test::summary(&outcomes))
}

impl Plan {
    /// Those of the suite, and those without which this machine's files are not seen.
    fn modules(&self) -> Vec<&'static str> {
        let mut modules = self.modules.to_vec();
        if matches!(self.tools, Tools::All) {
            modules.extend(["virtio_pci", "9pnet_virtio", "9p", "overlay"]);
        }
        modules
    }

    fn steps(&self, built: &Built) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for program in &self.programs {
            if self.backends.is_empty() {
                steps.push(self.step(program, None, built)?);
            }
            for backend in self.backends {
                steps.push(self.step(program, Some(backend), built)?);
            }
        }
        Ok(steps)
    }

    fn step(&self, wanted: &Program, backend: Option<&str>, built: &Built) -> Result<Step> {
        let program = built
            .programs
            .iter()
            .find(|program| program.suite == wanted.suite)
            .with_context(|| format!("there is no test program {}", wanted.suite))?;
        let mut environment = vec![
            ("HNP_TEST_SKIPPED", "/run/skipped".to_owned()),
            (
                "CARGO_MANIFEST_DIR",
                program.directory.display().to_string(),
            ),
            ("HNP_TEST_BINARY", built.node.display().to_string()),
            ("HNP_CI_NO_SKIP", "1".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ];
        environment.extend(backend.map(|name| ("HNP_TEST_BACKEND", name.to_owned())));
        if matches!(self.tools, Tools::All) {
            // What wraps programs, such as a choice among versions, comes last: emulated, it takes seconds.
            let path = env::var("PATH").context("PATH is not UTF-8, or not there")?;
            environment.push(("PATH", format!("{DEBIANS_PATH}:{path}")));
        }
        let own = self.environment.iter().copied();
        environment.extend(own.map(|(name, value)| (name, value.to_owned())));
        let filters = wanted.arguments.iter().copied();
        let filters = filters.filter(|word| !word.starts_with('-'));
        let mut name = iter::once(wanted.suite).chain(filters).collect::<Vec<_>>();
        let backend = backend.map(|backend| format!("[{backend}]"));
        name.extend(backend.as_deref());
        let left_out = wanted.without.iter();
        let left_out = left_out.map(|(test, _)| format!("--skip={test}"));
        Ok(Step {
            name: name.join(" "),
            program: program.executable.clone(),
            arguments: wanted
                .arguments
                .iter()
                .map(|word| (*word).to_owned())
                .chain(left_out)
                .collect(),
            environment,
            directory: program.directory.clone(),
        })
    }
}

const DEBIANS_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
