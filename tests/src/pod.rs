//! Pods of the tests' own: a cgroup, and a network namespace joined to another one by veth.
//!
//! ```text
//!  cgroup hnp-test-NAME-PID ┐
//!  namespace `netns`        ├ what runs by `Pod::command`     namespace `peer`: the network outside
//!    pod0 10.77.0.2 fd77::2 ┴──────────── veth ──────────────── peer0 10.77.0.1 fd77::1
//! ```
//!
//! Needs root, cgroup v2 and iproute2.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::Process;
use crate::wait;

/// The pod's addresses.
pub const POD4: &str = "10.77.0.2";
/// The pod's addresses.
pub const POD6: &str = "fd77::2";
/// The addresses at the other end. Nothing else can be reached, but for what [`Pod::outside`] adds.
pub const PEER4: &str = "10.77.0.1";
/// The addresses at the other end.
pub const PEER6: &str = "fd77::1";

/// A cgroup and a pair of namespaces, gone when this is dropped, with every process that is left in the cgroup.
#[derive(Debug)]
pub struct Pod {
    /// The cgroup's directory.
    pub cgroup: PathBuf,
    /// Where the pod's processes are.
    pub netns: Namespace,
    /// What the pod can reach.
    pub peer: Namespace,
}

impl Pod {
    /// A pod whose cgroup has `name` in its own.
    ///
    /// # Panics
    /// When the machine does not let it be made.
    #[must_use]
    pub fn new(name: &str) -> Pod {
        Pod::at(&cgroup2_mount(), name)
    }

    /// A pod whose cgroup is below `parent`, which is made if need be and left behind.
    ///
    /// # Panics
    /// When the machine does not let it be made.
    #[must_use]
    pub fn at(parent: &Path, name: &str) -> Pod {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = parent.join(format!("hnp-test-{name}-{}-{number}", process::id()));
        Pod::with_cgroup(&cgroup)
    }

    /// A pod with this cgroup, which is made.
    ///
    /// # Panics
    /// When the machine does not let it be made.
    #[must_use]
    pub fn with_cgroup(cgroup: &Path) -> Pod {
        fs::create_dir_all(cgroup)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", cgroup.display()));
        let (netns, peer) = (Namespace::new(), Namespace::new());
        netns.run(|| {
            ip(&format!(
                "link add pod0 type veth peer name peer0 netns {}",
                peer.path().display()
            ));
            address("pod0", POD4, POD6);
        });
        peer.run(|| address("peer0", PEER4, PEER6));
        Pod {
            cgroup: cgroup.to_owned(),
            netns,
            peer,
        }
    }

    /// Runs `program` in the pod: its cgroup and its network namespace, nothing else.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        // Joined first: a socket belongs to the cgroup that its process was in when it was made.
        command
            .args([
                "-c",
                r#"echo 0 >"$0/cgroup.procs" && net=$1 && shift && exec nsenter --net="$net" -- "$@""#,
            ])
            .arg(&self.cgroup)
            .arg(self.netns.path())
            .arg(program);
        command
    }

    /// A process that does nothing, so that the pod has one. It ends with the cgroup.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn pause(&self) -> Process {
        let sleeping = self.command("sleep").arg("infinity").spawn().unwrap();
        let sleeping = Process::new(sleeping);
        // The shell before it has joined the cgroup by then.
        wait::until("a process in the pod", || {
            let own = fs::read_link(format!("/proc/{}/ns/net", sleeping.pid()));
            let pod = fs::read_link(self.netns.path());
            match (own, pod) {
                (Ok(own), Ok(pod)) if own == pod => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        sleeping
    }

    /// Gives the other end one more address, of a network far away.
    ///
    /// # Panics
    /// When it is none.
    pub fn outside(&self, address: IpAddr) {
        let (bits, gateway) = match address {
            IpAddr::V4(_) => (32, PEER4),
            IpAddr::V6(_) => (128, PEER6),
        };
        self.peer
            .run(|| ip(&format!("address add {address}/{bits} dev lo")));
        self.netns
            .run(|| ip(&format!("route add {address}/{bits} via {gateway}")));
    }

    /// A listener in the namespace at the other end.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn server(&self, address: &str) -> TcpListener {
        self.peer.run(|| TcpListener::bind(address)).unwrap()
    }

    /// Ends every process in the cgroup and removes it, as the kubelet does; the namespaces live on until the pod is dropped.
    ///
    /// # Panics
    /// When it stays.
    pub fn delete_cgroup(&self) {
        delete_cgroup(&self.cgroup);
    }
}

/// As [`Pod::delete_cgroup`], for whoever cannot drop the pod.
///
/// # Panics
/// When it stays.
pub fn delete_cgroup(cgroup: &Path) {
    if !cgroup.exists() {
        return;
    }
    // Linux 5.14. Without it the processes must have been waited for.
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    wait::until("the pod's cgroup to go", || {
        fs::remove_dir(cgroup).map_err(|error| error.to_string())
    });
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.delete_cgroup();
    }
}

/// A network namespace of the test's own, kept open: it lives as long as this, its sockets and its processes do.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, with its loopback interface up.
    ///
    /// # Panics
    /// When the kernel refuses it.
    #[must_use]
    pub fn new() -> Namespace {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Namespace {
            file: made.join().unwrap(),
        }
    }

    /// A path by which other processes open it, while this one lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` inside, on a thread of its own that ends with it.
    ///
    /// # Panics
    /// When the kernel does not let it in, or `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

/// Where cgroup v2 is mounted.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn cgroup2_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| PathBuf::from(fields[1]))
    });
    mount.expect("cgroup v2 is mounted")
}

/// A BPF file system of the test's own.
#[derive(Debug)]
pub struct Bpffs(tempfile::TempDir);

impl Bpffs {
    /// Mounts it.
    ///
    /// # Panics
    /// When the machine does not let it be mounted.
    #[must_use]
    pub fn new() -> Bpffs {
        let directory = tempfile::tempdir().unwrap();
        let (kind, nothing): (_, Option<&str>) = (Some("bpf"), None);
        mount(kind, directory.path(), kind, MsFlags::empty(), nothing).unwrap();
        Bpffs(directory)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for Bpffs {
    fn default() -> Bpffs {
        Bpffs::new()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

/// Takes a [`Bpffs`] away, for whoever cannot drop it; its directory stays. What is pinned there goes with it.
pub fn unmount(bpffs: &Path) {
    let _ = umount2(bpffs, MntFlags::MNT_DETACH);
}

fn address(device: &str, v4: &str, v6: &str) {
    ip(&format!("address add {v4}/24 dev {device}"));
    ip(&format!("address add {v6}/64 dev {device} nodad"));
    ip(&format!("link set {device} up"));
}

/// iproute2, in the calling thread's namespace.
///
/// # Panics
/// When it refuses.
pub fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}
