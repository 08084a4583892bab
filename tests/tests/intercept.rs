//! Transparent interception: pods whose connections HNP serves without anything being set in them. Needs root, cgroup v2 and
//! iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "intercept/fixture.rs"]
mod fixture;

use std::io::{Read, Write};
use std::net::Shutdown;

use fixture::{FAR, Intercepting};

#[test]
fn a_pods_connection_arrives_from_its_own_address() {
    let it = Intercepting::start("relay", "");
    let server = it.serve(FAR, |mut stream| {
        let peer = stream.peer_addr()?.ip();
        let mut asked = String::new();
        stream.read_to_string(&mut asked)?;
        write!(stream, "{asked} from {peer}")?;
        stream.shutdown(Shutdown::Write)
    });
    let said = it.exchange(server.address(), "hello");
    assert_eq!(said, "hello from 10.77.0.2");
    let line = it.line(server.address());
    for part in [
        "mode=intercept",
        "process=python3",
        "rule=0",
        "action=relay",
        "decision=allow reason=pod_network",
        "bytes_up=5",
        "bytes_down=20",
        "closed_by=client",
        "client=10.77.0.2:",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(line.contains(&format!("pod={}", it.label())), "{line}");
    assert_eq!(server.accepted(), 1);
}
