//! `hnp exec` at a terminal, as a shell starts it.

use std::path::Path;
use std::process::Command;

use hnp_tests::{DEADLINE, process};

use crate::scene::Scene;

/// Runs `terminal.py`, which plays the shell at a terminal of its own, in the pod.
fn at_a_terminal(scene: &Scene, act: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/terminal.py");
    let mut command: Command = scene.pod.command("python3");
    command
        .arg("-B")
        .arg(script)
        .arg(act)
        .args(scene.exec_words());
    let outcome = process::run(&mut command, DEADLINE);
    assert_eq!(outcome.success().trim(), "ok", "{outcome:?}");
    assert_eq!(scene.cgroups(), Vec::<String>::new());
}

#[test]
fn a_key_reaches_the_command_once() {
    at_a_terminal(&Scene::new("keys"), "interrupt");
}

#[test]
fn hnp_stops_with_the_command_and_goes_on_with_it() {
    at_a_terminal(&Scene::new("stop"), "stop");
}

#[test]
fn a_command_that_takes_the_terminal_gets_it() {
    at_a_terminal(&Scene::new("shell"), "shell");
}
