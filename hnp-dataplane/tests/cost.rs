//! What `direct` costs a pod, in instructions of the whole machine, the kernel's included.
//!
//! The machine's clock has to count them. `cargo xtask vm cost` runs these tests where it does, on the only processor; anywhere
//! else they fail.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]
#[path = "cost/clock.rs"]
mod clock;
#[path = "cost/figures.rs"]
mod figures;
#[path = "cost/flow.rs"]
mod flow;
#[path = "cost/scene.rs"]
mod scene;

use self::{
    clock::Clock,
    figures::Compared,
    flow::Amount,
    scene::{Scene, Way},
};

/// As programs send files.
const LARGE: Amount = Amount {
    pieces: 256,
    piece: 64 << 10,
};

/// As programs talk. Copying bytes is little of what is done for them.
const SMALL: Amount = Amount {
    pieces: 2048,
    piece: 1 << 10,
};

const PAIRS: usize = 9;

/// By how much a direct flow may differ. Both ends are counted, and half of that is the pod's: to it, this is 2 %.
const TOLERANCE: f64 = 0.01;

#[test]
#[ignore = "counts instructions: `cargo xtask vm cost` has a machine for that"]
fn direct_flows_take_as_many_instructions_as_without_programs() {
    Scene::run(|scene| {
        let clock = Clock::that_counts();
        let ways = [Way::Nothing, Way::Direct];
        let connection = Compared::count(PAIRS, &ways, |way| scene.connection(&clock, *way));
        println!("a connection without a byte, instructions:\n{connection}");
        for amount in [LARGE, SMALL] {
            let flow = Compared::count(PAIRS, &ways, |way| scene.flow(&clock, *way, &amount));
            println!("{amount}, instructions a MiB:\n{flow}");
            let ratio = flow.ratio();
            assert!(
                (ratio.median - 1.0).abs() <= TOLERANCE,
                "direct against nothing, {amount}: {ratio:.5}"
            );
        }
    });
}

#[test]
#[ignore = "counts instructions: `cargo xtask vm cost` has a machine for that"]
fn a_flow_that_takes_more_calls_is_told_apart() {
    const MORE: Amount = Amount {
        pieces: 2160,
        piece: 970,
    };
    Scene::run(|scene| {
        let clock = Clock::that_counts();
        let flow = Compared::count(PAIRS, &[SMALL, MORE], |amount| {
            scene.flow(&clock, Way::Nothing, amount)
        });
        println!("instructions a MiB:\n{flow}");
        assert!(flow.ratio().median > 1.0 + TOLERANCE, "{flow}");
    });
}
