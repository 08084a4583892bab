//! More known limits: what is shared where it would not be without interception.

use std::{fs, net::TcpStream};

use hnp_dataplane::redirect::Counter;

use super::{Setup, pod::POD4};

#[test]
fn mptcp_is_captured_and_sees_loopback() {
    let Some(mut it) = Setup::new("mptcp") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    let listeners = it.acceptor.policy(it.rules);
    let said = it.pod.client(&[
        "way mptcp 203.0.113.7:443",
        "way mptcp [2001:db8::7]:8443",
        "way mptcp [::ffff:203.0.113.9]:80",
    ]);
    if said[0] == "EPROTONOSUPPORT" {
        // The kernel has no such sockets: nothing to capture.
        assert!(!fs::exists("/proc/sys/net/mptcp/enabled").unwrap());
        return;
    }
    // HNP gets the destination: the hooks run for the TCP connection below. Those for names are not asked about it, so
    // that the program sees the address that was put in.
    let (port4, port6) = (listeners.port4, listeners.port6);
    assert_eq!(
        said,
        [
            format!("203.0.113.7:443 127.0.0.1:{port4} 127.0.0.1"),
            format!("[2001:db8::7]:8443 [::1]:{port6} ::1"),
            format!("203.0.113.9:80 [::ffff:127.0.0.1]:{port4} ::ffff:127.0.0.1"),
        ]
    );
    assert_eq!(it.count(Counter::Relayed), 3);
    assert_eq!(it.acceptor.missed(), 0);
}

#[test]
fn source_ports_are_used_up_per_pod() {
    let Some(mut it) = Setup::new("ports") else {
        return;
    };
    it.pod.netns.run(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
    });
    let servers = ["10.77.0.1:8081", "10.77.0.1:8082"].map(|address| it.pod.server(address));
    // Four ports for each destination.
    let to: Vec<&str> = ["10.77.0.1:8081", "10.77.0.1:8082"]
        .into_iter()
        .flat_map(|one| [one; 4])
        .collect();
    let hold = format!("hold {}", to.join(" "));
    assert_eq!(it.pod.client(&[&hold]), ["8"]);
    drop(servers);
    let _attached = it.attach(&[], |_| {});
    // Four for all, now that all go to one. IPv6 has four of its own.
    assert_eq!(it.pod.client(&[&hold]), ["4 then EADDRNOTAVAIL"]);
    let v6 = "hold [2001:db8::1]:1 [2001:db8::2]:2 [2001:db8::3]:3 [2001:db8::4]:4 [2001:db8::5]:5";
    assert_eq!(it.pod.client(&[v6]), ["4 then EADDRNOTAVAIL"]);
    // What could not be made is not waited for.
    it.accepted();
    assert_eq!(it.count(Counter::Relayed), 10);
    assert_eq!(it.acceptor.found().len(), 8);
}

#[test]
fn in_the_hosts_namespace_the_listener_is_everybodys() {
    let Some(mut it) = Setup::new("hostnet") else {
        return;
    };
    // The namespace stands for the host's: the pod has a cgroup, and shares the network with what is not in it.
    let _attached = it.attach(&[], |_| {});
    let expected = [format!("203.0.113.7:443 203.0.113.7:443 {POD4}")];
    assert_eq!(it.pod.client(&["tcp 203.0.113.7:443"]), expected);
    // A process outside the cgroup is not captured, but it reaches the listener. Where that was to go, HNP finds nowhere, and
    // closes: this is why such pods are refused a policy.
    let port = it.acceptor.policy(it.rules).port4;
    let nothing = it.pod.netns.run(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::io::Read::read(&mut stream, &mut [0]).unwrap()
    });
    assert_eq!((nothing, it.acceptor.missed()), (0, 1));
}
