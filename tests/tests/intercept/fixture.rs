//! A node that intercepts a pod.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use hnp_tests::node::hnp;
use hnp_tests::pod::{Bpffs, Pod};
use hnp_tests::process::{self, Outcome, Process};
use hnp_tests::{DEADLINE, Node, NodeBuilder, Server};

/// An address of a network far away, which the pod can reach.
pub(crate) const FAR: &str = "203.0.113.7";
/// Another one.
pub(crate) const FARTHER: &str = "198.51.100.4";

/// A node, and a pod that it intercepts. Fields drop in this order.
pub(crate) struct Intercepting {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    _pause: Process,
    bpffs: Bpffs,
    directory: tempfile::TempDir,
    config: String,
}

impl Intercepting {
    /// With this in the configuration.
    pub(crate) fn start(name: &str, config: &str) -> Intercepting {
        let mut it = Intercepting::unattached(name, |node| node.config(config));
        it.config = config.to_owned();
        it.attach().success();
        it
    }

    /// Another node in the place of the one that has ended, with the same configuration.
    pub(crate) fn restart(&mut self) {
        let places = places(&self.directory, &self.bpffs);
        self.node = Node::builder().config(&places).config(&self.config).start();
    }

    /// The pod is not yet intercepted.
    pub(crate) fn unattached(
        name: &str,
        describe: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Intercepting {
        let pod = Pod::new(name);
        for address in [FAR, FARTHER] {
            pod.outside(address.parse().unwrap());
        }
        let pause = pod.pause();
        let bpffs = Bpffs::new();
        let directory = tempfile::tempdir().unwrap();
        let places = places(&directory, &bpffs);
        let node = describe(Node::builder().config(&places)).start();
        Intercepting {
            node,
            pod,
            _pause: pause,
            bpffs,
            directory,
            config: String::new(),
        }
    }

    /// `hnp intercept` with these arguments.
    pub(crate) fn intercept(&self, arguments: &[&str]) -> Outcome {
        let mut command = hnp();
        command.arg("intercept").args(arguments);
        command.arg("--config").arg(self.node.config_file());
        process::run(&mut command, DEADLINE)
    }

    /// Has the pod intercepted.
    pub(crate) fn attach(&self) -> Outcome {
        let cgroup = self.pod.cgroup.to_str().unwrap();
        self.intercept(&["--cgroup", cgroup])
    }

    /// What HNP calls the pod.
    pub(crate) fn label(&self) -> String {
        let name = self.pod.cgroup.file_name().unwrap();
        name.to_str().unwrap().to_owned()
    }

    /// The control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    /// Where HNP pins.
    pub(crate) fn pinned(&self) -> &Path {
        self.bpffs.path()
    }

    /// The pods that are pinned.
    pub(crate) fn pins(&self) -> Vec<String> {
        let pods = std::fs::read_dir(self.bpffs.path().join("v1/pods")).unwrap();
        pods.map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// A server outside the pod, on a free port of `address`.
    pub(crate) fn serve(
        &self,
        address: &str,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        self.serve_on((address, 0), serve)
    }

    /// A server outside the pod; port 0 is a free one.
    pub(crate) fn serve_on(
        &self,
        (address, port): (&str, u16),
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.pod.peer.run(|| Server::on(address, serve))
    }

    /// Connects in the pod, sends, ends its side; gives what came.
    pub(crate) fn exchange(&self, to: SocketAddr, message: &str) -> String {
        self.python(&format!(
            "import socket,sys\n\
             s = socket.create_connection(('{}', {}))\n\
             s.sendall(b'{message}')\n\
             s.shutdown(socket.SHUT_WR)\n\
             while True:\n\
             \x20   got = s.recv(65536)\n\
             \x20   if not got: break\n\
             \x20   sys.stdout.write(got.decode())\n",
            to.ip(),
            to.port()
        ))
        .success()
    }

    /// Connects in the pod and reads: what came first, or the name of the error that there was.
    pub(crate) fn ends_by(&self, to: &str) -> String {
        self.ends_by_after(to, "")
    }

    /// As [`Intercepting::ends_by`], after sending this.
    pub(crate) fn ends_by_after(&self, to: &str, message: &str) -> String {
        let (host, port) = to.rsplit_once(':').unwrap();
        let code = format!(
            "import socket\n\
             try:\n\
             \x20   s = socket.create_connection(('{host}', {port}))\n\
             \x20   s.sendall(b'{message}')\n\
             \x20   print(s.recv(100))\n\
             except OSError as e: print(type(e).__name__)"
        );
        self.python(&code).success().trim().to_owned()
    }

    /// Runs Python in the pod.
    pub(crate) fn python(&self, code: &str) -> Outcome {
        let mut command = self.pod.command("python3");
        process::run(command.args(["-c", code]), DEADLINE)
    }

    /// Runs curl in the pod.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.pod.command("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ]);
        process::run(command.args(arguments), DEADLINE)
    }

    /// The access line of a connection to there.
    pub(crate) fn line(&self, original: SocketAddr) -> String {
        let log = self.node.log();
        log.await_line(&["log=access", &format!("original={original} ")])
    }
}

/// Where the control socket and the pins are.
fn places(directory: &tempfile::TempDir, bpffs: &Bpffs) -> String {
    format!(
        "[intercept]\ncontrol = \"{}\"\npins = \"{}\"",
        directory.path().join("control.sock").display(),
        bpffs.path().display()
    )
}
