//! A pod to run `hnp exec` in, and a network for it to reach.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use hnp_tests::pod::Pod;
use hnp_tests::{Server, bin, node, origin, wait};
use serde_json::Value;
use tempfile::TempDir;

/// A pod, and a directory for what commands leave behind.
pub(crate) struct Scene {
    pub(crate) pod: Pod,
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new(name: &str) -> Scene {
        Scene {
            pod: Pod::new(&format!("exec-{name}")),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The words `hnp exec`, with the backend of this run.
    pub(crate) fn exec_words(&self) -> Vec<String> {
        let hnp = bin::hnp().to_str().unwrap().to_owned();
        vec![hnp, "exec".into(), "--backend".into(), node::backend()]
    }

    /// `hnp exec` in the pod, with nothing of this environment that could configure it.
    pub(crate) fn exec(&self) -> Command {
        // Tests may run in the background of a shell, which ignores these for its jobs; a shell's `trap` would then do nothing.
        let mut command = self.pod.command("env");
        command.arg("--default-signal=HUP,INT,QUIT");
        command.args(self.exec_words());
        for name in ["HNP_CONFIG", "PROXY_URL", "RUST_LOG"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    /// A file in the test's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        // A script, where it is one.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
        path
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// An HTTP origin outside of the pod.
    pub(crate) fn origin(&self, address: &str) -> Server {
        let address = address.parse().unwrap();
        self.pod
            .peer
            .run(|| Server::on(address, |mut stream| origin::serve(&mut stream)))
    }

    /// What is left of cgroups that `hnp exec` made in the pod.
    pub(crate) fn cgroups(&self) -> Vec<String> {
        let names = fs::read_dir(&self.pod.cgroup).unwrap().flatten();
        names
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // After a failure, processes and cgroups may be left, which would keep the pod's.
        let kill = self.pod.cgroup.join("cgroup.kill");
        if std::thread::panicking() && fs::write(kill, "1").is_ok() {
            for left in self.cgroups() {
                let path = self.pod.cgroup.join(left);
                wait::until("a cgroup to go", || {
                    fs::remove_dir(&path).map_err(|error| error.to_string())
                });
            }
        }
    }
}

/// The exit code, or 128+n after a signal.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// The report in what `hnp exec --json` wrote.
pub(crate) fn report(text: &str) -> Value {
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"))
}
