//! The benchmark measures itself: without a proxy, and with one that is not there.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hnp-bench"))
        .args(arguments)
        .output()
        .expect("hnp-bench was built with this test")
}

#[test]
fn every_load_has_figures_without_a_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let scenarios = ["bulk/1/down", "bulk/8/up", "churn", "ping-pong", "stalled"];
    let output = bench(&[
        "tunnel",
        "--quick",
        "--rounds",
        "1",
        "--scenario",
        &scenarios.join(","),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(document["gaps"], Value::Array(Vec::new()));
    assert_eq!(
        document["remarks"],
        Value::Array(Vec::new()),
        "connections were left open"
    );
    let figure = |scenario: &str, metric: &str| {
        let records = document["records"].as_array().unwrap();
        let record = records
            .iter()
            .find(|record| record["scenario"] == scenario)
            .unwrap_or_else(|| panic!("no {scenario}"));
        assert_eq!(record["peer"], "direct");
        record["figures"][metric]
            .as_f64()
            .unwrap_or_else(|| panic!("{scenario} has no {metric}: {record}"))
    };
    for (scenario, metric) in [
        ("bulk/1/down", "gib_per_second"),
        ("bulk/8/up", "gib_per_second"),
        ("churn", "per_second"),
        ("ping-pong/1", "per_second"),
        ("ping-pong/64", "per_second"),
        ("stalled", "taken_per_tunnel"),
    ] {
        assert!(figure(scenario, metric) > 0.0, "{scenario}: {metric}");
    }
    for scenario in ["churn", "ping-pong/1", "ping-pong/64"] {
        let [p50, p99, p999] = ["p50", "p99", "p999"].map(|metric| figure(scenario, metric));
        assert!(
            0.0 < p50 && p50 <= p99 && p99 <= p999,
            "{scenario}: {p50} {p99} {p999}"
        );
    }
}

#[test]
fn a_proxy_that_is_not_there_is_a_failure_that_names_it() {
    let output = bench(&[
        "tunnel",
        "--hnp",
        "/nowhere/hnp",
        "--quick",
        "--rounds",
        "1",
        "--scenario",
        "ping-pong/1",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("/nowhere/hnp"), "{said}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("not measured: hnp"), "{table}");
}

#[test]
fn an_unknown_scenario_is_refused() {
    let output = bench(&["tunnel", "--scenario", "bulk/7"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("bulk/7"));
}
