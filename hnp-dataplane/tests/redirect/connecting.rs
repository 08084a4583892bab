//! However a program connects, it is captured.

use std::{fs, io::Read as _};

use hnp_dataplane::redirect::{Counter, NetnsCookie};

use super::{
    Setup,
    pod::{POD4, POD6, Pod},
};

const WAYS: [&str; 7] = [
    "blocking",
    "nonblocking",
    "io_uring",
    "io_uring-sqpoll",
    "fastopen-sendto",
    "fastopen-connect",
    "again",
];

/// A destination, and what `getpeername()` and `getsockname()` say of it.
fn families() -> [(&'static str, String); 3] {
    [
        (
            "203.0.113.7:443",
            format!("203.0.113.7:443 203.0.113.7:443 {POD4}"),
        ),
        (
            "[2001:db8::7]:8443",
            format!("[2001:db8::7]:8443 [2001:db8::7]:8443 {POD6}"),
        ),
        (
            "[::ffff:203.0.113.9]:80",
            format!("203.0.113.9:80 [::ffff:203.0.113.9]:80 ::ffff:{POD4}"),
        ),
    ]
}

#[test]
fn every_way_of_connecting_is_captured() {
    let Some(mut it) = Setup::new("ways") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    let mut connections = 0;
    for (to, expected) in families() {
        for way in WAYS {
            // What is connected again was an IPv4 socket.
            if way == "again" && to.starts_with('[') {
                continue;
            }
            let said = it.pod.client(&[&format!("way {way} {to}")]);
            assert_eq!(said, [&*expected], "{way} to {to}");
            connections += if way == "again" { 2 } else { 1 };
        }
    }
    assert_eq!(it.count(Counter::Relayed), connections);
    assert_eq!(it.acceptor.missed(), 0);
    assert_eq!(it.programs.destinations().unwrap().waiting().unwrap(), 0);
}

#[test]
fn data_in_the_syn_comes_along() {
    let Some(mut it) = Setup::new("early") else {
        return;
    };
    // Client and listener do without a cookie, so that data goes with the first SYN, and the connection is accepted before
    // it is made.
    it.pod
        .netns
        .run(|| fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543"))
        .unwrap();
    let (v4, v6) = it.pod.inside.listen().unwrap();
    let listeners = [v4, v6.unwrap()];
    let ports = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port());
    let _attached = it.attach(&[], |policy| {
        (policy.port4, policy.port6) = (ports[0], ports[1]);
    });
    let mut destinations = it.programs.destinations().unwrap();
    for way in ["fastopen-sendto", "fastopen-connect"] {
        for (to, expected) in families() {
            let pod = &it.pod;
            std::thread::scope(|scope| {
                let command = format!("way {way} {to}");
                let client = scope.spawn(move || pod.client(&[&command]));
                let mapped = to.starts_with("[::ffff");
                let listener = &listeners[usize::from(to.starts_with('[') && !mapped)];
                let (mut stream, from) = listener.accept().unwrap();
                let netns = NetnsCookie::of_socket(listener).unwrap();
                let found = destinations.take(netns, from).unwrap().unwrap();
                let mut early = [0; 5];
                stream.read_exact(&mut early).unwrap();
                assert_eq!(&early, b"early", "{way} to {to}");
                std::io::Write::write_all(&mut stream, format!("{}\n", found.address).as_bytes())
                    .unwrap();
                drop(stream);
                assert_eq!(client.join().unwrap(), [expected], "{way} to {to}");
            });
        }
    }
    let opened = it.pod.netns.run(|| {
        let counters = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        counter(&counters, "TCPFastOpenPassive")
    });
    assert_eq!(opened, 6, "data came with the SYN");
}

/// A number of `/proc/net/netstat`: a line of names, then one of values.
fn counter(text: &str, name: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .chunks(2)
        .find_map(|pair| {
            let at = pair[0].split(' ').position(|one| one == name)?;
            pair[1].split(' ').nth(at)?.parse().ok()
        })
        .unwrap()
}

#[test]
fn a_socket_used_again_forgets_where_it_was_going() {
    let Some(mut it) = Setup::new("again") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    let inside = it
        .pod
        .netns
        .run(|| std::net::TcpListener::bind("127.0.0.1:8099"))
        .unwrap();
    let said = it.pod.client(&["reconnect 203.0.113.7:443 127.0.0.1:8099"]);
    drop(inside);
    // It says where it is: loopback is left alone.
    assert_eq!(said, ["127.0.0.1:8099 127.0.0.1"]);
    // HNP accepts the first one in its own time; nothing else waits for it.
    it.accepted();
    assert_eq!(it.acceptor.found().len(), 1);
}

#[test]
fn a_process_in_another_namespace_finds_no_listener() {
    let Some(mut it) = Setup::new("elsewhere") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    // A privileged container can leave its pod's namespace, not its cgroup: HNP does not listen there.
    let said = it.pod.client(&["unshared 203.0.113.7:443"]);
    assert!(super::REFUSED.contains(&&*said[0]), "{said:?}");
    assert_eq!(it.count(Counter::FailedClosed), 1);
}

#[test]
fn of_nested_cgroups_the_inner_one_decides() {
    let Some(mut it) = Setup::new("nested") else {
        return;
    };
    let _outer = it.attach(&[], |_| {});
    let container = Pod::of(hnp_tests::pod::Pod::at(&it.pod.cgroup, "inner"));
    let acceptor = container.acceptor(|| it.programs.destinations().unwrap());
    let policy = acceptor.policy(it.rules);
    let _inner = it.programs.attach(&container.cgroup, 2, &policy).unwrap();
    for (to, expected) in families() {
        assert_eq!(container.client(&[&format!("tcp {to}")]), [expected]);
    }
    // The outer one found loopback, and left alone what the inner one had noted.
    assert_eq!(acceptor.found().len(), 3);
    assert!(acceptor.found().iter().all(|one| one.pod == 2));
    assert_eq!(it.count(Counter::Bypassed), 3);
    assert_eq!(it.acceptor.found().len(), 0);
}
