//! The project's jobs, one file a verb. `cargo xtask --help` lists them.

mod install;
mod shell;

fn main() {}
