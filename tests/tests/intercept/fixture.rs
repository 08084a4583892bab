//! A node that intercepts a pod.

use std::io;
use std::net::{SocketAddr, TcpStream};

use hnp_tests::node::hnp;
use hnp_tests::pod::{Bpffs, Pod};
use hnp_tests::process::{self, Outcome, Process};
use hnp_tests::{DEADLINE, Node, NodeBuilder, Server};

/// An address of a network far away, which the pod can reach.
pub(crate) const FAR: &str = "203.0.113.7";

/// A node, and a pod that it intercepts. Fields drop in this order.
pub(crate) struct Intercepting {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    _pause: Process,
    _bpffs: Bpffs,
    _directory: tempfile::TempDir,
}

impl Intercepting {
    /// With this in the configuration.
    pub(crate) fn start(name: &str, config: &str) -> Intercepting {
        let it = Intercepting::unattached(name, |node| node.config(config));
        it.attach().success();
        it
    }

    /// The pod is not yet intercepted.
    pub(crate) fn unattached(
        name: &str,
        describe: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Intercepting {
        let pod = Pod::new(name);
        pod.outside(FAR.parse().unwrap());
        let pause = pod.pause();
        let bpffs = Bpffs::new();
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control.sock");
        let places = format!(
            "[intercept]\ncontrol = \"{}\"\npins = \"{}\"",
            control.display(),
            bpffs.path().display()
        );
        let node = describe(Node::builder().config(&places)).start();
        Intercepting {
            node,
            pod,
            _pause: pause,
            _bpffs: bpffs,
            _directory: directory,
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

    /// A server outside the pod, on a free port of `address`.
    pub(crate) fn serve(
        &self,
        address: &str,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let address = SocketAddr::new(address.parse().unwrap(), 0);
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

    /// Runs Python in the pod.
    pub(crate) fn python(&self, code: &str) -> Outcome {
        let mut command = self.pod.command("python3");
        process::run(command.args(["-c", code]), DEADLINE)
    }

    /// The access line of a connection to there.
    pub(crate) fn line(&self, original: SocketAddr) -> String {
        let log = self.node.log();
        log.await_line(&["log=access", &format!("original={original} ")])
    }
}
