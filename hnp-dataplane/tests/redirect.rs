//! The eBPF programs in a real kernel, on a cgroup of the test's own. Needs root and cgroup v2.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]
use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{self, Command},
};

use hnp_common::ConnectKey;
use hnp_dataplane::redirect::{Programs, RedirectError, cgroup2_mount};
use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};

const TCP4: ConnectKey = key(AF_INET, IPPROTO_TCP);
const UDP4: ConnectKey = key(AF_INET, IPPROTO_UDP);
const TCP6: ConnectKey = key(AF_INET6, IPPROTO_TCP);

#[test]
fn connects_in_the_cgroup_are_counted_and_pass() {
    let Some((cgroup, mut programs)) = prepare("counted") else {
        return;
    };
    let attached = programs.attach(&cgroup.0).unwrap();
    let tcp4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").unwrap();
    let udp4 = UdpSocket::bind("127.0.0.1:0").unwrap();

    cgroup.connect("tcp/127.0.0.1", tcp4.local_addr().unwrap().port());
    cgroup.connect("tcp/127.0.0.1", tcp4.local_addr().unwrap().port());
    cgroup.connect("tcp/::1", tcp6.local_addr().unwrap().port());
    cgroup.connect("udp/127.0.0.1", udp4.local_addr().unwrap().port());
    // Outside the cgroup: none of its business.
    std::net::TcpStream::connect(tcp4.local_addr().unwrap()).unwrap();

    let expected = BTreeMap::from([(TCP4, 2), (TCP6, 1), (UDP4, 1)]);
    assert_eq!(programs.connects().unwrap(), expected);

    drop(attached);
    cgroup.connect("tcp/127.0.0.1", tcp4.local_addr().unwrap().port());
    assert_eq!(
        programs.connects().unwrap(),
        expected,
        "detached, but still counting"
    );
}

#[test]
fn two_instances_can_watch_one_cgroup() {
    // A rolling update has the old hnp and the new one attached at once.
    let Some((cgroup, mut old)) = prepare("twice") else {
        return;
    };
    let mut new = Programs::load().unwrap();
    let old_attached = old.attach(&cgroup.0).unwrap();
    let _new_attached = new.attach(&cgroup.0).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();

    cgroup.connect("tcp/127.0.0.1", port);
    drop(old_attached);
    cgroup.connect("tcp/127.0.0.1", port);

    assert_eq!(old.connects().unwrap(), BTreeMap::from([(TCP4, 1)]));
    assert_eq!(new.connects().unwrap(), BTreeMap::from([(TCP4, 2)]));
}

#[test]
fn what_is_no_cgroup_is_refused_by_name() {
    let Some((_cgroup, mut programs)) = prepare("refused") else {
        return;
    };
    let missing = programs
        .attach(Path::new("/nonexistent/cgroup"))
        .unwrap_err();
    assert!(matches!(missing, RedirectError::Path { .. }), "{missing}");
    assert!(
        missing.to_string().contains("/nonexistent/cgroup"),
        "{missing}"
    );
    let plain = programs.attach(Path::new("/tmp")).unwrap_err();
    assert!(
        plain.to_string().contains("attach eBPF programs to /tmp"),
        "{plain}"
    );
}

#[test]
fn without_privilege_the_error_names_the_capability() {
    if prepare("privilege").is_none() {
        return;
    }
    // This very test in a process without capabilities: what it prints is what `load` says there.
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "load_without_capabilities",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("it lacks CAP_BPF and CAP_NET_ADMIN"),
        "{said}{output:?}"
    );
}

#[test]
#[ignore = "the unprivileged half of another test"]
fn load_without_capabilities() {
    println!("load says: {}", Programs::load().unwrap_err());
}

const fn key(family: i32, protocol: i32) -> ConnectKey {
    ConnectKey {
        family: family as u32,
        protocol: protocol as u32,
    }
}

/// A cgroup and the loaded programs; or nothing, having said so, where the machine does not allow it. CI counts that as
/// a failure, so that nobody believes this was tested.
fn prepare(name: &str) -> Option<(TestCgroup, Programs)> {
    let prepared = TestCgroup::new(name).and_then(|cgroup| Ok((cgroup, Programs::load()?)));
    match prepared {
        Ok(prepared) => Some(prepared),
        Err(error) => {
            let no_skip = ["CI", "HNP_CI_NO_SKIP"].into_iter().any(|name| {
                std::env::var(name).is_ok_and(|value| !matches!(&*value, "" | "0" | "false"))
            });
            assert!(!no_skip, "must run here: {error}");
            skipped(&error.to_string());
            None
        }
    }
}

/// Says that the current test was skipped: on its output, and in the file by which `cargo xtask test` learns of it.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("skipped: {why}");
    if let Some(list) = std::env::var_os("HNP_TEST_SKIPPED") {
        use std::io::Write as _;
        let mut list = fs::File::options()
            .append(true)
            .create(true)
            .open(list)
            .unwrap();
        // One write, so that tests in parallel do not mix their lines.
        list.write_all(format!("{test}: {}\n", why.replace('\n', " ")).as_bytes())
            .unwrap();
    }
}

/// A cgroup of the test's own, removed when the test ends.
struct TestCgroup(PathBuf);

impl TestCgroup {
    fn new(name: &str) -> Result<Self, RedirectError> {
        let path = cgroup2_mount()?.join(format!("hnp-test-{name}-{}", process::id()));
        fs::create_dir(&path).map_err(|error| RedirectError::Path {
            doing: "create the cgroup",
            path: path.clone(),
            error,
        })?;
        Ok(Self(path))
    }

    /// Connects from a process inside the cgroup, and checks that the connection is made.
    fn connect(&self, to: &str, port: u16) {
        // bash connects by itself, and has moved itself before.
        let script = r#"echo $$ >"$1/cgroup.procs" && exec 3<>"/dev/$2/$3""#;
        let status = Command::new("bash")
            .args(["-c", script, "connect"])
            .arg(&self.0)
            .args([to, &port.to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "{to} port {port}: {status}");
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // Its processes have been waited for, and a cgroup is empty from then on.
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
