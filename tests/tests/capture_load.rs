//! Many pods, many connections: none goes astray, and nothing is left behind, be HNP killed in between. Needs root, cgroup v2 and
//! iproute2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "capture_load/client.rs"]
mod client;
#[path = "capture_load/fleet.rs"]
mod fleet;

use std::time::Duration;

use nix::sys::signal::Signal;

use client::Tally;
use fleet::Fleet;

#[test]
fn twenty_thousand_connections_of_fifty_pods_all_arrive() {
    // Where the machine is emulated, fewer.
    let total =
        std::env::var("HNP_TEST_CONNECTIONS").map_or(20_000, |count| count.parse().unwrap());
    all_arrive("load", 50, total / 50);
}

#[test]
#[ignore = "takes minutes: the same with 200,000"]
fn two_hundred_thousand_connections_of_fifty_pods_all_arrive() {
    all_arrive("full", 50, 4000);
}

fn all_arrive(name: &str, pods: usize, each: usize) {
    let total = pods * each;
    let mut fleet = Fleet::start(name, pods, "closed");
    let before = fleet.descriptors();
    let start = std::time::Instant::now();
    let tallies = fleet.connect(each);
    let took = start.elapsed();
    for tally in &tallies {
        // A wrong answer would be a connection that HNP has taken to another one's destination.
        assert_eq!(*tally, Tally::right(each));
    }
    // Each was redirected, and accepted with its destination: none was missed, none counted twice.
    assert_eq!(fleet.counted("relayed"), total as u64);
    for never in [
        "failed_open",
        "failed_closed",
        "no_memory",
        "not_published",
        "no_rules",
        "bypassed",
        "denied",
    ] {
        assert_eq!(fleet.counted(never), 0, "{never}");
    }
    let metrics = fleet
        .node
        .await_metrics("all connections to end", |metrics| {
            match metrics.require("hnp_connections_active") {
                0.0 => Ok(metrics.clone()),
                open => Err(format!("{open} open")),
            }
        });
    assert_eq!(
        metrics.require("hnp_connections_accepted_total"),
        total as f64
    );
    let missed = metrics.sum_where("hnp_closes_total", &["reason=\"no_destination\""]);
    assert_eq!(missed, 0.0);
    assert_eq!(fleet.kernel().destinations().unwrap().waiting().unwrap(), 0);
    fleet.await_descriptors(&before);
    println!(
        "{total} connections of {pods} pods in {took:.1?}: {:.0} a second",
        total as f64 / took.as_secs_f64()
    );
    fleet.delete_pods();
    fleet.assert_nothing_left();
}

#[test]
fn fail_open_pods_connect_directly_while_hnp_is_dead() {
    let (away, _) = killed_under_load("open");
    assert_eq!(
        (away.refused, away.other, away.wrong),
        (0, 0, 0),
        "{away:?}"
    );
    assert!(away.right > 0);
}

#[test]
fn fail_closed_pods_are_refused_at_once_while_hnp_is_dead() {
    let (away, slowest) = killed_under_load("closed");
    // Each was refused by the call itself, which waits for nothing.
    assert_eq!((away.right, away.other, away.wrong), (0, 0, 0), "{away:?}");
    assert!(away.refused > 0);
    assert!(
        slowest < Duration::from_millis(5),
        "95 of 100 are refused within {slowest:?}"
    );
}

/// What pods saw while HNP was gone: the sum of all, and how long the slowest but one in twenty took.
fn killed_under_load(failure: &str) -> (Tally, Duration) {
    const PODS: usize = 4;
    let mut fleet = Fleet::start(&format!("kill-{failure}"), PODS, failure);
    let mut load = fleet.load();
    load.await_some();
    fleet.node.signal(Signal::SIGKILL);
    fleet.await_death();
    // What was on its way when HNP died is lost, and counts to the first phase.
    let first = load.next();
    assert!(first.right > 0 && first.wrong == 0, "{first:?}");
    load.await_some();
    let away = load.next();
    // Restarted while the pods go on connecting: each connection is treated as before, or as after.
    fleet.restart(failure);
    let between = load.next();
    assert_eq!((between.wrong, between.other), (0, 0), "{between:?}");
    load.await_some();
    let relayed = fleet.counted("relayed");
    load.await_some();
    let last = load.next();
    assert!(fleet.counted("relayed") > relayed, "redirected again");
    assert_eq!(
        (last.wrong, last.other, last.refused),
        (0, 0, 0),
        "{last:?}"
    );
    let slowest = load.end();
    fleet.delete_pods();
    fleet.assert_nothing_left();
    (away, slowest)
}
