//! The binary `hnp`.
fn main() {}
