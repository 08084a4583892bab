//! Transparent interception: pods whose connections HNP serves without anything being set in them. Needs root, cgroup v2 and
//! iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "intercept/actions.rs"]
mod actions;
#[path = "intercept/fixture.rs"]
mod fixture;
#[path = "intercept/life.rs"]
mod life;
#[path = "intercept/names.rs"]
mod names;
#[path = "intercept/upgrade.rs"]
mod upgrade;

use std::io::{Read, Write};
use std::net::Shutdown;

use fixture::{FAR, Intercepting};

#[test]
fn a_pods_connection_arrives_from_its_own_address() {
    let it = Intercepting::start("relay", "");
    for (address, own) in [(FAR, "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let server = it.serve(address, |mut stream| {
            let peer = stream.peer_addr()?.ip();
            let mut asked = String::new();
            stream.read_to_string(&mut asked)?;
            write!(stream, "{asked} from {peer}")?;
            stream.shutdown(Shutdown::Write)
        });
        let said = it.exchange(server.address(), "hello");
        assert_eq!(said, format!("hello from {own}"));
        let line = it.line(server.address());
        for part in [
            "mode=intercept",
            "process=python3",
            "rule=0",
            "action=relay",
            "decision=allow reason=pod_network",
            "bytes_up=5",
            &format!("bytes_down={} ", said.len()),
            "closed_by=client",
            &format!("pod={} ", it.label()),
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        assert!(
            line.contains(&format!("client={own}:")) || line.contains(&format!("client=[{own}]:")),
            "{line}"
        );
        assert_eq!(server.accepted(), 1);
    }
    let metrics = it.node.metrics();
    let pod = format!("pod=\"{}\"", it.label());
    let served = [&*pod, "action=\"relay\"", "outcome=\"served\""];
    assert_eq!(
        metrics.sum_where("hnp_intercept_connections_total", &served),
        2.0
    );
    let up = [&*pod, "direction=\"up\""];
    assert_eq!(metrics.sum_where("hnp_intercept_bytes_total", &up), 10.0);
    let relayed = [&*pod, "decision=\"relayed\""];
    assert_eq!(
        metrics.sum_where("hnp_intercept_kernel_total", &relayed),
        2.0
    );
    assert_eq!(metrics.sum("hnp_intercept_lookup_misses_total"), 0.0);
}

#[test]
fn a_connection_that_was_not_redirected_is_reset() {
    let it = Intercepting::start("miss", "");
    let pods = it.intercept(&["--list", "--json"]).success();
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    let port = pods[0]["port4"].as_u64().unwrap();
    // HNP's listener, asked by its own address: nobody knows where this was meant to go.
    let said = it.ends_by(&format!("127.0.0.1:{port}"));
    assert_eq!(said, "ConnectionResetError");
    let line = it
        .node
        .log()
        .await_line(&["log=access", "close_reason=no_destination"]);
    assert!(line.contains(&format!("pod {}: ", it.label())), "{line}");
    let metrics = it.node.metrics();
    assert_eq!(metrics.sum("hnp_intercept_lookup_misses_total"), 1.0);
}
