//! Connections from before: counted, left alone, or closed.

use std::{
    io::{BufRead as _, BufReader, Lines, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Stdio},
};

use hnp_dataplane::redirect::{Counter, Existing};

use super::{
    Setup,
    pod::{POD4, Pod},
};

#[test]
fn connections_from_before_are_counted_and_closed_on_request() {
    let Some(mut it) = Setup::new("existing") else {
        return;
    };
    let (v4, v6) = (
        it.pod.server("10.77.0.1:8080"),
        it.pod.server("[fd77::1]:8080"),
    );
    let clients = [
        Waiting::connect(&it.pod, "10.77.0.1:8080", &v4),
        Waiting::connect(&it.pod, "[fd77::1]:8080", &v6),
        Waiting::connect(&it.pod, "[::ffff:10.77.0.1]:8080", &v4),
    ];
    // None of these is a connection of the pod's to somewhere else: one that it accepted, one within it, one by a process
    // that is not in its cgroup.
    let listener = it.pod.netns.run(|| TcpListener::bind("0.0.0.0:9000"));
    let listener = listener.unwrap();
    let to: SocketAddr = format!("{POD4}:9000").parse().unwrap();
    let _into = it.pod.peer.run(|| TcpStream::connect(to)).unwrap();
    let _accepted = listener.accept().unwrap();
    let _within = Waiting::connect(&it.pod, "127.0.0.1:9000", &listener);
    let _foreign = it
        .pod
        .netns
        .run(|| TcpStream::connect("10.77.0.1:8080"))
        .unwrap();
    let _attached = it.attach(&[], |_| {});
    // Nor is one that was captured.
    let captured = it.pod.client(&["tcp 10.77.0.1:8080"]);
    assert!(captured[0].starts_with("10.77.0.1:8080 "), "{captured:?}");

    let find = || Existing::find(&it.pod.inside, &it.pod.cgroup).unwrap();
    let found = find();
    let mut remotes: Vec<String> = found.iter().map(|one| one.remote.to_string()).collect();
    remotes.sort();
    assert_eq!(
        remotes,
        ["10.77.0.1:8080", "10.77.0.1:8080", "[fd77::1]:8080"]
    );
    let locals: Vec<SocketAddr> = clients.iter().map(|one| one.local).collect();
    assert!(
        found.iter().all(|one| locals.contains(&one.local)),
        "{found:?} {locals:?}"
    );

    assert_eq!(Existing::destroy(&it.pod.inside, &found).unwrap(), 3);
    for client in clients {
        assert_eq!(client.end(), "ECONNABORTED");
    }
    assert_eq!(find(), []);
    // They are gone, which is no error.
    assert_eq!(Existing::destroy(&it.pod.inside, &found).unwrap(), 0);
    assert_eq!(it.count(Counter::Relayed), 1);
}

/// A process of the pod that has connected and waits.
struct Waiting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    local: SocketAddr,
    server: TcpStream,
}

impl Waiting {
    fn connect(pod: &Pod, to: &str, server: &TcpListener) -> Self {
        let mut child = pod
            .process(&[&format!("wait {to}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let local = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("connected ")?.to_owned()))
            .unwrap();
        let local: SocketAddr = local.parse().unwrap();
        Self {
            child,
            lines,
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            server: server.accept().unwrap().0,
        }
    }

    /// What became of the connection on its side; on the other, there is a reset.
    fn end(mut self) -> String {
        let said = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("= ")?.to_owned()))
            .unwrap();
        let reset = self.server.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
        said
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.server.shutdown(std::net::Shutdown::Both);
        self.child.wait().unwrap();
    }
}
