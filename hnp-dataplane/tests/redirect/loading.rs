//! Loading the programs in a process in which other things go on.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use hnp_dataplane::redirect::Programs;

use super::Setup;

#[test]
fn programs_load_while_children_come_and_go() {
    if Setup::new("loading").is_none() {
        return;
    }
    // A child that ends before `posix_spawn()` has put its caller's signals back leaves a SIGCHLD to any other thread, and
    // the verifier breaks off for a thread that has one. Without protection, every third load fails here.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let loads = scope.spawn(|| {
            (0..30)
                .filter_map(|_| Programs::load().err())
                .map(|error| error.to_string().chars().take(200).collect::<String>())
                .collect::<Vec<_>>()
        });
        let failures = loads.join();
        done.store(true, Ordering::Relaxed);
        assert_eq!(failures.unwrap(), Vec::<String>::new());
    });
}
