//! The comparison of mutual TLS measures itself: with nobody but its own relay, and with a proxy that is not there.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hnp-bench"))
        .args(["mtls", "--quick", "--rounds", "1"])
        .args(arguments)
        .output()
        .expect("hnp-bench was built with this test")
}

#[test]
fn requests_and_bodies_have_figures_through_the_relay() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let output = bench(&[
        "--scenario",
        "requests/out,bulk/out",
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
    assert_eq!(document["remarks"], Value::Array(Vec::new()));
    for (scenario, metric) in [
        ("requests/out/get", "cpu_micros"),
        ("requests/out/post", "per_second"),
        ("bulk/out/down", "cpu_per_gib"),
        ("bulk/out/up", "gib_per_second"),
    ] {
        let records = document["records"].as_array().unwrap();
        let record = records
            .iter()
            .find(|record| record["scenario"] == scenario)
            .unwrap_or_else(|| panic!("no {scenario}"));
        assert_eq!(record["peer"], "relay");
        let figure = record["figures"][metric].as_f64();
        assert!(figure.is_some_and(|figure| figure > 0.0), "{record}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_a_failure_that_names_it() {
    let output = bench(&["--hnp", "/nowhere/hnp", "--scenario", "handshake/full"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("/nowhere/hnp"), "{said}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("not measured: hnp"), "{table}");
}
