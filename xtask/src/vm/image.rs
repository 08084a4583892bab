//! What the machine starts with: one archive holding an init, modules, and the test programs with the libraries they need unless
//! the machine sees all of this one's files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, kernel::Module};
use crate::{install::Debian, shell::find_program};

/// What to put into an image.
pub(super) struct Contents<'a> {
    pub(super) busybox: &'a Path,
    pub(super) modules: &'a [Module],
    pub(super) steps: &'a [Step],
    pub(super) files: Files<'a>,
    /// After which the machine switches itself off.
    pub(super) limit: Duration,
}

/// What there is beside the shell.
#[derive(Clone, Copy)]
pub(super) enum Files<'a> {
    /// Test programs, what they start, and the libraries of both.
    Own {
        /// Programs that the steps start: the ones of this machine.
        tools: &'a [Debian],
        /// Further programs, by path.
        programs: &'a [PathBuf],
    },
    /// All files of this machine.
    Shared,
}

/// One program to run.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// Where to run it; an empty directory of that name.
    pub(super) directory: PathBuf,
}

impl Contents<'_> {
    /// Writes the image. Every program is where it is on this machine, so that paths compiled into it hold.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        archive.program("/init", include_bytes!("init.sh"))?;
        archive.program("/bin/busybox", &read(self.busybox)?)?;
        for module in self.modules {
            let path = format!("/modules/{}.ko", module.name);
            archive.file(&path, &module.data)?;
        }
        let modules: Vec<_> = self.modules.iter().map(|one| one.name.as_str()).collect();
        let settings = format!(
            "limit={}\nmodules='{}'\nshares={}\n",
            self.limit.as_secs(),
            modules.join(" "),
            if matches!(self.files, Files::Shared) {
                "yes"
            } else {
                "no"
            },
        );
        archive.file("/settings", settings.as_bytes())?;
        let steps = self.steps.iter().map(Step::line);
        let steps: String = steps.collect::<Result<_>>()?;
        archive.file("/steps", steps.as_bytes())?;
        if let Files::Own { tools, programs } = self.files {
            self.own_files(&mut archive, tools, programs)?;
        }
        archive.finish()?;
        Ok(())
    }

    fn own_files(
        &self,
        archive: &mut Archive<impl Write>,
        tools: &[Debian],
        programs: &[PathBuf],
    ) -> Result<()> {
        for directory in ["/tmp", "/run", "/root", "/sbin"] {
            archive.directory(directory)?;
        }
        archive.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")?;
        archive.file("/etc/group", b"root:x:0:\n")?;
        let mut programs: BTreeSet<PathBuf> = programs.iter().cloned().collect();
        for step in self.steps {
            programs.insert(step.program.clone());
            archive.directory(utf8(&step.directory)?)?;
        }
        for tool in tools.iter().map(|tool| tool.brings) {
            let path = find_program(tool).with_context(|| format!("{tool} is not here"))?;
            archive.link(&format!("/usr/local/bin/{tool}"), utf8(&path)?)?;
            programs.insert(path);
        }
        for program in programs {
            archive.program(utf8(&program)?, &read(&program)?)?;
            for library in libraries(&program) {
                archive.program(utf8(&library)?, &read(&library)?)?;
            }
        }
        Ok(())
    }
}

impl Step {
    /// A line of the script that runs the steps.
    fn line(&self) -> Result<String> {
        let mut words = vec!["step".to_owned(), quoted(&self.name)];
        words.push(quoted(utf8(&self.directory)?));
        words.push("env".to_owned());
        for (name, value) in &self.environment {
            words.push(quoted(&format!("{name}={value}")));
        }
        words.push(quoted(utf8(&self.program)?));
        words.extend(self.arguments.iter().map(|word| quoted(word)));
        Ok(words.join(" ") + "\n")
    }
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The shared libraries of a program, the one that loads the others included; none of a static one.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let found = Command::new("ldd").arg(program).output();
    let text = found.map(|output| output.stdout).unwrap_or_default();
    paths(&String::from_utf8_lossy(&text))
}

/// `libm.so.6 => /lib/libm.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn paths(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            let path = line.split_once("=>").map_or(line, |(_, path)| path);
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_words_of_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f7b)\n\
                    \tlibgone.so => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f7b)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths(text), expected.map(PathBuf::from));
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let step = Step {
            name: "it's one".to_owned(),
            program: "/bin/test".into(),
            arguments: vec!["uring::".to_owned()],
            environment: vec![("HNP", "a b".to_owned())],
            directory: "/src".into(),
        };
        let expected = r"step 'it'\''s one' '/src' env 'HNP=a b' '/bin/test' 'uring::'";
        assert_eq!(step.line().unwrap(), format!("{expected}\n"));
    }
}
