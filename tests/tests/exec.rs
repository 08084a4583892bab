//! `hnp exec` as its users meet it, in network namespaces of the tests' own. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "exec/clients.rs"]
mod clients;
#[path = "exec/rows.rs"]
mod rows;
#[path = "exec/scene.rs"]
mod scene;
#[path = "exec/terminal.rs"]
mod terminal;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use hnp_tests::process::{self, Process};
use hnp_tests::random::{self, Random};
use hnp_tests::{DEADLINE, wait};
use nix::sys::signal::Signal;
use scene::{Scene, code};
use sha2::{Digest as _, Sha256};

#[test]
fn exit_codes_are_the_commands() {
    let scene = Scene::new("codes");
    let script = scene.file("script", "#!/nonexistent/interpreter\n");
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--", "true"], 0, "made no connections"),
        (&["--", "sh", "-c", "exit 7"], 7, "made no connections"),
        (&["--quiet", "sh", "-c", "exit 255"], 255, ""),
        (&["-q", "sh", "-c", "kill -TERM $$"], 143, ""),
        (&["-q", "sh", "-c", "kill -KILL $$"], 137, ""),
        (
            &["nonexistent-command"],
            127,
            "nonexistent-command: command not found",
        ),
        (&["/etc/passwd"], 126, "cannot run /etc/passwd"),
        (&[&script], 126, "cannot run"),
        (&["--bogus", "true"], 2, "--bogus"),
    ];
    for (arguments, expected, says) in cases {
        let outcome = process::run(scene.exec().args(arguments), DEADLINE);
        assert_eq!(code(outcome.status), expected, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{arguments:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.stderr.is_empty(), says.is_empty(), "{outcome:?}");
    }
    assert_eq!(scene.cgroups(), Vec::<String>::new(), "nothing is left");
}

#[test]
fn input_and_output_are_the_commands() {
    let scene = Scene::new("pipes");
    let bytes = Random::new(random::seed()).bytes(5_000_001);
    let input = scene.file("input", "");
    fs::write(&input, &bytes).unwrap();
    let mut exec = scene.exec();
    exec.args(["-q", "sh", "-c", "echo from the command >&2; cat"]);
    let stdin = Stdio::from(File::open(&input).unwrap());
    let outcome = process::run_with(&mut exec, DEADLINE, stdin, process::read_all);
    assert_eq!(outcome.status.code(), Some(0));
    assert_eq!(Sha256::digest(&outcome.stdout), Sha256::digest(&bytes));
    assert_eq!(outcome.stderr, "from the command\n");
}

#[test]
fn the_command_finds_everything_as_hnp_found_it() {
    let scene = Scene::new("as-found");
    // Limits, ignored and blocked signals, descriptors, environment, directory, process group.
    // (Of the real-time signals the C library keeps some to itself.)
    let look = "ulimit -n; ulimit -Hn; grep -E '^Sig(Blk|Ign)' /proc/self/status | grep -o '.......$'; ls /proc/self/fd; env | grep -v ^_ | sort; \
                pwd; cut -d' ' -f5 /proc/$$/stat | xargs -I{} cat /proc/{}/comm";
    let surrounded = |command: &[&str]| {
        let mut around = scene.pod.command("sh");
        around.args([
            "-c",
            r#"ulimit -Sn 777; trap "" HUP USR2; cd /tmp; export A=b; "$@""#,
            "sh",
        ]);
        around.args(command).args(["sh", "-c", look]);
        process::run(&mut around, DEADLINE).success()
    };
    let without = surrounded(&[]);
    let hnp = scene.exec_words();
    let mut words: Vec<&str> = hnp.iter().map(String::as_str).collect();
    words.push("-q");
    assert_eq!(surrounded(&words), without);
    assert!(without.starts_with("777\n"), "{without}");
}

#[test]
fn signals_to_hnp_alone_reach_the_command() {
    let scene = Scene::new("signals");
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGWINCH, "WINCH"),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let (mut exec, mut lines, _stdin) = scene.talk(&["-q", "sh", "-c", &script]);
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        exec.signal(signal);
        // The shell's trap waits for the end of `sleep`. A `read` would miss a signal that comes just before it.
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {name}"));
        assert_eq!(code(exec.ended_within(DEADLINE).unwrap()), 9, "{name}");
    }
    // Without a trap it ends, and hnp says by what.
    let (mut exec, mut lines, _stdin) = scene.talk(&["-q", "sh", "-c", "echo ready; read line"]);
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    exec.signal(Signal::SIGTERM);
    assert_eq!(code(exec.ended_within(DEADLINE).unwrap()), 143);
    assert_eq!(scene.cgroups(), Vec::<String>::new());
}

#[test]
fn who_outlives_the_command_is_left_alone_and_told_of() {
    let scene = Scene::new("outlives");
    let server = scene.origin("10.77.0.1:80");
    let fifo = scene.path("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The grandchild waits for a word, then asks the origin by itself.
    let answer = scene.path("answer");
    let script = format!(
        "(read go <{fifo}; curl -s http://10.77.0.1/head >{answer}.part; mv {answer}.part {answer}) >/dev/null 2>&1 &"
    );
    let outcome = process::run(scene.exec().args(["sh", "-c", &script]), DEADLINE);
    assert_eq!(outcome.status.code(), Some(0));
    assert!(
        outcome
            .stderr
            .contains("a process of the command is still running"),
        "{outcome:?}"
    );
    assert_eq!(scene.cgroups(), Vec::<String>::new(), "its cgroup is gone");
    File::options()
        .write(true)
        .open(&fifo)
        .unwrap()
        .write_all(b"go\n")
        .unwrap();
    wait::until("the grandchild's answer", || {
        fs::read_to_string(&answer).map_err(|error| error.to_string())
    });
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_killed_hnp_leaves_the_command_connecting_directly() {
    let scene = Scene::new("killed");
    let server = scene.origin("10.77.0.1:80");
    // Fails closed: a program that stayed would refuse, now that nobody listens.
    let config = scene.file("hnp.toml", "[intercept]\nfailure = \"closed\"\n");
    let script = "while read url; do curl -s -o /dev/null $url; echo $?; done";
    let (mut exec, mut lines, mut stdin) =
        scene.talk(&["-q", "--config", &config, "sh", "-c", script]);
    let mut ask = || {
        writeln!(stdin, "http://10.77.0.1/head").unwrap();
        lines.next().unwrap().unwrap()
    };
    assert_eq!(ask(), "0");
    let before = scene.cgroups();
    assert_eq!(before.len(), 1, "{before:?}");
    exec.signal(Signal::SIGKILL);
    assert_eq!(code(exec.ended_within(DEADLINE).unwrap()), 137);
    assert_eq!(ask(), "0", "the command lives, and connects");
    server.await_accepted(2);
    drop(stdin);
    assert!(lines.next().is_none());
    // Its cgroup is swept by whoever comes next.
    wait::until("the command's cgroup to be empty", || {
        let processes = scene.pod.cgroup.join(&before[0]).join("cgroup.procs");
        match fs::read_to_string(processes).unwrap().trim() {
            "" => Ok(()),
            left => Err(left.to_owned()),
        }
    });
    process::run(scene.exec().args(["-q", "true"]), DEADLINE).success();
    assert_eq!(scene.cgroups(), Vec::<String>::new());
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    let scene = Scene::new("unprivileged");
    let words = scene.exec_words();
    let run = |drop: &[&str]| {
        let mut command = scene.pod.command("setpriv");
        command.args(drop).args(&words).arg("true");
        process::run(&mut command, DEADLINE)
    };
    let refused = |drop: &[&str]| {
        let outcome = run(drop);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        outcome.stderr
    };
    let root_by_name = refused(&["--bounding-set=-all", "--inh-caps=-all"]);
    assert!(
        root_by_name.contains(
            "it lacks CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; run it as root, or grant that"
        ),
        "{root_by_name}"
    );
    // It is the verifier that refuses then, with a long log: that would be taken for a fault of the programs. A kernel that was told not to
    // care for speculation lets them (6.12 does, 6.1 does not).
    let untrusted = run(&["--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all"]);
    if untrusted.status.success() {
        let told = fs::read_to_string("/proc/cmdline").unwrap();
        assert!(told.contains("mitigations=off"), "{untrusted:?} {told}");
    } else {
        let said = &untrusted.stderr;
        assert!(
            said.contains("it lacks CAP_PERFMON; run it as root, or grant that"),
            "{said}"
        );
    }
    let nobody = refused(&["--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert!(
        nobody.contains("cannot make a cgroup") && nobody.contains("run hnp as root"),
        "{nobody}"
    );
    assert_eq!(scene.cgroups(), Vec::<String>::new());
}

#[test]
fn three_capabilities_are_enough() {
    let scene = Scene::new("capabilities");
    let server = scene.origin("10.77.0.1:80");
    let mut command = scene.pod.command("setpriv");
    command.args([
        "--bounding-set=-all,+bpf,+net_admin,+perfmon",
        "--inh-caps=-all",
    ]);
    command.args(scene.exec_words()).args([
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "http://10.77.0.1/head",
    ]);
    let outcome = process::run(&mut command, DEADLINE);
    assert!(outcome.success().contains("GET /head"), "{outcome:?}");
    assert!(outcome.stderr.contains("10.77.0.1:80"), "{outcome:?}");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn the_report_goes_to_a_file_or_to_standard_error() {
    let scene = Scene::new("report");
    let _server = scene.origin("10.77.0.1:80");
    let curl = ["curl", "-s", "-o", "/dev/null", "http://10.77.0.1/head"];
    let file = scene.path("report.json");
    let outcome = process::run(
        scene.exec().args(["--json", "--output", &file]).args(curl),
        DEADLINE,
    );
    assert_eq!((outcome.success(), &*outcome.stderr), (String::new(), ""));
    let report = scene::report(&fs::read_to_string(&file).unwrap());
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["command"][0], "curl");
    assert_eq!(report["destinations"][0]["destination"], "10.77.0.1:80");

    let outcome = process::run(scene.exec().arg("--json").args(curl), DEADLINE);
    assert_eq!(
        scene::report(&outcome.stderr)["destinations"][0]["connections"],
        1
    );

    let nowhere = ["--output", "/nonexistent/report", "true"];
    let outcome = process::run(scene.exec().args(nowhere), DEADLINE);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.stderr.contains("cannot write /nonexistent/report"),
        "{outcome:?}"
    );
}

#[test]
fn one_within_another_sees_the_same() {
    let scene = Scene::new("nested");
    let server = scene.origin("10.77.0.1:80");
    let (outer, inner) = (scene.path("outer.json"), scene.path("inner.json"));
    let mut exec = scene.exec();
    exec.args(["--json", "--output", &outer]);
    exec.args(scene.exec_words())
        .args(["--json", "--output", &inner]);
    exec.args(["curl", "-sS", "-f", "http://10.77.0.1/head"]);
    let outcome = process::run(&mut exec, DEADLINE);
    assert!(outcome.success().contains("GET /head"), "{outcome:?}");
    for file in [&inner, &outer] {
        let report = scene::report(&fs::read_to_string(file).unwrap());
        let row = &report["destinations"][0];
        assert_eq!(row["destination"], "10.77.0.1:80", "{file}: {report}");
        assert_eq!(row["connections"], 1, "{file}: {report}");
        assert_eq!(report["destinations"].as_array().unwrap().len(), 1);
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(scene.cgroups(), Vec::<String>::new());
}

impl Scene {
    /// Starts `hnp exec` with these words and talks to its command: a line there, a line back.
    fn talk(
        &self,
        words: &[&str],
    ) -> (
        Process,
        impl Iterator<Item = std::io::Result<String>> + use<>,
        std::process::ChildStdin,
    ) {
        let mut child = self
            .exec()
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Process::new(child), lines, stdin)
    }
}
