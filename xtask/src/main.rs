//! The project's jobs, one file a verb.
fn main() {}
