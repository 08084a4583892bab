//! A pod with HNP's listeners in it.

use std::{
    collections::VecDeque,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    ops::Deref,
    os::fd::AsRawFd as _,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use hnp_dataplane::redirect::{
    Destinations, NetNs, NetnsCookie, OriginalDestination, PodPolicy, RulesId,
};
use hnp_tests::pod;
use nix::sys::socket::{Shutdown, shutdown};

pub(crate) use hnp_tests::pod::{POD4, POD6};

/// A pod, and its namespace as HNP opens it.
pub(crate) struct Pod {
    pub(crate) pod: pod::Pod,
    pub(crate) inside: NetNs,
}

impl Deref for Pod {
    type Target = pod::Pod;

    fn deref(&self) -> &pod::Pod {
        &self.pod
    }
}

impl Pod {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(pod::Pod::new(name))
    }

    pub(crate) fn of(pod: pod::Pod) -> Self {
        let inside = NetNs::open(&pod.netns.path()).unwrap();
        Self { pod, inside }
    }

    /// HNP's part: accepts in the pod's namespace, looks the destination up and writes it to the client.
    pub(crate) fn acceptor(&self, destinations: impl Fn() -> Destinations) -> Acceptor {
        let (v4, v6) = self.inside.listen().unwrap();
        Acceptor::new(v4, v6.unwrap(), destinations)
    }

    /// Runs the commands in a process inside the pod; a line of output for each. See `inside`.
    pub(crate) fn client(&self, commands: &[&str]) -> Vec<String> {
        let output = self.process(commands).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = String::from_utf8(output.stdout).unwrap();
        output
            .lines()
            .filter_map(|line| Some(line.split_once("= ")?.1.to_owned()))
            .collect()
    }

    /// The process that [`Pod::client`] runs.
    pub(crate) fn process(&self, commands: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "inside::client", "--ignored", "--nocapture"])
            .env("HNP_CLIENT", commands.join("\n"))
            .env("HNP_CLIENT_CGROUP", &self.cgroup)
            .env("HNP_CLIENT_NETNS", self.netns.path());
        command
    }
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
                    // Those that said something early, which is not read here, would be reset if they were closed at once.
                    let mut finished = VecDeque::new();
                    // Until the listener is shut down.
                    while let Ok((mut stream, client)) = listener.accept() {
                        // Noted before anybody can see that it is taken, or the client that it is answered.
                        let mut noted = found.lock().unwrap();
                        match destinations.take(netns, client).unwrap() {
                            Some(destination) => {
                                let address = destination.address;
                                noted.push(destination);
                                drop(noted);
                                let _ = writeln!(stream, "{address}");
                                let _ = stream.shutdown(std::net::Shutdown::Write);
                                finished.push_back(stream);
                            }
                            None => drop(missed.fetch_add(1, Ordering::Relaxed)),
                        }
                        if finished.len() > 32 {
                            finished.pop_front();
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
