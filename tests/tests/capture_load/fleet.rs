//! Pods, a node that intercepts them, servers that they reach.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use hnp_dataplane::intercept::client::Client;
use hnp_dataplane::intercept::protocol::{PodReport, Request};
use hnp_dataplane::redirect::{Pins, Programs};
use hnp_tests::pod::{self, Bpffs, PEER4, PEER6, Pod};
use hnp_tests::process::Process;
use hnp_tests::{Node, wait};

use super::client::{PORTS, Tally};

/// Fields drop in this order.
pub(crate) struct Fleet {
    pub(crate) node: Node,
    pods: Vec<Member>,
    bpffs: Bpffs,
    directory: tempfile::TempDir,
}

struct Member {
    pod: Pod,
    _pause: Process,
}

impl Fleet {
    /// A node, and so many pods that it intercepts, failing `open` or `closed`.
    pub(crate) fn start(name: &str, pods: usize, failure: &str) -> Fleet {
        let pods: Vec<Member> = thread::scope(|scope| {
            let started: Vec<_> = (0..pods)
                .map(|_| scope.spawn(|| Member::start(name)))
                .collect();
            started.into_iter().map(|pod| pod.join().unwrap()).collect()
        });
        let bpffs = Bpffs::new();
        let directory = tempfile::tempdir().unwrap();
        let node = node(failure, &bpffs, &directory);
        let fleet = Fleet {
            node,
            pods,
            bpffs,
            directory,
        };
        for member in &fleet.pods {
            fleet.ask(&Request::Attach {
                cgroup: Some(member.pod.cgroup.clone()),
                pid: None,
                close_existing: false,
            });
        }
        fleet
    }

    fn ask(&self, request: &Request) -> Vec<PodReport> {
        let mut client = Client::connect(&control(&self.directory)).unwrap();
        client.ask(request).unwrap()
    }

    /// A counter of the kernel's, over all pods.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let pods = self.ask(&Request::List);
        assert_eq!(pods.len(), self.pods.len());
        let counts = pods.iter().flat_map(|pod| &pod.counters);
        let values: Vec<u64> = counts
            .filter(|(counter, _)| counter == name)
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(values.len(), self.pods.len(), "no counter {name}");
        values.iter().sum()
    }

    /// A client in every pod, all at once; each makes so many connections.
    pub(crate) fn connect(&self, each: usize) -> Vec<Tally> {
        let clients: Vec<Child> = (1..)
            .zip(&self.pods)
            .map(|(seed, member)| member.client(seed, Some(each)))
            .collect();
        let tally = |client: Child| {
            let output = client.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let tally = text.lines().find_map(Tally::read);
            tally.unwrap_or_else(|| panic!("{} {text}", output.status))
        };
        clients.into_iter().map(tally).collect()
    }

    /// A client in every pod that goes on until it is ended.
    pub(crate) fn load(&self) -> Load {
        let clients = (1..).zip(&self.pods).map(|(seed, member)| {
            let mut child = member.client(seed, None);
            Running {
                lines: BufReader::new(child.stdout.take().unwrap()).lines(),
                input: child.stdin.take(),
                child,
            }
        });
        Load {
            clients: clients.collect(),
            refusals: Vec::new(),
        }
    }

    /// Waits until the killed node is gone, and its listeners with it: the kernel ends its ring when it finds the time.
    pub(crate) fn await_death(&mut self) {
        assert!(!self.node.is_running() || self.node.exit_code() != 0);
        for member in &self.pods {
            wait::until("the dead node's listeners to go", || {
                match member.listeners() {
                    0 => Ok(()),
                    count => Err(format!("{count} listen still")),
                }
            });
        }
    }

    /// Another node in the place of the dead one.
    pub(crate) fn restart(&mut self, failure: &str) {
        self.node = node(failure, &self.bpffs, &self.directory);
        wait::until("the pods to be taken over", || {
            let mut client =
                Client::connect(&control(&self.directory)).map_err(|error| error.to_string())?;
            match client.ask(&Request::List).unwrap().len() {
                count if count == self.pods.len() => Ok(()),
                count => Err(format!("{count} pods")),
            }
        });
    }

    /// What the node has open, by kind.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let mut open = self.node.descriptors();
        open.sort();
        open
    }

    pub(crate) fn await_descriptors(&self, before: &[String]) {
        wait::until("the connections' descriptors to be closed", || {
            let now = self.descriptors();
            if now.len() <= before.len() {
                Ok(())
            } else {
                Err(format!("{} before, now {}", before.len(), now.len()))
            }
        });
    }

    /// The kernel's maps, as pinned.
    pub(crate) fn kernel(&self) -> Programs {
        let pins = Pins::open(&self.pins()).unwrap();
        Programs::load_pinned(pins).unwrap()
    }

    fn pins(&self) -> PathBuf {
        pins(&self.bpffs)
    }

    /// Deletes the pods, as the kubelet does, and waits until HNP has noticed.
    pub(crate) fn delete_pods(&mut self) {
        let namespaces: Vec<PathBuf> = self
            .pods
            .iter()
            .map(|member| fs::read_link(member.pod.netns.path()).unwrap())
            .collect();
        self.pods.clear();
        wait::until("HNP to forget the pods", || {
            match self.ask(&Request::List).len() {
                0 => Ok(()),
                count => Err(format!("{count} pods")),
            }
        });
        let held = || {
            let open = self.node.descriptors();
            let is_held = |namespace: &&PathBuf| open.contains(&namespace.display().to_string());
            namespaces.iter().filter(is_held).count()
        };
        wait::until("HNP to let go of their namespaces", || match held() {
            0 => Ok(()),
            count => Err(format!("{count} held")),
        });
    }

    /// No pin, no map entry, no listener of a pod.
    pub(crate) fn assert_nothing_left(&self) {
        let pods = fs::read_dir(self.pins().join("v1/pods")).unwrap();
        let left: Vec<_> = pods.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "pinned still: {left:?}");
        let kernel = self.kernel();
        assert_eq!(kernel.rules_len().unwrap(), 0, "rules");
        assert_eq!(kernel.pods().unwrap(), Vec::<u32>::new(), "counters");
        let mut destinations = kernel.destinations().unwrap();
        // Those of connections that died in the backlog of a killed HNP are swept a minute later.
        destinations.sweep(Duration::ZERO).unwrap();
        assert_eq!(destinations.waiting().unwrap(), 0, "destinations");
        let metrics = self.node.metrics();
        assert_eq!(metrics.require("hnp_connections_active"), 0.0);
    }
}

impl Member {
    fn start(name: &str) -> Member {
        let pod = Pod::new(name);
        pod.netns.run(|| {
            pod::ip(&format!("route add default via {PEER4}"));
            pod::ip(&format!("-6 route add default via {PEER6}"));
        });
        pod.peer.run(|| {
            // Every address there is this host's.
            pod::ip("route add local 203.0.113.0/24 dev lo");
            pod::ip("-6 route add local 2001:db8::/64 dev lo");
            fs::write("/proc/sys/net/core/somaxconn", "4096").unwrap();
        });
        for port in PORTS {
            let address: SocketAddr = format!("[::]:{port}").parse().unwrap();
            let listener = pod.peer.run(|| TcpListener::bind(address)).unwrap();
            thread::spawn(move || serve(&listener));
        }
        let pause = pod.pause();
        Member { pod, _pause: pause }
    }

    fn client(&self, seed: u64, count: Option<usize>) -> Child {
        let mut command = self.pod.command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "client::client", "--ignored", "--nocapture"])
            .env("CLIENT_SEED", seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(count) = count {
            command.env("CLIENT_COUNT", count.to_string());
        }
        command.spawn().unwrap()
    }

    /// How many sockets listen in the pod.
    fn listeners(&self) -> usize {
        self.pod.netns.run(|| {
            let listening = |file: &str| {
                let table = fs::read_to_string(file).unwrap();
                table
                    .lines()
                    .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
                    .count()
            };
            listening("/proc/thread-self/net/tcp") + listening("/proc/thread-self/net/tcp6")
        })
    }
}

/// Says at which address it was reached. Ends with the test program.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let own = stream.local_addr().unwrap();
        let own = SocketAddr::new(own.ip().to_canonical(), own.port());
        // The client, or HNP, may have been killed.
        let _ = stream.write_all(own.to_string().as_bytes());
    }
}

fn node(failure: &str, bpffs: &Bpffs, directory: &tempfile::TempDir) -> Node {
    let config = format!(
        "[intercept]\ncontrol = \"{}\"\npins = \"{}\"\nfailure = \"{failure}\"\n[log]\naccess = false",
        control(directory).display(),
        pins(bpffs).display(),
    );
    Node::builder().config(&config).start()
}

fn control(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("control.sock")
}

fn pins(bpffs: &Bpffs) -> PathBuf {
    bpffs.path().join("hnp")
}

/// Clients that connect all the time.
pub(crate) struct Load {
    clients: Vec<Running>,
    refusals: Vec<u64>,
}

struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// Waits until each has tried another hundred times, or more.
    pub(crate) fn await_some(&mut self) {
        for client in &mut self.clients {
            for _ in 0..3 {
                client.find(|line| (line == "fifty").then_some(()));
            }
        }
    }

    /// Begins another phase; what came of the one before.
    pub(crate) fn next(&mut self) -> Tally {
        let mut sum = Tally::default();
        for client in &mut self.clients {
            client.input.as_mut().unwrap().write_all(b"\n").unwrap();
            sum.add(&client.find(Tally::read));
        }
        self.refusals.append(&mut sum.refusals);
        sum
    }

    /// Ends the clients; how long refusals took, but for one in twenty.
    pub(crate) fn end(mut self) -> Duration {
        for client in &mut self.clients {
            drop(client.input.take());
            assert!(client.child.wait().unwrap().success());
        }
        self.refusals.sort_unstable();
        let count = self.refusals.len();
        let at = |part: usize| self.refusals.get(part).copied().unwrap_or(0);
        let most = at(count * 95 / 100);
        println!(
            "{count} refusals: half within {} µs, 95 of 100 within {most} µs, all within {} µs",
            at(count / 2),
            at(count.saturating_sub(1))
        );
        Duration::from_micros(most)
    }
}

impl Running {
    fn find<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find_map(|line| wanted(&line)).unwrap()
    }
}
