//! Pods of the tests' own: a cgroup, a network namespace joined to another one by veth, HNP's listeners in it.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::{self, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use hnp_dataplane::redirect::{
    Destinations, NetNs, NetnsCookie, OriginalDestination, PodPolicy, RulesId, cgroup2_mount,
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{Shutdown, shutdown},
};

/// The pod's addresses; the peer has `.1` and `::1`.
pub(crate) const POD4: &str = "10.77.0.2";
pub(crate) const POD6: &str = "fd77::2";

/// A cgroup and a pair of namespaces, gone when the test ends.
pub(crate) struct Pod {
    pub(crate) cgroup: PathBuf,
    pub(crate) netns: NetNs,
    pub(crate) peer: NetNs,
    // The namespaces live as long as these are open.
    files: [File; 2],
}

impl Pod {
    pub(crate) fn new(name: &str) -> Self {
        let cgroup = cgroup2_mount()
            .unwrap()
            .join(format!("hnp-test-{name}-{}", process::id()));
        fs::create_dir(&cgroup).unwrap();
        let files = [namespace(), namespace()];
        let open = |file: &File| NetNs::open(&path(file)).unwrap();
        let (netns, peer) = (open(&files[0]), open(&files[1]));
        let there = path(&files[1]);
        netns
            .run(|| {
                ip(&format!(
                    "link add pod0 type veth peer name peer0 netns {}",
                    there.display()
                ));
                address("pod0", POD4, POD6);
            })
            .unwrap();
        peer.run(|| address("peer0", "10.77.0.1", "fd77::1"))
            .unwrap();
        Self {
            cgroup,
            netns,
            peer,
            files,
        }
    }

    /// HNP's part: accepts in the pod's namespace, looks the destination up and writes it to the client.
    pub(crate) fn acceptor(&self, destinations: impl Fn() -> Destinations) -> Acceptor {
        let (v4, v6) = self.netns.listen().unwrap();
        Acceptor::new(v4, v6.unwrap(), destinations)
    }

    /// A listener in the namespace at the other end; it answers nothing.
    pub(crate) fn server(&self, address: &str) -> TcpListener {
        self.peer
            .run(|| TcpListener::bind(address))
            .unwrap()
            .unwrap()
    }

    /// Runs the commands in a process inside the pod; a line of output for each. See `inside`.
    pub(crate) fn client(&self, commands: &[&str]) -> Vec<String> {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "inside::client", "--ignored", "--nocapture"])
            .env("HNP_CLIENT", commands.join("\n"))
            .env("HNP_CLIENT_CGROUP", &self.cgroup)
            .env("HNP_CLIENT_NETNS", path(&self.files[0]))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = String::from_utf8(output.stdout).unwrap();
        output
            .lines()
            .filter_map(|line| Some(line.split_once("= ")?.1.to_owned()))
            .collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Its processes have been waited for, and a cgroup is empty from then on.
        if let Err(error) = fs::remove_dir(&self.cgroup) {
            eprintln!("cannot remove {}: {error}", self.cgroup.display());
        }
    }
}

/// A new network namespace with its loopback interface up.
fn namespace() -> File {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        File::open("/proc/thread-self/ns/net").unwrap()
    })
    .join()
    .unwrap()
}

fn path(namespace: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", process::id(), namespace.as_raw_fd()).into()
}

fn address(device: &str, v4: &str, v6: &str) {
    ip(&format!("address add {v4}/24 dev {device}"));
    ip(&format!("address add {v6}/64 dev {device} nodad"));
    ip(&format!("link set {device} up"));
}

/// iproute2, in the calling thread's namespace.
fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

/// HNP's listeners, with a thread each.
pub(crate) struct Acceptor {
    listeners: [Arc<TcpListener>; 2],
    threads: Vec<JoinHandle<()>>,
    found: Arc<Mutex<Vec<OriginalDestination>>>,
    missed: Arc<AtomicU64>,
}

impl Acceptor {
    fn new(v4: TcpListener, v6: TcpListener, destinations: impl Fn() -> Destinations) -> Self {
        let listeners = [Arc::new(v4), Arc::new(v6)];
        let (found, missed) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicU64>::default());
        let threads = listeners
            .iter()
            .map(|listener| {
                let (listener, mut destinations) = (Arc::clone(listener), destinations());
                let (found, missed) = (Arc::clone(&found), Arc::clone(&missed));
                let netns = NetnsCookie::of_socket(&*listener).unwrap();
                thread::spawn(move || {
                    // Until the listener is shut down.
                    while let Ok((mut stream, client)) = listener.accept() {
                        match destinations.take(netns, client).unwrap() {
                            Some(destination) => {
                                let _ = writeln!(stream, "{}", destination.address);
                                found.lock().unwrap().push(destination);
                            }
                            None => drop(missed.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                })
            })
            .collect();
        Self {
            listeners,
            threads,
            found,
            missed,
        }
    }

    /// A policy that redirects here, failing closed.
    pub(crate) fn policy(&self, rules: RulesId) -> PodPolicy {
        let [port4, port6] = self.listeners.each_ref().map(|listener| {
            let address: SocketAddr = listener.local_addr().unwrap();
            address.port()
        });
        let mut policy = PodPolicy::new(rules, port4, port6);
        policy.source4 = Some(POD4.parse().unwrap());
        policy.source6 = Some(POD6.parse().unwrap());
        policy
    }

    /// What was found so far.
    pub(crate) fn found(&self) -> Vec<OriginalDestination> {
        self.found.lock().unwrap().clone()
    }

    /// How many connections had no destination.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        for listener in &self.listeners {
            shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}
