//! Known limits, each shown as it is, and what looks like one but is none.

use std::time::Duration;

use hnp_dataplane::redirect::{Counter, NetnsCookie, PodPolicy};

use super::Setup;

#[test]
fn who_has_closed_before_hnp_accepts_is_found_all_the_same() {
    let Some(mut it) = Setup::new("quick") else {
        return;
    };
    // Nobody accepts yet.
    let (listener, _v6) = it.pod.inside.listen().unwrap();
    let port = listener.local_addr().unwrap().port();
    let _attached = it.attach(&[], |policy| {
        *policy = PodPolicy::new(policy.rules, port, port);
    });
    let said = it
        .pod
        .client(&["run 203.0.113.7:443", "run 203.0.113.8:444"]);
    assert_eq!(said, ["gone", "gone"]);
    let mut destinations = it.programs.destinations().unwrap();
    let netns = NetnsCookie::of_socket(&listener).unwrap();
    for expected in ["203.0.113.7:443", "203.0.113.8:444"] {
        let (_, client) = listener.accept().unwrap();
        let found = destinations.take(netns, client).unwrap().unwrap();
        assert_eq!(found.address.to_string(), expected);
        // Once is enough: a later connection from that port must not find it.
        assert_eq!(destinations.take(netns, client).unwrap(), None);
    }
}

#[test]
fn what_hnp_never_accepts_is_swept() {
    let Some(mut it) = Setup::new("swept") else {
        return;
    };
    let (listener, _v6) = it.pod.inside.listen().unwrap();
    let port = listener.local_addr().unwrap().port();
    let _attached = it.attach(&[], |policy| {
        *policy = PodPolicy::new(policy.rules, port, port);
    });
    assert_eq!(it.pod.client(&["run 203.0.113.7:443"]), ["gone"]);
    drop(listener);
    let mut destinations = it.programs.destinations().unwrap();
    assert_eq!(destinations.sweep(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(destinations.waiting().unwrap(), 1);
    assert_eq!(destinations.sweep(Duration::ZERO).unwrap(), 1);
    assert_eq!(destinations.waiting().unwrap(), 0);
}

#[test]
fn one_source_port_serves_one_destination_only() {
    let Some(mut it) = Setup::new("port") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    let said = it
        .pod
        .client(&["same-port 5555 203.0.113.7:443 203.0.113.8:443"]);
    // Without interception both would be made: four numbers tell connections apart, and the third is now always the same.
    assert_eq!(said, ["EADDRNOTAVAIL"]);
}

#[test]
fn a_socket_made_outside_the_cgroup_is_not_captured() {
    let Some(mut it) = Setup::new("outside") else {
        return;
    };
    let _attached = it.attach(&[], |_| {});
    // Nothing is there: it tried to go there by itself.
    assert_eq!(it.pod.client(&["outside 203.0.113.7:443"]), ["ENETUNREACH"]);
    assert_eq!(it.count(Counter::Relayed), 0);
}

#[test]
fn a_connection_from_before_lives_on_as_it_is() {
    let Some(mut it) = Setup::new("before") else {
        return;
    };
    let server = it.pod.server("10.77.0.1:8080");
    let pod = &it.pod;
    std::thread::scope(|scope| {
        let client = scope.spawn(|| pod.client(&["tcp 10.77.0.1:8080"]));
        let (mut stream, _) = server.accept().unwrap();
        let _attached = it
            .programs
            .attach(&pod.cgroup, 1, &it.acceptor.policy(it.rules))
            .unwrap();
        std::io::Write::write_all(&mut stream, b"still here").unwrap();
        drop(stream);
        let said = client.join().unwrap();
        assert!(
            said[0].starts_with("still here 10.77.0.1:8080 "),
            "{said:?}"
        );
    });
    assert_eq!(it.count(Counter::Relayed), 0);
}
